//! The rules: which criterion, which evidence, which hint, what to do.

/// A target that may be missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdviceRule {
    pub id: &'static str,
    /// Condition, for a reader.
    pub when: &'static str,
    /// The criteria whose miss starts it.
    pub criteria: &'static [&'static str],
    /// Whether a machine at its limit is the better explanation.
    pub yields_to_machine: bool,
}

/// One possible cause, and the metric that shows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cause {
    /// The rule it belongs to.
    pub rule: &'static str,
    /// Its name within the rule.
    pub id: &'static str,
    pub metric: &'static str,
    /// It speaks above this.
    pub above: f64,
    /// Unit of the same.
    pub unit: &'static str,
    /// A second metric that must be above its own limit.
    pub and: Option<(&'static str, f64)>,
    /// The hint in the words of the optimisation table, or what stands in where it has none.
    pub hint: &'static str,
    /// Remedy in this platform.
    pub action: &'static str,
}

const fn rule(
    id: &'static str,
    when: &'static str,
    criteria: &'static [&'static str],
    yields_to_machine: bool,
) -> AdviceRule {
    AdviceRule { id, when, criteria, yields_to_machine }
}

/// All rules, in the order of the report.
pub const RULES: &[AdviceRule] = &[
    rule("startup", "Start-up over 5 s with 20 agents", &["1.1/startup-20", "1.1/startup-30", "1.1/startup-50"], false),
    rule("throughput", "Under 100 tasks/s", &["tier/throughput-100", "tier/throughput-500", "1.2/autonomous"], true),
    rule("memory", "Over 50 MB for each agent", &["4.1/per-agent", "4.1/per-agent-30", "1.1/memory-linear"], false),
    rule("hit-rate", "Cache hit rate under 90 %", &["2.1/hit-rate", "2.1/hit-rate-95"], false),
    rule("save", "A save takes over 100 ms (p95)", &["2.2/save-p95", "2.2/no-blocking", "2.2/stall"], true),
    rule("queue", "A queue builds up", &["3.1/no-buildup", "3.1/sustained", "3.1/burst"], true),
    rule("delivery", "Delivery takes over 100 ms (p95)", &["3.1/delivery-p95"], true),
    rule("llm", "The platform adds over 20 ms to a model call", &["5.1/overhead", "5.2/no-degradation"], true),
    rule("leak", "Memory grows over time", &["4.1/leak", "phase/resources"], false),
    rule("idle-cpu", "Over 5 % of the processors while idle", &["4.2/idle", "stretch/idle-cpu"], false),
    rule("scheduler", "Slots start late", &["6.2/drift", "6.2/drift-slope"], true),
    rule("recovery", "Recovery takes over 60 s", &["3.2/recovery", "stretch/recovery-process"], false),
];

const fn cause(
    rule: &'static str,
    id: &'static str,
    (metric, above, unit): (&'static str, f64, &'static str),
    hint: &'static str,
    action: &'static str,
) -> Cause {
    Cause { rule, id, metric, above, unit, and: None, hint, action }
}

const fn with(cause: Cause, and: (&'static str, f64)) -> Cause {
    Cause { and: Some(and), ..cause }
}

/// All causes, by rule.
#[rustfmt::skip]
pub const CAUSES: &[Cause] = &[
    cause("startup", "parallel-init", ("startup.init_share", 50.0, "%"), "Parallel agent initialization",
        "More than half of the critical path prepares one agent after the other: look for what waits on a server inside that loop."),
    cause("startup", "lazy-loading", ("startup.resource_share", 20.0, "%"), "Lazy loading of agent resources",
        "Load tools and templates at the first task; watch startup.first_task, which pays for it."),
    cause("startup", "pre-warm", ("startup.connect_share", 20.0, "%"), "Connection pool pre-warming",
        "Raise --postgres-connections with care, or place the servers nearer: connecting and authenticating dominates."),
    cause("startup", "config-cache", ("startup.parse_share", 20.0, "%"), "Configuration caching",
        "Split very large agent files, and keep prompts that are shared in one place."),
    with(cause("throughput", "worker-processes", ("worker.busy", 90.0, "%"), "Increase worker processes",
        "Start more processes with --role worker, or raise --slots: workers are busy while processors idle."), ("cpu.idle_elsewhere", 20.0)),
    cause("throughput", "statement", ("db.slowest_statement_share", 30.0, "%"), "Optimize database queries",
        "One statement is a third of the critical path: see pg_stat_statements in the raw data, and its plan."),
    cause("throughput", "locks", ("db.lock_wait_share", 5.0, "%"), "Optimize database queries",
        "Tasks wait for locks: spread them over sessions, or look for a long transaction of another program."),
    cause("throughput", "repeated-reads", ("db.repeated_read_share", 50.0, "%"), "Add Redis caching layers",
        "Set AGENTRY_REDIS_URL: half of all statements read the same rows again."),
    cause("throughput", "batch-publish", ("bus.confirm_wait_share", 20.0, "%"), "Batch event publishing",
        "Publishers wait for confirms: use POST /v1/tasks/batch, and check the disk of the broker."),
    cause("memory", "history", ("mem.history_share", 30.0, "%"), "Conversation history pruning",
        "Lower continuous_config.max_conversation_history, or prune by summarize."),
    cause("memory", "compression", ("mem.blob_zstd_ratio", 3.0, ""), "State compression",
        "Stored state shrinks to a third: keep large attachments out of sessions."),
    cause("memory", "pools", ("mem.clients_per_agent", 1.0, ""), "Shared resource pools",
        "An agent holds a client of its own: give agents of one provider the same base_url and timeout, so that they share one."),
    cause("memory", "allocator", ("mem.allocator_slack", 30.0, "%"), "Garbage collection tuning",
        "Rust has no collector; the allocator holds pages that nobody uses: set MIMALLOC_PURGE_DELAY=0 and measure again."),
    cause("hit-rate", "evictions", ("cache.evictions", 0.0, "1/s"), "Add Redis caching layers",
        "The cache is full: raise maxmemory, the working set does not fit."),
    cause("hit-rate", "expiries", ("cache.expiries", 1.0, "1/s"), "Add Redis caching layers",
        "Keys expire before they are read again: raise the time to live."),
    cause("save", "statement", ("db.save_statement_p95", 50.0, "ms"), "Optimize database queries",
        "The statement itself is slow: look at fdatasync of the machine above, and at checkpoints."),
    cause("save", "blob", ("state.blob_p95", 256.0, "KiB"), "State compression",
        "States are large: lower max_conversation_history."),
    cause("save", "pool", ("db.acquire_p99", 20.0, "ms"), "Connection pool pre-warming",
        "Saves wait for a connection: raise --postgres-connections."),
    cause("queue", "workers", ("worker.busy", 90.0, "%"), "Increase worker processes",
        "Consumers are busy: start more processes, or raise --slots."),
    with(cause("delivery", "prefetch", ("bus.unacked_share", 80.0, "%"), "Batch event publishing",
        "Most messages are out with consumers while processors idle: more consumers, each with a smaller prefetch."), ("cpu.idle_elsewhere", 50.0)),
    cause("delivery", "confirms", ("bus.confirm_p95", 50.0, "ms"), "Batch event publishing",
        "The broker confirms slowly: its disk decides, see fdatasync of the machine."),
    cause("llm", "connect", ("llm.connect_share", 20.0, "%"), "Connection pool pre-warming",
        "Calls open connections of their own: check that a proxy in between keeps them alive."),
    cause("leak", "history", ("mem.history_growth_share", 50.0, "%"), "Conversation history pruning",
        "Histories are what grows: lower max_conversation_history and idle_timeout_seconds."),
    cause("idle-cpu", "polling", ("cpu.wakeups", 500.0, "1/s"), "none; polling",
        "Something polls: compare wakeups by thread in the raw data."),
    cause("scheduler", "stall", ("runtime.stall_p999", 50.0, "ms"), "none; executor stalls",
        "The executor stalls: look for tools that block, and for a machine that is too small."),
    cause("scheduler", "anchor", ("schedule.drift", 10.0, "ms/h"), "none; anchor",
        "Lateness grows steadily, which is a defect of the anchor and not of the load: report it with the raw data."),
    cause("recovery", "detect", ("recovery.detect", 20.0, "s"), "none; heartbeat",
        "Death is seen late: keep the heartbeat of the bus at 15 s or less, and check keepalives of a proxy in between."),
    cause("recovery", "backoff", ("recovery.backoff", 10.0, "s"), "none; backoff cap",
        "Reconnecting waits too long: lower the cap of the backoff."),
    cause("recovery", "supervisor", ("recovery.restart", 10.0, "s"), "none; supervisor delay",
        "The supervisor restarts late: lower its delay (RestartSec, restart policy)."),
];
