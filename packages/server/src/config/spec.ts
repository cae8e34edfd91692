import { secret, type Kind } from './kinds.ts';

/** One setting. Its key is its name in the config file, and in kebab case its flag. */
export interface SettingSpec<T = unknown, D extends string | null = string | null> extends Kind<T> {
  /** Environment variable. */
  readonly variable: string;
  /** As it would be written; null when it depends on other things, which `defaultText` tells. */
  readonly default: D;
  readonly defaultText?: string;
  /** One sentence: what it is. */
  readonly text: string;
  /** Never shown, never a flag; may also be given as a file that `<variable>_FILE` names. */
  readonly secret: boolean;
}

/** A setting that may be shown. */
export function setting<T, D extends string | null>(
  kind: Kind<T>,
  spec: Pick<SettingSpec<T, D>, 'variable' | 'default' | 'defaultText' | 'text'>,
): SettingSpec<T, D> {
  return { ...kind, ...spec, secret: false };
}

/** A setting of at least `minimum` characters that is never shown. */
export const secretSetting = (variable: string, minimum: number, text: string): SettingSpec<string, null> => ({
  ...secret(minimum),
  variable,
  default: null,
  defaultText: 'not set',
  text,
  secret: true,
});
