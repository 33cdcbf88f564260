// 210 events per second of four kinds, then 500. See ../README.md.

import http from 'k6/http';
import { check } from 'k6';
import { URL, JSON_HEADERS, openLoop } from './common.js';

const streams = [
  ['slack.event.message', 100],
  ['task.submission.new', 50],
  ['agent.result.done', 50],
  ['schedule.task.due', 10],
];
const pad = 'x'.repeat(900);

export const options = {
  scenarios: {
    peak: openLoop('publish', 210, __ENV.PEAK || '1m'),
    burst: openLoop('publish', 500, __ENV.BURST || '1m', __ENV.PEAK || '1m'),
  },
  thresholds: {
    checks: ['rate>0.99'],
    'http_req_duration{scenario:peak}': ['p(95)<100'],
    dropped_iterations: ['count==0'],
  },
};

export function publish() {
  let draw = Math.random() * 210;
  const [topic] = streams.find(([, rate]) => (draw -= rate) < 0) || streams[0];
  const body = JSON.stringify({ topic, source: 'k6', data: { pad } });
  const response = http.post(`${URL}/v1/events`, body, { headers: JSON_HEADERS, tags: { name: topic } });
  check(response, { durable: (r) => r.status === 202 });
}
