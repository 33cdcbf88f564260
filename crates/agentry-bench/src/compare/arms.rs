//! Runs of an arm, and the check that two arms are comparable.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::model::{Fingerprint, Report};
use crate::report::{JSON, LoadError, read};

/// Runs of an arm at most; each is held in memory.
const MAX_RUNS: usize = 500;

/// Reason why runs cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A report cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A folder cannot be read.
    #[error("cannot read the folder {path}: {source}", path = path.display())]
    Folder { path: PathBuf, source: io::Error },
    /// A folder has no reports.
    #[error("{path} holds no report: neither {JSON}, nor folders with one, nor *.json files", path = path.display())]
    Empty { path: PathBuf },
    /// A folder has too many.
    #[error("{path} holds more than {MAX_RUNS} reports", path = path.display())]
    TooMany { path: PathBuf },
    /// The runs took place in different circumstances.
    #[error("these runs cannot be compared: {}", .0.join("; "))]
    Different(Vec<String>),
}

/// The runs of an arm: one `report.json`, a folder that holds it, or a folder of such folders or files.
pub fn load_arm(path: &Path) -> Result<Vec<Report>, CompareError> {
    if !path.is_dir() || path.join(JSON).is_file() {
        return Ok(vec![read(path)?]);
    }
    let folder = |source| CompareError::Folder { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(folder)? {
        let entry = entry.map_err(folder)?.path();
        let json = entry.extension().is_some_and(|extension| extension == "json");
        if entry.join(JSON).is_file() || (json && entry.is_file()) {
            files.push(entry);
        }
        if files.len() > MAX_RUNS {
            return Err(CompareError::TooMany { path: path.to_owned() });
        }
    }
    if files.is_empty() {
        return Err(CompareError::Empty { path: path.to_owned() });
    }
    files.sort();
    Ok(files.iter().map(|file| read(file)).collect::<Result<_, _>>()?)
}

/// Lists differences between runs that change the meaning of their figures; empty when they are comparable.
pub fn differences<'a>(runs: impl Iterator<Item = &'a Report>) -> Vec<String> {
    let mut found = Vec::new();
    let mut runs = runs;
    let Some(first) = runs.next() else { return found };
    for run in runs {
        let mut differ = |what: &str, a: String, b: String| {
            let line = format!("{what} is {a} in {} and {b} in {}", first.run.id, run.run.id);
            if a != b && !found.iter().any(|known: &String| known.starts_with(what)) {
                found.push(line);
            }
        };
        differ("profile", first.run.profile.to_string(), run.run.profile.to_string());
        differ("engine", first.run.engine.to_string(), run.run.engine.to_string());
        if first.fingerprint.compute() != run.fingerprint.compute() {
            for ((what, a), (_, b)) in facts(&first.fingerprint).into_iter().zip(facts(&run.fingerprint)) {
                differ(what, a, b);
            }
        }
    }
    found
}

/// Lists the hashed values by name.
fn facts(print: &Fingerprint) -> Vec<(&'static str, String)> {
    let m = &print.machine;
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let servers = print.servers.iter().map(|s| format!("{} {} {:?}", s.name, s.version, s.settings));
    vec![
        ("the processor", format!("{} × {}", m.cpus, text(&m.cpu_model))),
        ("memory", m.ram_bytes.to_string()),
        ("virtualisation", text(&m.virt)),
        ("the kernel", text(&m.kernel)),
        ("the file system", format!("{} on {}", text(&m.filesystem), text(&m.device))),
        ("the governor", text(&m.governor)),
        ("the limit on processors", format!("{:?}", m.cgroup_cpus)),
        ("the limit on memory", format!("{:?}", m.cgroup_memory_bytes)),
        ("the build", print.agentry.build.clone()),
        ("the allocator", print.agentry.allocator.clone()),
        ("the model profile", print.llm_profile.clone()),
        ("the list of servers", servers.collect::<Vec<_>>().join(", ")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::report_with;
    use crate::report::{to_json, write_all};

    #[test]
    fn an_arm_is_a_file_a_folder_or_a_folder_of_both() {
        let dir = tempfile::tempdir().unwrap();
        let report = report_with(vec![]);
        write_all(&report, &dir.path().join("runs/1")).unwrap();
        write_all(&report, &dir.path().join("runs/2")).unwrap();
        fs::write(dir.path().join("runs/3.json"), to_json(&report)).unwrap();
        fs::write(dir.path().join("runs/notes.txt"), "not a report").unwrap();
        let count = |path: &str| load_arm(&dir.path().join(path)).unwrap().len();
        assert_eq!([count("runs/1/report.json"), count("runs/1"), count("runs")], [1, 1, 3]);
    }

    #[test]
    fn what_is_damaged_or_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load_arm(dir.path()).unwrap_err().to_string().contains("holds no report"));
        fs::write(dir.path().join("a.json"), "{\"schema\": \"1.0.0\", \"run\": ").unwrap();
        assert!(load_arm(dir.path()).unwrap_err().to_string().contains("a.json:1:"), "corrupt");
        assert!(load_arm(&dir.path().join("none.json")).is_err());
    }

    #[test]
    fn another_machine_or_durability_is_a_reason_and_another_commit_is_not() {
        let (a, mut b) = (report_with(vec![]), report_with(vec![]));
        b.fingerprint.agentry.git = "fedcba9".to_owned();
        assert_eq!(differences([&a, &b].into_iter()), Vec::<String>::new());
        b.fingerprint.machine.cpus = 8;
        b.run.profile = crate::model::Profile::Full;
        let found = differences([&a, &b].into_iter());
        assert!(found.iter().any(|line| line.contains("profile is ci")), "{found:?}");
        assert!(found.iter().any(|line| line.contains("8 × Sample CPU")), "{found:?}");
    }
}
