// Plays a k6 script where there is no k6: every function that its scenarios name runs a few times, for a few users.
// Rates and thresholds are not played; that they name what exists is checked. Ends with a summary like k6's.
//
//   node k6_play.mjs SCRIPTS NAME FOLDER     with URL and other settings in the environment

import assert from 'node:assert/strict';
import { copyFileSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const USERS = 3;
const ROUNDS = 2;
const TIME = /^\d+(ms|s|m|h)$/;
const THRESHOLD = /^(checks|http_req_duration|http_req_failed|dropped_iterations)(?:\{scenario:(\w+)\})?$/;
const LIMIT = /^(rate|count|p\(\d+\))(<|>|<=|>=|==)\d+(\.\d+)?$/;

const [scripts, name, folder] = process.argv.slice(2);
const modules = join(folder, 'node_modules', 'k6');
mkdirSync(modules, { recursive: true });
for (const file of readdirSync(scripts)) copyFileSync(join(scripts, file), join(folder, file));
writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
const exports = { '.': './index.js', './http': './index.js', './crypto': './index.js' };
writeFileSync(join(modules, 'package.json'), JSON.stringify({ type: 'module', exports }));
copyFileSync(new URL('k6_modules.js', import.meta.url), join(modules, 'index.js'));

globalThis.__ENV = process.env;
const { counts } = await import(pathToFileURL(join(modules, 'index.js')));
const script = await import(pathToFileURL(join(folder, name)));

const { scenarios, thresholds } = script.options;
for (const [scenario, plan] of Object.entries(scenarios)) {
  assert.equal(plan.executor, 'constant-arrival-rate', scenario);
  assert.equal(typeof script[plan.exec], 'function', `${scenario} runs ${plan.exec}`);
  assert.ok(plan.rate > 0 && plan.preAllocatedVUs <= plan.maxVUs, scenario);
  assert.match(plan.duration, TIME);
  assert.match(plan.startTime, TIME);
}
for (const [metric, limits] of Object.entries(thresholds)) {
  const named = metric.match(THRESHOLD);
  assert.ok(named && (!named[2] || named[2] in scenarios), `no metric ${metric}`);
  for (const limit of limits) assert.match(limit, LIMIT);
}

for (const { exec } of Object.values(scenarios)) {
  for (globalThis.__ITER = 0; __ITER < ROUNDS; __ITER += 1) {
    for (globalThis.__VU = 1; __VU <= USERS; __VU += 1) script[exec]();
  }
}
const { passes, fails, requests, said } = counts;
if (said.length > 0) console.error(said.join('\n'));
console.log(JSON.stringify({ metrics: { checks: { passes, fails }, http_reqs: { count: requests } } }));
