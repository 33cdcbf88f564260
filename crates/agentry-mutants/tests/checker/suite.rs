//! A run of the suite with a binary that may be broken.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Exit code of a run with a violated invariant.
pub const BROKEN: i32 = 5;

/// A process that ends with its test, also when it is stopped.
pub struct Ending(pub Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Result of a run.
pub struct Verdict {
    /// Exit code.
    pub exit: i32,
    /// `report.json`.
    pub report: Value,
}

impl Verdict {
    /// Reads the report of a finished run.
    pub fn read(exit: i32, folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("report/report.json")).unwrap();
        Self { exit, report: serde_json::from_str(&text).unwrap() }
    }

    /// Returns whether an invariant was checked and holds.
    pub fn holds(&self, invariant: &str) -> Option<bool> {
        let all = self.report["safety"].as_array().unwrap();
        let found: Vec<&Value> = all.iter().filter(|safety| safety["invariant"] == invariant).collect();
        (!found.is_empty()).then(|| found.iter().all(|safety| safety["valid"] == true))
    }

    /// Returns the invariants as text for a failed assertion.
    pub fn safety(&self) -> String {
        format!("exit {}: {:#}", self.exit, self.report["safety"])
    }

    /// Returns the verdicts of all criteria that were not skipped.
    pub fn verdicts(&self) -> Vec<String> {
        let tests = self.report["tests"].as_array().unwrap().iter();
        let criteria = tests.flat_map(|test| test["criteria"].as_array().unwrap());
        criteria.map(|row| row["verdict"].as_str().unwrap().to_owned()).filter(|verdict| verdict != "not-run").collect()
    }
}

/// Returns the command `agentry bench run` with a mutant, or with none, whose report and temporary files are in
/// `folder`.
pub fn bench(mutant: Option<&str>, args: &[&str], folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentry-mutant"));
    command.args(["bench", "run"]).args(args).args(["--out", "report"]);
    command.current_dir(folder.path()).env("TMPDIR", folder.path()).stdin(Stdio::null());
    match mutant {
        Some(mutant) => command.env("MUTANT", mutant),
        None => command.env_remove("MUTANT"),
    };
    command
}

/// Runs the suite to its end.
pub fn run(mutant: Option<&str>, args: &[&str]) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let output = bench(mutant, args, &folder).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(folder.path().join("report/report.json").exists(), "no report ({}): {said}", output.status);
    Verdict::read(output.status.code().unwrap(), folder.path())
}
