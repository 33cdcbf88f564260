//! One file from bytes to a spec, or to its problems.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use agentry_core::agent::{AgentName, AgentSpec};
use agentry_core::time::Timestamp;
use sha2::{Digest, Sha256};

use super::check::{Checker, check};
use super::raw;
use super::read::{At, FromNode, Reader};
use crate::problem::{Position, Problem};
use crate::tables::Tables;
use crate::yaml::{Kind, MAX_FILE_BYTES, Missing, Node, Source, Variables, canonical, fill, parse};

/// Capacity reserved for the bytes of a file.
const TYPICAL_FILE_BYTES: usize = 32 * 1024;
/// Number of hex digits of a version.
const VERSION_DIGITS: usize = 12;

/// The external inputs of reading a file.
pub(crate) struct Environment<'e> {
    /// Values of variables.
    pub variables: Variables<'e>,
    /// The moment after which a schedule must fire.
    pub now: Timestamp,
    /// What is known of models.
    pub tables: &'e Tables,
}

pub(crate) fn process_environment(tables: &Tables) -> Environment<'_> {
    Environment {
        variables: Variables::Resolved(&|name| std::env::var(name).ok()),
        now: Timestamp::from_jiff(jiff::Timestamp::now()),
        tables,
    }
}

/// Returns the environment for untrusted files: this process's clock, and no variables.
pub(crate) fn no_environment() -> Environment<'static> {
    Environment { variables: Variables::Unresolved, ..process_environment(Tables::shipped()) }
}

/// The name of an agent in a file, with its location.
#[derive(Debug, Clone)]
pub(crate) struct NamedAgent {
    pub name: AgentName,
    pub place: Position,
    /// Source text, if it contains variables.
    pub written: Option<Box<str>>,
}

impl NamedAgent {
    /// Returns the name as messages quote it.
    pub(crate) fn quoted(&self) -> &str {
        self.written.as_deref().unwrap_or_else(|| self.name.as_str())
    }
}

/// Buffers that one thread reuses from file to file.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// Strings that many agents share.
    share: HashSet<Arc<str>>,
    /// Bytes of the current file: with capacity from the start, a file takes two reads instead of eight.
    bytes: Vec<u8>,
}

/// The result of reading a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct ParsedFile {
    /// The name it gives, even if something else in it is wrong.
    pub name: Option<NamedAgent>,
    /// The agent; `None` if there are problems.
    pub spec: Option<Arc<AgentSpec>>,
    /// Problems that prevent its use.
    pub problems: Vec<Problem>,
    /// Findings that do not prevent its use.
    pub warnings: Vec<Problem>,
    /// A variable of the file is not set in this process and has no default.
    pub has_unset_variables: bool,
    /// Collaborators it names, with their locations.
    pub collaborators: Vec<NamedAgent>,
}

impl ParsedFile {
    fn refused(problem: Problem) -> Self {
        Self { problems: vec![problem], ..Self::default() }
    }
}

/// Reads a file. `shown` is its name in messages.
pub(crate) fn parse_file(path: &Path, shown: Arc<str>, env: &Environment<'_>, scratch: &mut Scratch) -> ParsedFile {
    let limit = MAX_FILE_BYTES as u64 + 1;
    scratch.bytes.clear();
    scratch.bytes.reserve(TYPICAL_FILE_BYTES);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut scratch.bytes));
    if let Err(error) = read {
        return ParsedFile::refused(
            Problem::of_file(shown, format!("cannot read the file: {error}"))
                .help("check that it exists and who may read it"),
        );
    }
    parse_bytes(&scratch.bytes, shown, env, &mut scratch.share)
}

/// Reads a file's bytes.
fn parse_bytes(bytes: &[u8], shown: Arc<str>, env: &Environment<'_>, share: &mut HashSet<Arc<str>>) -> ParsedFile {
    if bytes.len() > MAX_FILE_BYTES {
        return ParsedFile::refused(
            Problem::of_file(shown, "the file is larger than 1 MiB")
                .help("an agent file is settings and prompts; keep data where a tool can fetch it"),
        );
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => parse_text(text, shown, env, share),
        Err(error) => {
            let at = error.valid_up_to();
            let byte = bytes.get(at).copied().unwrap_or_default();
            ParsedFile::refused(
                Problem::of_file(shown, format!("the file is not UTF-8: byte {at} is 0x{byte:02x}"))
                    .help("save it as UTF-8 in your editor"),
            )
        }
    }
}

/// Reads a file's text.
pub(crate) fn parse_text(
    text: &str,
    shown: Arc<str>,
    env: &Environment<'_>,
    share: &mut HashSet<Arc<str>>,
) -> ParsedFile {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let source = Source { file: shown, text };
    let mut parsed = match parse(&source) {
        Ok(parsed) => parsed,
        Err(problem) => return ParsedFile::refused(problem),
    };
    let missing = if text.contains("${") { fill(&mut parsed.root, env.variables) } else { Vec::new() };
    let version = version(&parsed.root);
    let name = name_of(&parsed.root, &source);
    let mut reader = Reader::new(&source);
    reader.problems = parsed.problems;
    let raw = raw::Agent::read(&parsed.root, &mut reader);
    let clean = reader.problems.is_empty() && !reader.has_unknown;
    let mut checker = Checker {
        warnings: missing_variables(&missing, &source),
        now: env.now,
        tables: env.tables,
        share,
        clean,
        reader: &mut reader,
    };
    let checked = raw.and_then(|raw| check(raw, &mut checker));
    let warnings = std::mem::take(&mut checker.warnings);
    let mut problems = reader.problems;
    problems.sort_by_key(|problem| (problem.line, problem.column));
    let has_unset_variables = missing.iter().any(|missing| !missing.is_read_later);
    let mut file = ParsedFile { name, spec: None, problems, warnings, has_unset_variables, collaborators: Vec::new() };
    if let (true, Some((mut spec, collaborators))) = (file.problems.is_empty(), checked) {
        spec.version = version;
        file.spec = Some(Arc::new(spec));
        let named = |(name, item): (AgentName, At<Box<str>>)| {
            let written = item.written.map(|written| written.text);
            NamedAgent { name, place: source.place(item.span), written }
        };
        file.collaborators = collaborators.into_iter().map(named).collect();
    }
    file
}

/// Returns the content hash of a file: SHA-256 over its values as canonical JSON, with the values of variables, so that
/// one version means one content for all processes whatever their environment. Values that are read at the moment of use
/// (tokens, commands and their environment) are hashed as they are written, so no hash depends on a secret.
fn version(root: &Node<'_>) -> Box<str> {
    let mut json = Vec::with_capacity(2 * 1024);
    canonical(root, &mut json);
    let digest = Sha256::digest(&json);
    let mut text: String = digest.iter().take(VERSION_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
    text.shrink_to_fit();
    text.into()
}

fn name_of(root: &Node<'_>, source: &Source<'_>) -> Option<NamedAgent> {
    let Kind::Map(entries) = &root.kind else { return None };
    let (_, value) = entries.iter().find(|(key, _)| key.text == "name")?;
    match &value.kind {
        Kind::Scalar { text, written, .. } => {
            let written = written.as_ref().map(|written| written.text.clone());
            AgentName::new(text).ok().map(|name| NamedAgent { name, place: source.place(value.span), written })
        }
        _ => None,
    }
}

fn missing_variables(missing: &[Missing], source: &Source<'_>) -> Vec<Problem> {
    let warning = |missing: &Missing| {
        let name = &missing.name;
        source
            .problem(missing.span, format!("the environment variable `{name}` is not set"))
            .label("the text stays as it is")
            .help(format!("set it, or give a default: ${{{name}:-…}}"))
            .warning()
    };
    missing.iter().map(warning).collect()
}
