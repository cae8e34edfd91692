/**
 * Every error a client can meet: its code, HTTP status, whether the same request may succeed later unchanged, and the
 * public sentence. Anything that is not in this table leaves the server as `internal`.
 */
export interface CatalogueEntry {
  /** HTTP status of the answer that carries the code. */
  readonly status: number;
  /** True when the same request may succeed later without being changed. */
  readonly retryable: boolean;
  /** What a client may read: what happened and what to do. Never holds a value of the request or of the server. */
  readonly detail: string;
}

const entry = (status: number, retryable: boolean, detail: string): CatalogueEntry => ({ status, retryable, detail });

export const errorCatalogue = {
  invalid_json: entry(400, false, 'The body is not valid JSON in UTF-8. Send one JSON object.'),
  bad_request: entry(400, false, 'The request could not be read. Check its method, headers and body.'),
  bad_message: entry(
    400,
    false,
    'The message is not a JSON object of a known type. See the documentation of WebSocket.',
  ),
  bad_cursor: entry(400, false, 'The cursor is not one this conversation gave out. Start again without it.'),
  unauthenticated: entry(401, false, 'A key is required. Send it as "Authorization: Bearer <key>".'),
  invalid_key: entry(401, false, 'The key is unknown, revoked or expired. Use another key.'),
  budget_exhausted: entry(
    402,
    false,
    'The budget is used up. It is renewed with the next day or month, by UTC, or an admin raises it.',
  ),
  forbidden: entry(403, false, 'This key does not have the right for this request.'),
  origin_not_allowed: entry(403, false, 'This origin may not use the service. Ask the operator to allow it.'),
  stopped: entry(403, false, 'An admin has stopped this. Ask the admin to lift the stop.'),
  beyond_own_rights: entry(403, false, 'A key can give only what it may do itself.'),
  mode_not_allowed: entry(403, false, 'This key may not use the requested permission mode.'),
  tool_not_allowed: entry(403, false, 'This key may not use one of the requested tools.'),
  model_not_allowed: entry(
    403,
    false,
    'This key may not use the requested model. GET /api/claude/models lists those it may.',
  ),
  path_not_allowed: entry(403, false, 'The project path is not inside a directory that this key may use.'),
  workspace_not_accessible: entry(
    403,
    false,
    'The workspace cannot be used by the account that runs Claude Code. Give that account access to the directory.',
  ),
  not_found: entry(404, false, 'There is nothing at this address.'),
  conversation_not_found: entry(404, false, 'There is no such conversation.'),
  key_not_found: entry(404, false, 'There is no such key, or it is configured and not stored.'),
  tenant_not_found: entry(404, false, 'There is no such tenant.'),
  stop_not_found: entry(404, false, 'There is no such stop.'),
  job_not_found: entry(404, false, 'There is no such job.'),
  delivery_not_found: entry(404, false, 'There is no such webhook delivery.'),
  method_not_allowed: entry(405, false, 'This address does not take this method.'),
  request_timeout: entry(408, true, 'The request did not arrive in time. Send it again.'),
  conversation_busy: entry(
    409,
    true,
    'A turn of this conversation is still running. Wait for its end or interrupt it.',
  ),
  conversation_exists: entry(
    409,
    false,
    'There is a conversation with this id already. Continue it or choose another id.',
  ),
  key_exists: entry(409, false, 'The tenant has, or had, a key of this name. Choose another one.'),
  tenant_exists: entry(409, false, 'There is a tenant with this id already. Choose another one.'),
  conversation_ended: entry(
    409,
    false,
    'The conversation has ended. Its history can be read; start a new one to go on.',
  ),
  approval_not_found: entry(404, false, 'There is no such approval.'),
  file_not_found: entry(404, false, 'There is no such file in the workspace of the conversation.'),
  already_decided: entry(409, false, 'The approval is not pending any more. GET it to read what became of it.'),
  idempotency_in_progress: entry(
    409,
    true,
    'The first request under this Idempotency-Key is still running. Ask again after the given number of seconds.',
  ),
  gone: entry(410, false, 'What was asked for is past its retention and has been deleted.'),
  body_too_large: entry(413, false, 'The body is larger than the service accepts. Send a smaller one.'),
  prompt_too_long: entry(413, false, 'The conversation is too long for the model. Start a new one or send less.'),
  too_many_files: entry(413, false, 'The workspace holds more than one archive may. Get its files one by one.'),
  unsupported_media_type: entry(415, false, 'The body must be sent as application/json.'),
  host_not_allowed: entry(421, false, 'The service does not answer under this host name.'),
  validation_failed: entry(422, false, 'A field of the request is missing, unknown or out of bounds.'),
  idempotency_key_reused: entry(
    422,
    false,
    'This Idempotency-Key was used for another request. Use a new key for a new request.',
  ),
  webhook_url_refused: entry(
    422,
    false,
    'Nothing is sent to this webhook address. Use an https address of a host that the internet can reach.',
  ),
  webhook_secret_missing: entry(
    409,
    false,
    'The tenant has no webhook secret to sign with. An admin makes one with POST /api/admin/webhooks/secret.',
  ),
  rate_limited: entry(429, true, 'Too many requests. Wait the given number of seconds.'),
  headers_too_large: entry(431, false, 'The request headers are too large.'),
  internal: entry(500, false, 'Something went wrong in the service. Quote the request id to the operator.'),
  agent_crashed: entry(502, true, 'Claude Code ended unexpectedly. Send the request again.'),
  upstream_error: entry(502, true, 'The model could not be reached or failed. Send the request again later.'),
  upstream_rejected: entry(
    502,
    false,
    'The model provider rejected the request. Quote the request id to the operator.',
  ),
  upstream_model_not_found: entry(502, false, 'The model provider does not know the model. Choose another one.'),
  upstream_refused_credentials: entry(
    503,
    false,
    "The model provider refused the service's credentials. The operator has to renew them.",
  ),
  upstream_rate_limited: entry(503, true, 'The model provider limits the service at the moment. Try again later.'),
  upstream_overloaded: entry(503, true, 'The model provider is overloaded. Try again later.'),
  overloaded: entry(503, true, 'All places are taken. Try again after the given number of seconds.'),
  not_ready: entry(503, true, 'The service is starting, stopping or cannot work at the moment. Try again later.'),
  isolation_unavailable: entry(
    503,
    false,
    'The jail that Claude Code runs in cannot be started. The operator has to repair it.',
  ),
  upstream_timeout: entry(504, true, 'The model did not answer in time. Try again later.'),
  storage_full: entry(507, true, 'The service cannot store more at the moment. Try again later.'),
} as const satisfies Record<string, CatalogueEntry>;

/** A code of the catalogue. */
export type ErrorCode = keyof typeof errorCatalogue;

/** All codes, in the order of the catalogue. */
export const errorCodes = Object.keys(errorCatalogue) as ErrorCode[];

/** True when the text is a code of the catalogue. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(errorCatalogue, text);
}
