// From a task and its journal to rows of a waterfall: who did what from when to when, with what may be looked at.

const at = (time) => new Date(time).getTime() + Number((time.match(/\.\d{3}(\d{1,3})/)?.[1] ?? "0").padEnd(3, "0")) / 1000;

const dollars = (nanos) => (nanos === null || nanos === undefined ? null : String(nanos / 1e9));

/** Rows in order of their beginning: `{kind, label, depth, from, to, note, error, details: [[title, value]]}`, times in ms. */
export function rowsOf(task, journal, now) {
  const rows = [], open = new Map();
  const begin = at(task.created_at);
  const claimed = task.started_at ? at(task.started_at) : null;
  rows.push({ kind: "queue", label: claimed ? "queued" : "waits for a worker", depth: 0, from: begin, to: claimed ?? (task.finished_at ? at(task.finished_at) : now), details: [["came from", task.source], ["input", task.input]] });
  const start = (key, row) => { rows.push(row); open.set(key, row); };
  const end = (key, more) => { const row = open.get(key); if (row) { Object.assign(row, more, { details: [...row.details, ...(more.details ?? [])] }); open.delete(key); } return row; };
  for (const entry of journal) {
    const { body, scope } = entry, time = at(entry.at);
    const depth = scope === "main" ? 0 : 1;
    const where = scope === "main" ? "" : `${scope.replace(/^step\//, "")} · `;
    const key = (name) => `${scope}/${entry.attempt}/${name}`;
    switch (body.kind) {
      case "model_started":
        start(key(body.call), { kind: "model", label: `${where}${body.model}`, depth, from: time, to: null, details: [["model call", `turn ${body.turn + 1}, ${body.provider}/${body.model}, attempt ${entry.attempt}`]] });
        break;
      case "model_completed": {
        const { usage } = body.reply, took = body.duration_us / 1000;
        const more = { to: Math.max(time, 0), note: `${usage.input_tokens} → ${usage.output_tokens}`, tokens: usage, cost: dollars(body.cost), ttft: body.first_token_us ? body.first_token_us / 1000 : null,
          details: [["answer", body.reply.content], ...(body.reply.tool_calls?.length ? [["tool calls", body.reply.tool_calls]] : [])] };
        const row = end(key(body.call), more);
        if (row) { row.from = Math.min(row.from, row.to - took); row.took = took; }
        break;
      }
      case "model_failed":
        if (!end(key(body.call), { to: time, kind: "bad", error: body.error, details: [["error", body.error]] }))
          rows.push({ kind: "bad", label: `${where}model call`, depth, from: time - body.duration_us / 1000, to: time, error: body.error, details: [["error", body.error]] });
        break;
      case "tool_started":
        start(key(body.call.id), { kind: "tool", label: `${where}${body.call.name}`, depth: depth + 1, from: time, to: null, details: [["arguments", body.call.arguments]] });
        break;
      case "tool_completed":
        end(key(body.call_id), { to: time, took: body.duration_us / 1000, ...(body.is_error ? { kind: "bad" } : {}), details: [[body.is_error ? "tool error" : "returned", body.output]] });
        break;
      case "asked":
        start(`ask/${body.clarification}`, { kind: "wait", label: `${where}asked: ${body.question}`, depth, from: time, to: null, details: [["question", body.question]] });
        break;
      case "answered":
        end(`ask/${body.clarification}`, { to: time, details: [["resolution", body.resolution]] });
        break;
      case "attempt_failed":
        rows.push({ kind: "retry", label: `attempt ${entry.attempt} failed, waits`, depth: 0, from: time, to: at(body.retry_at), error: body.error, details: [["reason", body.error]] });
        break;
      case "plan_accepted":
        rows.push({ kind: "mark", label: `plan of ${body.plan.steps.length} steps`, depth: 0, from: time, to: time, details: [["plan", body.plan]] });
        break;
      case "plan_rejected":
        rows.push({ kind: "bad", label: "plan refused", depth: 0, from: time, to: time, error: { message: body.problems.join("; ") }, details: [["problems", body.problems.join("\n")]] });
        break;
      case "step_completed":
        rows.push({ kind: "mark", label: `${body.step} · done`, depth: 1, from: time, to: time, details: [["output", body.output]] });
        break;
      case "step_failed":
        rows.push({ kind: "bad", label: `${body.step} · failed`, depth: 1, from: time, to: time, error: body.error, details: [["error", body.error]] });
        break;
      case "handed_back":
        rows.push({ kind: "mark", label: "given back: its worker shut down", depth: 0, from: time, to: time, details: [["worker", body.worker]] });
        break;
      case "recovered":
        rows.push({ kind: "bad", label: "its worker died; another goes on", depth: 0, from: time, to: time, details: [["worker", body.worker]] });
        break;
    }
  }
  const last = task.finished_at ? at(task.finished_at) : now;
  for (const row of rows) { row.open = row.to === null; row.to ??= last; row.call = row.took; row.took = row.to - row.from; }
  rows.sort((a, b) => a.from - b.from);
  return { rows, begin, end: Math.max(last, ...rows.map((row) => row.to)) };
}

/** The plan that is carried out, with how each step stands. */
export function planOf(journal, ended) {
  let plan = null, steps = new Map();
  for (const { body, scope } of journal) {
    if (body.kind === "plan_accepted") { plan = body.plan; steps = new Map(plan.steps.map((step) => [step.id, { ...step, state: "queued" }])); }
    const named = steps.get(body.step ?? scope.replace(/^step\//, ""));
    if (!named) continue;
    if (body.kind === "step_completed") named.state = "completed";
    else if (body.kind === "step_failed") named.state = "failed";
    else if (named.state === "queued") named.state = "running";
  }
  if (ended) for (const step of steps.values()) if (step.state === "running" || step.state === "queued") step.state = "cancelled";
  return plan && [...steps.values()];
}
