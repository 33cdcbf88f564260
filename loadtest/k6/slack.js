// Signed mentions, three per second. See ../README.md.

import http from 'k6/http';
import crypto from 'k6/crypto';
import { check } from 'k6';
import { URL, openLoop } from './common.js';

const secret = __ENV.SLACK_SIGNING_SECRET || '';

export const options = {
  scenarios: { events: openLoop('message', 3, __ENV.DURATION || '1m') },
  thresholds: { checks: ['rate>0.99'], http_req_duration: ['p(99)<1000'], dropped_iterations: ['count==0'] },
};

export function message() {
  const now = Math.floor(Date.now() / 1000);
  // A post is known by its channel and `ts`, so both tell users and rounds apart; answers are paced by channel.
  const round = String(__ITER).padStart(6, '0');
  const text = JSON.stringify({
    type: 'event_callback',
    event_id: `Ev${__VU}-${__ITER}-${now}`,
    team_id: 'T0001',
    event: {
      type: 'app_mention',
      channel: `C000${__VU}`,
      user: 'U0001',
      text: '<@U0BOT> hello',
      ts: `${now}.${round}`,
    },
  });
  const signature = crypto.hmac('sha256', secret, `v0:${now}:${text}`, 'hex');
  const headers = {
    'content-type': 'application/json',
    'x-slack-request-timestamp': `${now}`,
    'x-slack-signature': `v0=${signature}`,
  };
  const response = http.post(`${URL}/slack/events`, text, { headers });
  check(response, { acknowledged: (r) => r.status === 200 });
}
