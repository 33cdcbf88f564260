// What the k6 scripts import from `k6`, `k6/http` and `k6/crypto`, made of Node's own parts. One request at a time, and
// without keeping connections: it shows what a script sends and checks, not how fast.

import { spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';

const REQUEST_MS = 60_000;
// k6 reports a request without an answer as status 0.
const ASK = `
  let text = '';
  for await (const part of process.stdin) text += part;
  const { url, body, headers } = JSON.parse(text);
  let answer = { status: 0, text: '' };
  try {
    const response = await fetch(url, { method: 'POST', body, headers });
    answer = { status: response.status, text: await response.text() };
  } catch (error) {
    answer.text = String(error.cause || error);
  }
  process.stdout.write(JSON.stringify(answer));
`;

export const counts = { passes: 0, fails: 0, requests: 0, said: [] };

export function check(value, checks) {
  for (const [name, holds] of Object.entries(checks)) {
    if (holds(value)) {
      counts.passes += 1;
    } else {
      counts.fails += 1;
      counts.said.push(`${name}: ${value.status} ${value.body.slice(0, 200)}`);
    }
  }
}

function post(url, body, { headers = {} } = {}) {
  const input = JSON.stringify({ url, body, headers });
  const options = { input, encoding: 'utf8', timeout: REQUEST_MS };
  const asked = spawnSync(process.execPath, ['--input-type=module', '-e', ASK], options);
  if (asked.status !== 0) throw new Error(asked.stderr || String(asked.error));
  const { status, text } = JSON.parse(asked.stdout);
  counts.requests += 1;
  return { status, body: text, json: (field) => JSON.parse(text)[field] };
}

function hmac(algorithm, secret, data, encoding) {
  return createHmac(algorithm, secret).update(data).digest(encoding);
}

export default { post, hmac };
