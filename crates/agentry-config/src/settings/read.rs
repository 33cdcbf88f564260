//! Layers of settings: defaults, then the file, then the environment, then flags.

use std::path::{Path, PathBuf};

use super::table::{KEYS, Key};
use super::value::InvalidValue;
use super::{Engine, LogFormat, Settings, file};
use crate::problem::{Problem, did_you_mean};
use crate::yaml::{MAX_FILE_BYTES, Source};
use agentry_core::agent::ModeSet;

/// Prefix of every variable of Agentry's own.
const PREFIX: &str = "AGENTRY_";

/// The sources of settings, so that a test can provide its own.
#[derive(Debug, Default)]
pub struct Sources {
    /// Flags, by name without dashes.
    pub flags: Vec<(String, String)>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
}

impl Sources {
    /// Returns these flags over the environment of this process, without variables that are not text.
    #[must_use]
    pub fn of_process(flags: Vec<(String, String)>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self { flags, environment: std::env::vars_os().filter_map(text).collect() }
    }

    fn named_config(&self) -> Option<&str> {
        let flag = self.flags.iter().rev().find(|(name, _)| name == "config");
        let variable = self.environment.iter().find(|(name, _)| name == "AGENTRY_CONFIG");
        flag.or(variable).map(|(_, value)| value.as_str())
    }
}

impl Settings {
    /// Loads the settings of a process: `flags` over the environment over the settings file over defaults.
    ///
    /// # Errors
    /// Returns all problems.
    pub fn load(sources: &Sources) -> Result<Self, Vec<Problem>> {
        let mut settings = Self::defaults().map_err(|problem| vec![problem])?;
        let mut problems = Vec::new();
        let named = sources.named_config();
        let path = named.map_or_else(|| settings.config.clone(), PathBuf::from);
        match file_text(&path, named.is_some()) {
            Ok(text) => settings.apply_file(&path, &text, &mut problems),
            Err(problem) => problems.push(problem),
        }
        settings.apply_environment(&sources.environment, &mut problems);
        settings.apply_flags(&sources.flags, &mut problems);
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    fn defaults() -> Result<Self, Problem> {
        let mut settings = Self {
            config: PathBuf::new(),
            listen: std::net::SocketAddr::from(([127, 0, 0, 1], 0)),
            allow_unauthenticated: false,
            auth_required: false,
            allowed_hosts: Vec::new(),
            key_requests_per_second: 0,
            tls_cert: None,
            tls_key: None,
            reports: PathBuf::new(),
            api_key: None,
            url: None,
            data: PathBuf::new(),
            agents: PathBuf::new(),
            engine: Engine::Embedded,
            retention: std::time::Duration::ZERO,
            task_retention: None,
            usage_retention: None,
            prices: None,
            postgres_url: None,
            postgres_schema: String::new(),
            postgres_connections: 0,
            redis_url: None,
            rabbitmq_url: None,
            rabbitmq_prefix: String::new(),
            rabbitmq_shards: 0,
            roles: Vec::new(),
            modes: ModeSet::NONE,
            slots: 0,
            max_queued: 0,
            max_body_bytes: 0,
            drain: std::time::Duration::ZERO,
            log: String::new(),
            log_format: LogFormat::Text,
            traces: super::TraceSettings::default(),
            callback_secret: None,
            slack: super::SlackSettings::default(),
            openai_api_key: None,
            openai_base_url: None,
            providers: super::ProviderSettings::default(),
            sim: false,
        };
        for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
            (key.apply)(&mut settings, key.default)
                .map_err(|expected| refuse("defaults", key, key.name, key.default, expected))?;
        }
        Ok(settings)
    }

    fn apply_file(&mut self, path: &Path, text: &str, problems: &mut Vec<Problem>) {
        let source = Source { file: path.to_string_lossy().as_ref().into(), text };
        let (given, mut wrong) = file::read(&source);
        for given in given {
            if let Err(expected) = (given.key.apply)(self, &given.text) {
                let mut problem =
                    source.problem(given.span, format!("bad value of `{}`", given.key.toml)).label(expected.0);
                if given.key.is_secret() {
                    // A secret is not shown, not even an invalid one: the source line is removed.
                    problem.source_line = "".into();
                }
                wrong.push(problem);
            }
        }
        wrong.sort_by_key(|problem| (problem.line, problem.column));
        problems.append(&mut wrong);
    }

    fn apply_environment(&mut self, environment: &[(String, String)], problems: &mut Vec<Problem>) {
        for (name, value) in environment {
            if let Some(key) = KEYS.iter().find(|key| key.env == name) {
                // Many tools unset a variable by setting it to nothing.
                if !value.is_empty()
                    && let Err(expected) = (key.apply)(self, value)
                {
                    problems.push(refuse("environment", key, name, value, expected));
                }
            } else if name.starts_with(PREFIX) {
                problems.push(unknown("environment", "variable", name, KEYS.iter().map(|key| key.env)));
            }
        }
    }

    fn apply_flags(&mut self, flags: &[(String, String)], problems: &mut Vec<Problem>) {
        for (name, value) in flags {
            match KEYS.iter().find(|key| key.name == name) {
                Some(key) => {
                    if let Err(expected) = (key.apply)(self, value) {
                        problems.push(refuse("command line", key, &format!("--{name}"), value, expected));
                    }
                }
                None => problems.push(unknown("command line", "flag", name, KEYS.iter().map(|key| key.name))),
            }
        }
    }
}

fn file_text(path: &Path, must_exist: bool) -> Result<String, Problem> {
    let shown = || path.to_string_lossy().into_owned();
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(String::new()),
        Err(error) => {
            return Err(Problem::of_file(shown(), format!("cannot read the settings: {error}"))
                .help("check the path given by --config or AGENTRY_CONFIG"));
        }
    };
    if size > MAX_FILE_BYTES as u64 {
        return Err(Problem::of_file(shown(), "the settings file is larger than 1 MiB"));
    }
    std::fs::read_to_string(path)
        .map_err(|error| Problem::of_file(shown(), format!("cannot read the settings: {error}")))
}

fn refuse(layer: &'static str, key: &Key, name: &str, value: &str, expected: InvalidValue) -> Problem {
    // A secret is not shown, not even an invalid one.
    let value = if key.is_secret() { "…" } else { value };
    Problem::of_file(layer, format!("`{value}` is no good as {name}")).label(expected.0)
}

fn unknown(layer: &'static str, what: &str, name: &str, known: impl Iterator<Item = &'static str>) -> Problem {
    let problem = Problem::of_file(layer, format!("unknown {what} `{name}`"));
    // The common prefix does not help to find the variable that is meant.
    let (prefix, rest) = name.strip_prefix(PREFIX).map_or(("", name), |rest| (PREFIX, rest));
    match did_you_mean(rest, known.filter_map(|known| known.strip_prefix(prefix))) {
        Some(near) => problem.help(format!("did you mean `{prefix}{near}`?")),
        None => problem.help(format!("unset it if it is not for Agentry; there are {}", names(prefix))),
    }
}

/// Returns the names of all variables, or of all flags.
fn names(prefix: &str) -> String {
    let name = |key: &Key| if prefix.is_empty() { format!("--{}", key.name) } else { key.env.to_owned() };
    KEYS.iter().map(name).collect::<Vec<_>>().join(", ")
}
