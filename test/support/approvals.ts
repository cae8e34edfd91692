import assert from 'node:assert/strict';
import { until } from './runs.ts';
import { userKey } from './service.ts';

/** Where a service answers, now: it may be another one after a restart. */
interface Service {
  readonly url: string;
}

/** Asks the service and gives status and body. */
export async function call(service: Service, method: string, path: string, body?: unknown, key = userKey) {
  const response = await fetch(`${service.url}/api/claude/${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: (await response.json()) as Record<string, any> };
}

/** The approval that is pending in a conversation, as soon as there is one. */
export async function pendingIn(service: Service, conversation: string): Promise<Record<string, any>> {
  let found: Record<string, any> | undefined;
  await until(async () => {
    const { body } = await call(service, 'GET', 'approvals?status=pending');
    found = (body['items'] as Record<string, any>[]).find((item) => item['session_id'] === conversation);
    return found !== undefined;
  });
  return found ?? {};
}

/** Decides an approval, which must work. */
export async function decide(service: Service, approval: Record<string, any>, decision: unknown): Promise<void> {
  const { status, body } = await call(service, 'POST', `approvals/${approval['approval_id']}`, decision);
  assert.equal(status, 200, JSON.stringify(body));
}

/** Waits until no turn of the conversation runs or waits, and gives its log as the events of its stream. */
export async function logAtRest(service: Service, conversation: string): Promise<Record<string, any>[]> {
  await until(async () => {
    const { body } = await call(service, 'GET', `conversation/${conversation}/info`);
    return body['status'] === 'idle';
  });
  return await logOf(service, conversation);
}

/** All events of a conversation so far. */
export async function logOf(service: Service, conversation: string): Promise<Record<string, any>[]> {
  const response = await fetch(`${service.url}/api/claude/conversation/${conversation}/events?follow=false`, {
    headers: { authorization: `Bearer ${userKey}` },
  });
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return [...text.matchAll(/^data: (\{.*)$/gmu)].map(([, data = '']) => JSON.parse(data) as Record<string, any>);
}
