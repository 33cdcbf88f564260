//! The mutants.

/// Variable that names a mutant. Its prefix differs from that of settings, which the validation suite removes from the
/// environment of the processes that it starts.
const VARIABLE: &str = "MUTANT";

/// A broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Tasks are acknowledged before they are durable.
    AckBeforeCommit,
    /// Idempotency keys and event ids are ignored.
    NoDedupe,
    /// Outbox messages are claimed and discarded.
    DropOutbox,
    /// Costs pass through single-precision dollars.
    FloatCost,
    /// An interval counts from the last run instead of the clock.
    IntervalFromLastRun,
    /// A worker that lost a task continues it.
    NoFencing,
    /// Sessions are read from a cache without invalidation.
    UnversionedCache,
}

impl Mutant {
    const ALL: [(&str, Self); 7] = [
        ("ack-before-commit", Self::AckBeforeCommit),
        ("no-dedupe", Self::NoDedupe),
        ("drop-outbox", Self::DropOutbox),
        ("float-cost", Self::FloatCost),
        ("interval-from-last-run", Self::IntervalFromLastRun),
        ("no-fencing", Self::NoFencing),
        ("unversioned-cache", Self::UnversionedCache),
    ];

    /// Returns the mutant that the environment names, if any.
    ///
    /// # Errors
    /// There is no mutant of that name.
    pub fn of_environment() -> Result<Option<Self>, String> {
        let Some(name) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let known = || Self::ALL.map(|(name, _)| name).join(", ");
        let found = Self::ALL.iter().find(|(known, _)| name == *known).map(|(_, mutant)| Some(*mutant));
        found.ok_or_else(|| format!("{VARIABLE}={} is no mutant: choose one of {}", name.display(), known()))
    }
}
