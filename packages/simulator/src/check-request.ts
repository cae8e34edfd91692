import type { MessagesRequest } from './types.ts';

type Fields = Record<string, unknown>;

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isBlock(block: unknown): boolean {
  if (!isObject(block) || typeof block['type'] !== 'string') return false;
  if (block['type'] === 'text') return typeof block['text'] === 'string';
  if (block['type'] === 'tool_use') return typeof block['id'] === 'string' && typeof block['name'] === 'string';
  if (block['type'] !== 'tool_result') return true;
  return typeof block['tool_use_id'] === 'string' && isContent(block['content'] ?? '');
}

function isContent(content: unknown): boolean {
  return typeof content === 'string' || (Array.isArray(content) && content.every(isBlock));
}

function messagesMistake(messages: unknown): string | null {
  if (messages === undefined) return 'messages: Field required';
  if (!Array.isArray(messages)) return 'messages: Input should be a valid list';
  if (messages.length === 0) return 'messages: at least one message is required';
  for (const [index, message] of messages.entries()) {
    if (!isObject(message)) return `messages.${index}: Input should be an object`;
    if (!['user', 'assistant', 'system'].some((role) => role === message['role'])) {
      return `messages.${index}.role: Input should be 'user', 'assistant' or 'system'`;
    }
    if (!isContent(message['content']))
      return `messages.${index}.content: Input should be a string or a list of blocks`;
  }
  return null;
}

function mistake(body: unknown, counting: boolean): string | null {
  if (body === undefined) return 'The request body is not valid JSON';
  if (!isObject(body)) return 'Input should be an object';
  if (typeof body['model'] !== 'string') return 'model: Field required';
  const tokens = body['max_tokens'];
  if (!counting && tokens === undefined) return 'max_tokens: Field required';
  if (tokens !== undefined && !(Number.isInteger(tokens) && Number(tokens) > 0)) {
    return 'max_tokens: Input should be greater than 0';
  }
  const system = body['system'];
  if (system !== undefined && !isContent(system)) return 'system: Input should be a string or a list of blocks';
  const tools = body['tools'];
  if (tools !== undefined) {
    if (!Array.isArray(tools)) return 'tools: Input should be a valid list';
    const nameless = tools.findIndex((tool) => !isObject(tool) || typeof tool['name'] !== 'string');
    if (nameless !== -1) return `tools.${nameless}.name: Field required`;
  }
  const choice = body['tool_choice'];
  if (choice !== undefined && !isObject(choice)) return 'tool_choice: Input should be an object';
  return messagesMistake(body['messages']);
}

/** The request in a parsed body (undefined: it was no JSON), or the sentence that says what is wrong with it. `counting` needs no `max_tokens`. */
export function checkRequest(body: unknown, counting: boolean): MessagesRequest | string {
  return mistake(body, counting) ?? (body as MessagesRequest);
}
