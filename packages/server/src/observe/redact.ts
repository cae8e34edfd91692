const redacted = '[redacted]';

/** Ends of the names of fields that hold secrets. `tokens` is none of them: those are counted. */
const secretName = /(keys?|secrets?|token|passwords?|passphrase|credentials?|authorization|cookies?)$/i;

/** Secrets that show themselves by their form, as those nobody configured. */
const secretForms = /\b(?:Bearer|Basic) +[\w.~+/=-]{8,}|\bsk-ant-[\w-]{8,}|\bsallyport_[\w-]{20,}/gi;

/** Takes secrets out of plain JSON data: by the name of a field, by the form of a text, and those that are given. */
export function createRedactor(secrets: readonly string[]): (value: unknown) => unknown {
  const exact = new Set(secrets);
  // A very short one would take letters out of every line; it is found only where it stands alone.
  const parts = [...new Set(secrets.filter((secret) => secret.length >= 8).flatMap(spellings))].sort(
    (a, b) => b.length - a.length,
  );
  const scrub = (text: string): string => {
    if (exact.has(text)) return redacted;
    const rest = parts.reduce((clean, part) => clean.replaceAll(part, redacted), text);
    return rest.replace(secretForms, redacted);
  };
  const clean = (value: unknown): unknown => {
    if (typeof value === 'string') return scrub(value);
    if (typeof value !== 'object' || value === null) return value;
    if (Array.isArray(value)) return value.map(clean);
    return Object.fromEntries(
      Object.entries(value).map(([name, field]) => [scrub(name), isSecretField(name, field) ? redacted : clean(field)]),
    );
  };
  return clean;
}

const isSecretField = (name: string, field: unknown) =>
  (typeof field === 'string' || (typeof field === 'object' && field !== null)) && secretName.test(name);

/** A secret as it may stand in a text: as it is, inside JSON, inside an address. */
const spellings = (secret: string): string[] => [
  secret,
  JSON.stringify(secret).slice(1, -1),
  encodeURIComponent(secret),
];
