//! One history: lives of the orchestrator over one store. The same seed is the same history.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use agentry_core::journal::JournalBody;
use serde_json::{Value, json};

use crate::checks;
use crate::life::{End, live};
use crate::records::Records;
use crate::stage::Stage;

/// Number of lives of a history; the last one ends when everything has ended.
const LIVES: u64 = 5;

/// Precedes the names of violated invariants in the output of a history.
pub const BROKEN: &str = "this history broke invariants:";

/// The result of a history in which every invariant held.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// Number of injections of each fault.
    pub faults: BTreeMap<String, u64>,
    /// Hash of everything that the store knows in the end.
    pub digest: u64,
}

impl Report {
    pub fn to_json(&self) -> Value {
        json!({"faults": self.faults, "digest": self.digest})
    }

    pub fn from_json(value: &Value) -> Option<Self> {
        let counts = value["faults"].as_object()?.iter();
        let faults = counts.map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect::<Option<_>>()?;
        Some(Self { faults, digest: value["digest"].as_u64()? })
    }
}

/// Runs the history of a seed.
///
/// # Panics
/// Panics if an invariant does not hold.
pub fn run(seed: u64) -> Report {
    let stage = Stage::new(seed);
    for life in 1..=LIVES {
        let end = if life == LIVES { End::LiveOn } else { End::roll(&stage.dice) };
        live(&stage, end);
        // Between two lives time passes, or a time server sets the clock back by a second.
        stage.clock.step(i64::try_from(stage.dice.below(20_000_000)).unwrap_or(0) - 1_000_000);
    }
    let records = checks::all(&stage);
    let violations = stage.violations();
    assert!(violations.is_empty(), "{BROKEN}\n{}", violations.join("\n"));
    Report { faults: faults(&stage, &records), digest: digest(&stage, &records) }
}

fn faults(stage: &Stage, records: &Records) -> BTreeMap<String, u64> {
    let mut faults = stage.faulty.counts();
    faults.extend(stage.counts.all());
    faults.extend(stage.tools.counts.all());
    faults.insert("calls.killed".to_owned(), stage.killed_calls().len() as u64);
    let entries = records.tasks.iter().flat_map(|record| records.journal(record.task.id));
    let recovered = entries.filter(|entry| matches!(entry.body, JournalBody::Recovered { .. })).count();
    faults.insert("tasks.recovered".to_owned(), recovered as u64);
    for record in &records.tasks {
        let ends = record.outcome.as_ref().map_or_else(
            || "open".to_owned(),
            |outcome| match &outcome.error {
                Some(error) => error.code.to_string(),
                None => outcome.status.to_string(),
            },
        );
        *faults.entry(format!("end.{ends}")).or_default() += 1;
    }
    faults
}

fn digest(stage: &Stage, records: &Records) -> u64 {
    // Unlike a hash map's, its keys are the same in every process.
    let mut hasher = DefaultHasher::new();
    for record in &records.tasks {
        format!("{record:?}").hash(&mut hasher);
        format!("{:?}", records.journal(record.task.id)).hash(&mut hasher);
        format!("{:?}", records.ledger(record.task.id)).hash(&mut hasher);
    }
    // Includes the number of dice rolls.
    stage.dice.bits().hash(&mut hasher);
    hasher.finish()
}
