//! Reports for tests: small ones that carry given verdicts, and one that looks like a real run.

mod realistic;

use std::path::PathBuf;

pub use realistic::realistic;

use crate::catalogue::{criterion, scenario};
use crate::model::*;

/// A judged criterion with this verdict and no figures.
pub fn judged(id: &str, verdict: Verdict) -> Criterion {
    let spec = criterion(id).unwrap();
    Criterion {
        id: spec.id.to_owned(),
        seed_text: spec.seed_text.to_owned(),
        tier: spec.tier,
        critical: spec.critical,
        op: spec.op,
        target: spec.target,
        unit: spec.unit.to_owned(),
        observed: Some(1.0),
        ci95: None,
        n: 1,
        verdict,
        reason: format!("because of {verdict}"),
        source: "sample".to_owned(),
        evidence: vec![],
    }
}

/// A metric.
pub fn metric(name: &str, unit: &str, value: f64) -> Metric {
    Metric { more_is_better: Some(false), ..Metric::new(name, (unit, "mean"), value, 100, "sample") }
}

/// A test that holds these criteria, under the scenario of the first.
pub fn test_with(criteria: Vec<Criterion>) -> Test {
    let home = criteria.first().and_then(|c| criterion(&c.id)).map_or("1.1-startup", |spec| spec.scenario);
    Test { criteria, ..Test::new(home, scenario(home).unwrap().title, Phase::Load, "embedded", "instant") }
}

/// A report with these criteria; without a test when there are none.
pub fn report_with(criteria: Vec<Criterion>) -> Report {
    let tests = if criteria.is_empty() { vec![] } else { vec![test_with(criteria)] };
    let mut fingerprint = Fingerprint {
        hash: String::new(),
        machine: Machine {
            cpu_model: Some("Sample CPU".to_owned()),
            cpus: 2,
            ram_bytes: 8 << 30,
            kernel: Some("6.1.0".to_owned()),
            filesystem: Some("ext4".to_owned()),
            fdatasync_p50_us: Some(131.0),
            fdatasync_p99_us: Some(410.0),
            timer_overshoot_p99_us: Some(70.0),
            ..Machine::default()
        },
        servers: vec![],
        agentry: Binary {
            version: "0.1.0".to_owned(),
            git: "0123456".to_owned(),
            build: "release".to_owned(),
            allocator: "mimalloc".to_owned(),
        },
        llm_profile: "instant".to_owned(),
    };
    fingerprint.seal();
    Report {
        schema: SCHEMA.to_owned(),
        run: Run {
            id: "sample".to_owned(),
            profile: Profile::Ci,
            engine: Engine::Embedded,
            url: None,
            seed: 7,
            argv: ["agentry", "bench", "run"].map(str::to_owned).to_vec(),
            git: "0123456".to_owned(),
            version: "0.1.0".to_owned(),
            start: "2026-11-25T02:00:00Z".to_owned(),
            end: "2026-11-25T02:15:04Z".to_owned(),
            seconds: 904.0,
            interrupted: false,
            exit: 0,
        },
        fingerprint,
        harness: Harness::default(),
        tests,
        faults: vec![],
        safety: vec![],
        tiers: Tiers::default(),
        baseline: None,
        advice: vec![],
        not_proven: vec![],
    }
}

/// Compares a file of the repository with what it should be; writes it under `UPDATE_REFERENCES`.
pub fn assert_file(path: &str, expected: &str) {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_REFERENCES").is_some() {
        std::fs::write(&file, expected).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == expected, "{path} is not up to date: run `cargo xtask references`");
}
