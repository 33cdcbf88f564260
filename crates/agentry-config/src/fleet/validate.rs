//! Validation without execution, for `agentry validate` and the API.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use agentry_core::fleet::Fleet;

use super::assemble::assemble;
use super::list::{Listed, agent_files};
use super::load::parse_all;
use crate::agent::{no_environment, parse_text, process_environment};
use crate::problem::{Problem, Severity};
use crate::tables::Tables;

/// Validates files and directories of files, also across them. Returns all problems, warnings included (see
/// [`Problem::severity`]), and the number of files.
#[must_use]
pub fn validate_paths<P: AsRef<Path>>(paths: &[P]) -> (Vec<Problem>, usize) {
    validate_paths_with(paths, Tables::shipped())
}

/// Like [`validate_paths`], with the models and prices of a deployment.
#[must_use]
pub fn validate_paths_with<P: AsRef<Path>>(paths: &[P], tables: &Tables) -> (Vec<Problem>, usize) {
    let mut problems = Vec::new();
    let mut listed: Vec<Listed> = Vec::new();
    for path in paths.iter().map(AsRef::as_ref) {
        if path.is_dir() {
            match agent_files(path) {
                Ok(files) => listed.extend(files),
                Err(problem) => problems.push(problem),
            }
        } else {
            listed.push(Listed::named(path));
        }
    }
    let mut seen: HashSet<PathBuf> = HashSet::new();
    listed.retain(|listed| seen.insert(listed.path.clone()));
    let files: Vec<&Listed> = listed.iter().collect();
    let parsed = parse_all(&files, &process_environment(tables));
    let pairs: Vec<_> = files.iter().map(|listed| listed.path.as_path()).zip(&parsed).collect();
    let loaded = assemble(&pairs, &Fleet::default());
    problems.extend(loaded.problems);
    problems.extend(loaded.warnings);
    problems.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    (problems, listed.len())
}

/// Validates the text of one agent file that is called `name` in messages. Returns its problems, warnings included.
///
/// The text may be untrusted, so variables are not resolved: `${VAR}` fits wherever some value of it would, and
/// `${VAR:-default}` is its default. The result does not depend on the environment of this process.
#[must_use]
pub fn validate_text(name: &str, text: &str) -> Vec<Problem> {
    let file = parse_text(text, name.into(), &no_environment(), &mut HashSet::new());
    let mut problems = file.problems;
    problems.extend(file.warnings);
    problems.sort_by_key(|problem| (problem.severity == Severity::Warning, problem.line, problem.column));
    problems
}
