//! The scenarios and every acceptance criterion, as data. `bench list`, the report and the verdict tables are all made
//! from this one place, so a criterion cannot be worded one way and judged another.

mod criteria;
mod nemesis;
mod scenarios;
mod stretch;
mod tiers;

pub use criteria::CRITERIA;
pub use nemesis::Nemesis;
pub use scenarios::SCENARIOS;
pub use stretch::STRETCH;
pub use tiers::{MIN_VIABLE, PRODUCTION_READY};

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{Engine, Phase, Profile};

/// One of the thirteen scenarios, or a test that belongs to a phase or to stretch rows alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Name on the command line: `3.1-throughput`.
    pub id: &'static str,
    pub title: &'static str,
    /// Its target in one sentence, verbatim where it has one.
    pub target: &'static str,
    pub measures: &'static [&'static str],
    pub how: &'static str,
    /// The phases it is part of.
    pub phases: &'static [Phase],
    /// Measured seconds under `quick`, `ci`, `standard`, `full`; 0 is not run there.
    pub seconds: [u32; 4],
}

/// The table a criterion belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Acceptance criterion of a section.
    Section,
    /// Minimum Viable Performance.
    MinViable,
    /// Production-Ready Performance.
    ProductionReady,
    /// An order of magnitude ahead.
    Stretch,
    /// A check that the suite adds so that another criterion means something.
    Added,
}

/// Comparison of observed and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Below the target.
    Lt,
    /// At or below.
    Le,
    /// Above.
    Gt,
    /// At or above.
    Ge,
    /// Exactly the target.
    Eq,
    /// Within plus or minus the target around zero.
    Within,
}

impl Op {
    pub fn sign(self) -> &'static str {
        match self {
            Self::Lt => "<",
            Self::Le => "≤",
            Self::Gt => ">",
            Self::Ge => "≥",
            Self::Eq => "=",
            Self::Within => "±",
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sign())
    }
}

/// Rule that makes a verdict of an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The bound of the 95 % interval must be on the right side of the target.
    Interval,
    /// Nothing may have happened; says what n attempts without an event prove.
    ZeroEvents,
    /// Every one of R repetitions must hold; says what share of starts R proves.
    EveryRun,
    /// The platform has no such thing; another figure stands in and is judged by its interval.
    Substitute,
    /// Only calls to a live provider can show it.
    Live,
}

/// An acceptance criterion.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CriterionSpec {
    /// Scenario, slash, name: `1.1/startup-20`.
    pub id: &'static str,
    /// The scenario that decides it.
    pub scenario: &'static str,
    /// Its words, verbatim.
    pub seed_text: &'static str,
    /// Measured figure, and its meaning.
    pub meaning: &'static str,
    /// Comparison of observed and target.
    pub op: Op,
    pub target: f64,
    pub unit: &'static str,
    /// The table it belongs to.
    pub tier: Tier,
    /// Whether a failure fails the run.
    pub critical: bool,
    /// Rule that makes a verdict of an observation.
    pub rule: Rule,
    /// The shortest profile that can decide it.
    pub needs: Profile,
    /// The only engine it applies to.
    pub engine: Option<Engine>,
}

/// A row of a verdict table: the worst of its criteria.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierSpec {
    pub id: &'static str,
    /// The metric in the words of the table.
    pub label: &'static str,
    /// The target in the words of the table.
    pub target: &'static str,
    /// From a section's acceptance list, not from the tables themselves (†).
    pub dagger: bool,
    /// Whether a failure fails the run.
    pub critical: bool,
    pub criteria: &'static [&'static str],
}

/// A scenario that is not in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown scenario `{asked}`")]
pub struct UnknownScenario {
    pub asked: String,
    pub meant: Option<&'static str>,
}

impl UnknownScenario {
    pub fn help(&self) -> String {
        match self.meant {
            Some(id) => format!("did you mean `{id}`?"),
            None => "`agentry bench list` shows them".to_owned(),
        }
    }
}

/// Least similarity of two ids at which one is offered for the other.
const ALIKE: f64 = 0.6;

impl Scenario {
    /// Measured seconds under a profile; 0 is not run there.
    pub fn seconds(&self, profile: Profile) -> u32 {
        self.seconds[profile as usize]
    }

    /// Its criteria, stretch rows last.
    pub fn criteria(&self) -> impl Iterator<Item = &'static CriterionSpec> + use<> {
        let id = self.id;
        CRITERIA.iter().chain(STRETCH).filter(move |spec| spec.scenario == id)
    }

    /// The number it begins with, or its whole id: `3.1`.
    pub fn number(&self) -> &'static str {
        match self.id.split_once('-') {
            Some((number, _)) if number.contains('.') => number,
            _ => self.id,
        }
    }
}

/// The scenario with this id, or with this number (`3.1`).
pub fn scenario(asked: &str) -> Result<&'static Scenario, UnknownScenario> {
    if let Some(found) = SCENARIOS.iter().find(|s| s.id == asked || s.number() == asked) {
        return Ok(found);
    }
    let likeness = |id: &str| {
        let tail = id.split_once('-').map_or(id, |(_, tail)| tail);
        strsim::jaro_winkler(id, asked).max(strsim::jaro_winkler(tail, asked))
    };
    let best = SCENARIOS.iter().map(|s| (likeness(s.id), s.id)).max_by(|a, b| a.0.total_cmp(&b.0));
    Err(UnknownScenario { asked: asked.to_owned(), meant: best.filter(|(alike, _)| *alike >= ALIKE).map(|(_, id)| id) })
}

/// The criterion with this id.
pub fn criterion(id: &str) -> Option<&'static CriterionSpec> {
    CRITERIA.iter().chain(STRETCH).find(|spec| spec.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_point_at_scenarios() {
        let mut seen = BTreeSet::new();
        for spec in CRITERIA.iter().chain(STRETCH) {
            assert!(seen.insert(spec.id), "{} twice", spec.id);
            let home = scenario(spec.scenario).unwrap();
            assert!(spec.target.is_finite() && !spec.meaning.is_empty(), "{}", spec.id);
            assert!(
                spec.needs == Profile::Full || home.seconds(spec.needs) > 0,
                "{} needs a profile that skips it",
                spec.id
            );
        }
        for s in SCENARIOS {
            assert!(s.criteria().count() > 0 || s.id == "phase-baseline", "{} judges nothing", s.id);
        }
    }

    #[test]
    fn every_row_of_the_tables_names_criteria_that_exist() {
        for row in MIN_VIABLE.iter().chain(PRODUCTION_READY) {
            assert!(!row.criteria.is_empty(), "{}", row.id);
            for id in row.criteria {
                assert!(criterion(id).is_some(), "{}: {id}", row.id);
            }
        }
    }

    #[test]
    fn thirteen_scenarios_carry_every_criterion_of_their_sections() {
        let numbered: Vec<_> = SCENARIOS.iter().filter(|s| s.number() != s.id).collect();
        assert_eq!(numbered.len(), 13);
        // Acceptance criteria by section, as they are counted in the document they come from.
        let counts = [4, 4, 4, 3, 3, 4, 3, 3, 3, 3, 3, 2, 3];
        for (scenario, count) in numbered.iter().zip(counts) {
            let own = scenario.criteria().filter(|c| c.tier == Tier::Section);
            let texts: BTreeSet<_> = own.map(|c| c.seed_text).collect();
            assert_eq!(texts.len(), count, "{}: {texts:?}", scenario.id);
        }
    }

    #[test]
    fn a_scenario_is_found_by_id_or_number_and_a_misspelt_one_is_guessed() {
        assert_eq!(scenario("3.1").unwrap().id, "3.1-throughput");
        assert_eq!(scenario("6.2-scheduler").unwrap().id, "6.2-scheduler");
        let error = scenario("3.1-troughput").unwrap_err();
        assert_eq!(error.help(), "did you mean `3.1-throughput`?");
        assert_eq!(scenario("slack").unwrap_err().meant, Some("6.1-slack"));
        assert_eq!(scenario("zzz").unwrap_err().meant, None);
    }
}
