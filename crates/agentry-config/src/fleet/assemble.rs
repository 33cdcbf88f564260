//! Files to a fleet: duplicate names, previous versions of bad files, and checks across files.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use agentry_core::agent::{AgentName, AgentSpec, MAX_AGENT_NAME_BYTES};
use agentry_core::fleet::{AgentEntry, Fleet};

use super::collaborators;
use super::list::shown;
use super::load::LoadedFleet;
use crate::agent::{NamedAgent, ParsedFile};
use crate::problem::{Position, Problem};
use crate::yaml::MAX_FILE_BYTES;

/// A good file that is being added to the fleet.
pub(crate) struct Member<'f> {
    pub path: &'f Path,
    pub file: &'f ParsedFile,
    pub spec: &'f Arc<AgentSpec>,
    /// Problems across files.
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
}

impl Member<'_> {
    /// Returns the agent's name as messages about its file quote it.
    pub fn quoted_name(&self) -> &str {
        self.file.name.as_ref().map_or_else(|| self.spec.name.as_str(), NamedAgent::quoted)
    }
}

/// Returns the fleet of these files. `previous` has the versions that stay live if a file is bad.
pub(crate) fn assemble(files: &[(&Path, &ParsedFile)], previous: &Fleet) -> LoadedFleet {
    let mut loaded = LoadedFleet::default();
    let mut members: HashMap<AgentName, Member<'_>> = HashMap::with_capacity(files.len());
    for (path, file) in files {
        loaded.warnings.extend(file.warnings.iter().cloned());
        if let Some(spec) = &file.spec {
            let member = Member { path, file, spec, problems: Vec::new(), warnings: Vec::new() };
            admit(&mut members, member, previous);
        }
    }
    collaborators::check(&mut members, previous);
    let mut agents: HashMap<AgentName, AgentEntry> = HashMap::with_capacity(files.len());
    for (name, member) in members {
        loaded.problems.extend(member.problems.iter().cloned());
        loaded.warnings.extend(member.warnings.iter().cloned());
        let entry = entry(&name, &member, previous);
        agents.insert(name, entry);
    }
    let homes: HashMap<&str, &AgentName> = previous.iter().map(|(name, entry)| (&*entry.file, name)).collect();
    for (path, file) in files.iter().filter(|(_, file)| file.spec.is_none()) {
        loaded.problems.extend(file.problems.iter().cloned());
        let shown = shown(path);
        let before = homes.get(&*shown).map(|name| (*name).clone()).filter(|name| !agents.contains_key(name));
        let name = before.unwrap_or_else(|| free_name(path, file, &agents));
        let spec =
            previous.entry(name.as_str()).filter(|entry| entry.file == shown).and_then(|entry| entry.spec.clone());
        agents.insert(
            name,
            AgentEntry {
                spec,
                file: shown,
                error: Some(summary(&file.problems)),
                warnings: Vec::new(),
                has_unset_variables: false,
            },
        );
    }
    let order = |a: &Problem, b: &Problem| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column));
    loaded.problems.sort_by(order);
    loaded.warnings.sort_by(order);
    loaded.fleet = Fleet::new(agents);
    loaded
}

/// Adds a file. Of two files with one name, the one that had it before keeps it, else the first one by path.
fn admit<'f>(members: &mut HashMap<AgentName, Member<'f>>, mut new: Member<'f>, previous: &Fleet) {
    let name = new.spec.name.clone();
    let Some(mut old) = members.remove(&name) else {
        members.insert(name, new);
        return;
    };
    let owner = previous.entry(name.as_str()).filter(|entry| entry.spec.is_some()).map(|entry| entry.file.clone());
    if owner.is_some_and(|owner| owner == shown(new.path)) {
        std::mem::swap(&mut old, &mut new);
    }
    let place = new.file.name.as_ref().map_or_else(Position::default, |named| named.place);
    let first = old.file.name.as_ref().map_or_else(Position::default, |named| named.place);
    let problem = at(new.path, place, format!("two files are called `{}`", new.quoted_name()))
        .label(format!("{}:{}:{} has this name already and stays live", shown(old.path), first.line, first.column))
        .help("give one of them another name");
    old.problems.append(&mut new.problems);
    old.problems.push(problem);
    members.insert(name, old);
}

/// Returns an error at a location of a file that was parsed before.
pub(crate) fn at(path: &Path, place: Position, message: String) -> Problem {
    let small = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_FILE_BYTES as u64);
    let text = if small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    Problem::at(shown(path), text.strip_prefix('\u{feff}').unwrap_or(&text), place, message)
}

fn entry(name: &AgentName, member: &Member<'_>, previous: &Fleet) -> AgentEntry {
    let warnings = member.file.warnings.iter().chain(&member.warnings);
    // A second file of the same name is not the first one's fault: the first one stays live.
    let own_fault = member.problems.iter().any(|problem| *problem.file == *shown(member.path));
    let spec = if own_fault {
        previous.entry(name.as_str()).and_then(|entry| entry.spec.clone())
    } else {
        Some(member.spec.clone())
    };
    AgentEntry {
        spec,
        file: shown(member.path),
        error: (!member.problems.is_empty()).then(|| summary(&member.problems)),
        warnings: warnings.map(|warning| warning.one_line().into()).collect(),
        has_unset_variables: member.file.has_unset_variables,
    }
}

/// Returns the first problem in one line, and the number of further ones.
fn summary(problems: &[Problem]) -> Arc<str> {
    let first = problems.first().map(Problem::one_line).unwrap_or_default();
    match problems.len() {
        0 | 1 => first.into(),
        more => format!("{first} (and {} more)", more - 1).into(),
    }
}

/// Returns a name for a file that has no good version: its own, else that of the file, never that of another agent. A
/// name that comes from a variable is not shown: the value may be meant for another key.
fn free_name(path: &Path, file: &ParsedFile, taken: &HashMap<AgentName, AgentEntry>) -> AgentName {
    let own = file.name.as_ref().filter(|named| named.written.is_none()).map(|named| named.name.clone());
    let wanted = own.map_or_else(|| file_name(path), |name| name.as_str().to_owned());
    let short = |room: usize| wanted.chars().take(MAX_AGENT_NAME_BYTES - room).collect::<String>();
    let candidates = std::iter::once(short(0)).chain((1_usize..).map(|n| format!("{}.invalid-{n}", short(24))));
    let mut names = candidates.filter_map(|candidate| AgentName::new(&candidate).ok());
    loop {
        // The candidates are infinite, and only finitely many are taken.
        if let Some(name) = names.next().filter(|name| !taken.contains_key(name)) {
            return name;
        }
    }
}

/// Returns the name of a file as an agent's name.
fn file_name(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let safe: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' }).collect();
    let safe = safe.trim_start_matches(['-', '_', '.']);
    if safe.is_empty() { "unnamed".to_owned() } else { safe.to_owned() }
}
