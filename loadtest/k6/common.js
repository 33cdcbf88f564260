// What the k6 scripts share.

export const URL = __ENV.URL || 'http://127.0.0.1:8080';
export const JSON_HEADERS = { 'content-type': 'application/json' };
export const agents = {
  autonomous: __ENV.AUTONOMOUS || 'triage',
  continuous: __ENV.CONTINUOUS || 'support',
  collaborative: __ENV.COLLABORATIVE || 'research-team',
};

// An open loop: requests start at their rate while there are users for them; `dropped_iterations` must stay 0, because
// what was not sent is in no percentile.
export function openLoop(exec, rate, duration, startTime) {
  return {
    executor: 'constant-arrival-rate',
    exec,
    rate,
    timeUnit: '1s',
    duration,
    startTime: startTime || '0s',
    preAllocatedVUs: Math.max(20, rate),
    maxVUs: Math.max(200, rate * 10),
  };
}
