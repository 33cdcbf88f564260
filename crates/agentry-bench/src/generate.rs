//! The test data of the suite: agent files and a workload, the same for the same seed.

use std::fmt::Write as _;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// Agents or tasks at most.
pub const MAX_COUNT: u32 = 1_000_000;

const MODES: [&str; 4] = ["collaborative", "autonomous", "continuous", "scheduled"];
const SUBJECTS: [&str; 8] = [
    "a late parcel",
    "a double charge",
    "a lost password",
    "a broken lid",
    "an invoice",
    "a refund",
    "a new address",
    "a warranty",
];

/// One generated file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFile {
    /// `test-agent-7.yml`.
    pub name: String,
    pub text: String,
}

/// Model and address that generated agents call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelTarget {
    /// `simulated`, or a provider with `base_url`.
    pub provider: String,
    pub model: String,
    /// The address of a simulator.
    pub base_url: Option<String>,
}

impl Default for ModelTarget {
    fn default() -> Self {
        Self { provider: "simulated".to_owned(), model: "echo".to_owned(), base_url: None }
    }
}

/// Agent files with random modes. A collaborative agent needs colleagues, so the first agent is autonomous.
pub fn agents(count: u32, seed: u64, target: &ModelTarget) -> Vec<AgentFile> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut files = Vec::new();
    for i in 0..count.min(MAX_COUNT) {
        let drawn = MODES.choose(&mut rng).copied().unwrap_or("autonomous");
        let mode = if i == 0 { "autonomous" } else { drawn };
        files.push(AgentFile { name: format!("test-agent-{i}.yml"), text: agent(i, mode, target, &mut rng) });
    }
    files
}

fn agent(i: u32, mode: &str, target: &ModelTarget, rng: &mut StdRng) -> String {
    // JSON strings are YAML strings: what a caller passes cannot break the file.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!(
        "name: test-agent-{i}\nagent_type: test\ndescription: Generated for a measurement.\nexecution_mode: {mode}\ntags: [generated]\n\
         llm_config:\n  provider: {}\n  model: {}\n  max_tokens: 200\n  timeout: 60\n",
        quoted(&target.provider),
        quoted(&target.model)
    );
    if let Some(url) = &target.base_url {
        let _ = writeln!(text, "  base_url: {}", quoted(url));
    }
    text.push_str("system_prompt: |\n  You answer briefly. This agent exists to be measured.\n");
    match mode {
        "continuous" => text.push_str("continuous_config:\n  idle_timeout_seconds: 3600\n  save_interval_seconds: 180\n  max_conversation_history: 20\n"),
        "collaborative" => text.push_str("collaborative_config:\n  preferred_collaborators: [test-agent-0]\n  max_plan_steps: 4\n  timeout_seconds: 60\n"),
        "scheduled" => {
            // Far enough apart that a measurement of something else is not disturbed.
            let seconds = 300 * rng.random_range(12..=48);
            let _ = write!(text, "schedule_config:\n  type: interval\n  interval_seconds: {seconds}\n  task_data:\n    report: generated\n");
        }
        _ => {}
    }
    text
}

/// One task of a workload.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedTask {
    /// Time to send it, in seconds from the start.
    pub at: f64,
    pub agent: String,
    /// The conversation; only some tasks have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    pub input: String,
    /// For `Idempotency-Key`: unique within the workload.
    pub key: String,
}

/// Tasks with Poisson arrivals at `rate` per second over `agents` agents. Times are from the plan and not from how fast
/// sending was, so that a system that stalls is still offered its load.
pub fn workload(count: u32, rate: f64, agents: u32, seed: u64) -> Vec<PlannedTask> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut at = 0.0;
    let mut arrivals = Vec::new();
    for i in 0..count.min(MAX_COUNT) {
        at += -(1.0 - rng.random::<f64>()).ln() / rate;
        let agent = rng.random_range(0..agents.max(1));
        let subject = SUBJECTS.choose(&mut rng).copied().unwrap_or("a question");
        let session = rng.random_bool(0.25).then(|| format!("session-{}", rng.random_range(0..agents.max(1) * 10)));
        arrivals.push(PlannedTask {
            at,
            agent: format!("test-agent-{agent}"),
            session,
            input: format!("A customer asks about {subject}, number {i}."),
            key: format!("bench-{seed}-{i}"),
        });
    }
    arrivals
}

/// A workload as JSON lines.
pub fn to_lines(arrivals: &[PlannedTask]) -> String {
    let lines = arrivals.iter().filter_map(|arrival| serde_json::to_string(arrival).ok());
    lines.fold(String::new(), |text, line| text + &line + "\n")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn generated_agents_are_accepted_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let simulator = ModelTarget {
            provider: "openai".to_owned(),
            model: "sim-small".to_owned(),
            base_url: Some("http://127.0.0.1:9".to_owned()),
        };
        for (folder, target) in [("a", ModelTarget::default()), ("b", simulator)] {
            let folder = dir.path().join(folder);
            fs::create_dir(&folder).unwrap();
            let files = agents(60, 7, &target);
            for mode in MODES {
                assert!(files.iter().any(|file| file.text.contains(mode)), "{mode}");
            }
            for file in files {
                fs::write(folder.join(file.name), file.text).unwrap();
            }
            let (problems, checked) = agentry_config::validate_paths(&[&folder]);
            assert_eq!(checked, 60);
            let shown: Vec<String> =
                problems.iter().filter(|problem| problem.is_error()).map(ToString::to_string).collect();
            assert!(shown.is_empty(), "{}", shown.join("\n"));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_data() {
        assert_eq!(agents(20, 3, &ModelTarget::default()), agents(20, 3, &ModelTarget::default()));
        assert_ne!(agents(20, 3, &ModelTarget::default()), agents(20, 4, &ModelTarget::default()));
        assert_eq!(workload(50, 10.0, 5, 3), workload(50, 10.0, 5, 3));
    }

    #[test]
    fn arrivals_ascend_at_the_rate_and_keys_are_unique() {
        let load = workload(5_000, 50.0, 20, 1);
        assert!(load.windows(2).all(|pair| pair[0].at <= pair[1].at));
        let seconds = load.last().unwrap().at;
        assert!((90.0..110.0).contains(&seconds), "{seconds}");
        let keys: std::collections::BTreeSet<_> = load.iter().map(|arrival| &arrival.key).collect();
        assert_eq!(keys.len(), load.len());
        assert_eq!(to_lines(&load).lines().count(), 5_000);
    }
}
