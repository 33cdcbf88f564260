//! What can be broken.

/// The variable that names a mutant. Its name begins otherwise than those of settings, which the validation suite keeps from
/// the processes that it starts.
const VARIABLE: &str = "MUTANT";

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// Tasks are acknowledged before they are durable.
    AckBeforeCommit,
    /// Idempotency keys and ids of events are not looked at.
    NoDedupe,
    /// What must leave is taken from the outbox and thrown away.
    DropOutbox,
    /// Costs go through single-precision dollars.
    FloatCost,
    /// An interval counts from the last run instead of the clock.
    IntervalFromLastRun,
    /// A worker that lost a task goes on with it.
    NoFencing,
    /// Sessions are read from a cache that nobody tells of writes.
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

    /// The one that the environment names, if any.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn of_environment() -> Result<Option<Self>, String> {
        let Some(name) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let known = || Self::ALL.map(|(name, _)| name).join(", ");
        let found = Self::ALL.iter().find(|(known, _)| name == *known).map(|(_, mutant)| Some(*mutant));
        found.ok_or_else(|| format!("{VARIABLE}={} is no mutant: choose one of {}", name.display(), known()))
    }
}
