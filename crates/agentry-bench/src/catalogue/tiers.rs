//! The verdict tables. Rows marked † come from a section's acceptance list, not from the two tables themselves.

use super::TierSpec;

const fn row(
    id: &'static str,
    label: &'static str,
    target: &'static str,
    critical: bool,
    criteria: &'static [&'static str],
) -> TierSpec {
    TierSpec { id, label, target, dagger: false, critical, criteria }
}

const fn dagger(
    id: &'static str,
    label: &'static str,
    target: &'static str,
    criteria: &'static [&'static str],
) -> TierSpec {
    TierSpec { id, label, target, dagger: true, critical: true, criteria }
}

const LEAK: TierSpec = dagger("leak", "Memory leak", "none over 24 hours", &["4.1/leak"]);
const BUS: TierSpec = dagger(
    "bus",
    "Event bus",
    "200 msgs/sec, burst 500, <100ms (p95), no queue buildup",
    &["3.1/sustained", "3.1/burst", "3.1/delivery-p95", "3.1/no-buildup"],
);
const RECOVERY: TierSpec = dagger("recovery", "Recovery", "<60 seconds", &["3.2/recovery"]);
const SCHEDULER: TierSpec = dagger(
    "scheduler",
    "Scheduler",
    "<1 second, 0% missed, 0% duplicates",
    &["6.2/drift", "6.2/missed", "6.2/duplicates"],
);

/// Minimum Viable Performance: every row is critical.
pub const MIN_VIABLE: &[TierSpec] = &[
    row("agents", "Agent Count", "20+", true, &["tier/agents-20"]),
    row("startup", "Startup Time", "<5s for 20 agents", true, &["1.1/startup-20"]),
    row("throughput", "Task Throughput", "100 tasks/sec", true, &["tier/throughput-100"]),
    row("latency", "End-to-End Latency", "<3s (p95)", true, &["6.1/simple-p95"]),
    row("uptime", "Uptime", "99.9%", true, &["tier/uptime"]),
    row("data-loss", "Data Loss", "0%", true, &["3.2/loss"]),
    dagger("hit-rate", "Cache Hit Rate", ">90%", &["2.1/hit-rate"]),
    dagger("memory", "Memory per Agent", "<50MB", &["4.1/per-agent"]),
    LEAK,
    BUS,
    RECOVERY,
    SCHEDULER,
];

/// Production-Ready Performance: the rows of its table are nice to have.
pub const PRODUCTION_READY: &[TierSpec] = &[
    row("agents", "Agent Count", "50+", false, &["tier/agents-50"]),
    row("startup", "Startup Time", "<10s for 50 agents", false, &["1.1/startup-50"]),
    row("throughput", "Task Throughput", "500 tasks/sec", false, &["tier/throughput-500"]),
    dagger("latency", "End-to-End Latency", "<3s, complex <10s (p95)", &["6.1/simple-p95", "6.1/complex-p95"]),
    dagger("uptime", "Uptime", "99.9%", &["tier/uptime"]),
    dagger("data-loss", "Data Loss", "0%", &["3.2/loss"]),
    row("hit-rate", "Cache Hit Rate", ">95%", false, &["2.1/hit-rate-95"]),
    row("memory", "Memory per Agent", "<30MB", false, &["4.1/per-agent-30"]),
    LEAK,
    BUS,
    RECOVERY,
    SCHEDULER,
];
