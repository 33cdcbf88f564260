// Tasks of three modes at their target rates, each waited for. See ../README.md.

import http from 'k6/http';
import { check } from 'k6';
import { URL, JSON_HEADERS, agents, openLoop } from './common.js';

const duration = __ENV.DURATION || '1m';

export const options = {
  scenarios: {
    autonomous: openLoop('autonomous', 20, duration),
    continuous: openLoop('continuous', 10, duration),
    collaborative: openLoop('collaborative', 5, duration),
  },
  thresholds: {
    checks: ['rate>0.99'],
    http_req_failed: ['rate<0.01'],
    dropped_iterations: ['count==0'],
  },
};

function ask(agent, input, session) {
  const body = JSON.stringify({ agent, input, ...(session ? { session } : {}) });
  const response = http.post(`${URL}/v1/tasks?wait=30`, body, { headers: JSON_HEADERS, tags: { name: agent } });
  check(response, { completed: (r) => r.status === 200 && r.json('status') === 'completed' });
}

export function autonomous() {
  ask(agents.autonomous, 'My refund has not arrived');
}

export function continuous() {
  // A conversation for each user: order is kept within it.
  ask(agents.continuous, 'Where is my order?', `k6-${__VU}`);
}

export function collaborative() {
  ask(agents.collaborative, 'Compare two suppliers');
}
