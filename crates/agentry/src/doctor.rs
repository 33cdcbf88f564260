//! `agentry doctor`: checks of the installation, with advice.

mod cluster;
mod keys;
mod models;

use std::path::Path;
use std::time::{Duration, SystemTime};

use agentry_config::{Engine, Settings, Tables};
use serde_json::{Value, json};

use crate::cli;
use crate::failure::Failure;
use crate::render::{self, OutputFormat};
use crate::{out, settings};

/// The recommended limit of open files: with fewer, a busy server runs out of connections.
const FILES_WANTED: u64 = 4_096;
/// The earliest plausible time (2026-01-01), in seconds since the Unix epoch.
const EARLIEST: u64 = 1_767_225_600;

/// The result of a check.
struct DoctorCheck {
    what: &'static str,
    state: CheckState,
    found: String,
    advice: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CheckState {
    Good,
    Look,
    Bad,
}

impl CheckState {
    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Look => "look",
            Self::Bad => "bad",
        }
    }
}

/// Runs all checks and prints them.
pub async fn doctor(args: &cli::DoctorArgs) -> Result<(), Failure> {
    let settings = settings::of_doctor(args)?;
    let tables = settings::tables(&settings)?;
    let mut checks = vec![agents(&settings.agents, &tables)];
    checks.extend(models::checks(&settings, &tables, crate::access::now()));
    match settings.engine {
        Engine::Embedded => checks.push(data(&settings.data)),
        Engine::Cluster => checks.extend(cluster::checks(&settings).await?),
    }
    checks.extend(keys::checks(&settings, args.place.sim_url.is_some()));
    checks.extend([clock(), open_files()]);
    checks.push(access(&settings));
    checks.push(server(&args.reading.server).await);
    let bad = checks.iter().any(|check| check.state == CheckState::Bad);
    show(args.reading.output, &checks)?;
    if bad { Err(Failure::Reported) } else { Ok(()) }
}

fn show(format: OutputFormat, checks: &[DoctorCheck]) -> Result<(), Failure> {
    if format == OutputFormat::Table {
        for check in checks {
            out::line(&format!("{:<5} {:<12} {}", check.state.word(), check.what, check.found))?;
            if let Some(advice) = &check.advice {
                out::line(&format!("{:<18} = help: {advice}", ""))?;
            }
        }
        return Ok(());
    }
    let row = |check: &DoctorCheck| -> Value {
        json!({"check": check.what, "state": check.state.word(), "found": check.found, "help": check.advice})
    };
    render::document(format, &Value::Array(checks.iter().map(row).collect()))
}

fn check(what: &'static str, state: CheckState, found: impl Into<String>, advice: Option<&str>) -> DoctorCheck {
    DoctorCheck { what, state, found: found.into(), advice: advice.map(str::to_owned) }
}

fn agents(folder: &Path, tables: &Tables) -> DoctorCheck {
    let (problems, files) = agentry_config::validate_paths_with(&[folder], tables);
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    if let Some(problem) = problems.iter().find(|problem| problem.is_error()).filter(|_| files == 0) {
        return check("agents", CheckState::Bad, problem.one_line(), Some("name the folder with --agents"));
    }
    let folder = folder.display();
    match (files, errors, problems.len()) {
        (0, ..) => check(
            "agents",
            CheckState::Bad,
            format!("no agent files in {folder}"),
            Some("name the folder with --agents"),
        ),
        (_, 0, 0) => check("agents", CheckState::Good, format!("{files} files in {folder}"), None),
        (_, 0, warnings) => {
            let found = format!("{files} files in {folder}, {warnings} warnings");
            check("agents", CheckState::Look, found, Some("`agentry validate` shows them"))
        }
        _ => check(
            "agents",
            CheckState::Bad,
            format!("{errors} errors in {folder}"),
            Some("`agentry validate` shows them"),
        ),
    }
}

/// Checks that the data folder, or its nearest existing parent, is writable.
fn data(folder: &Path) -> DoctorCheck {
    let existing = folder.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    match tempfile::tempfile_in(existing) {
        Ok(_) => check("data", CheckState::Good, format!("{} can be written", folder.display()), None),
        Err(error) => {
            let found = format!("{} cannot be written: {error}", folder.display());
            check("data", CheckState::Bad, found, Some("choose another folder with --data, or change who owns it"))
        }
    }
}

fn clock() -> DoctorCheck {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    if since.as_secs() < EARLIEST {
        let advice = "set it: ids, schedules and budgets depend on it";
        return check("clock", CheckState::Bad, "it is before 2026", Some(advice));
    }
    check("clock", CheckState::Good, "plausible", None)
}

/// Checks the soft limit of open files (Linux).
fn open_files() -> DoctorCheck {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    match soft.map(|soft| (soft, soft.parse::<u64>())) {
        None => check("open files", CheckState::Good, "not known on this system", None),
        Some((_, Ok(soft))) if soft < FILES_WANTED => {
            check("open files", CheckState::Look, format!("at most {soft}"), Some("raise it: ulimit -n 65536"))
        }
        Some((soft, _)) => check("open files", CheckState::Good, format!("at most {soft}"), None),
    }
}

/// Checks that the settings of address, keys and TLS are consistent.
fn access(settings: &Settings) -> DoctorCheck {
    let (listen, beyond) = (settings.listen, !settings.listen.ip().is_loopback());
    if let Err(failure) = crate::tls::acceptor(settings) {
        let text = failure.text(false).unwrap_or_default();
        let found = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        return check(
            "access",
            CheckState::Bad,
            found,
            Some("--tls-cert and --tls-key name PEM files that belong together"),
        );
    }
    let tls = if settings.tls_cert.is_some() { "TLS" } else { "plain HTTP" };
    if beyond && settings.allow_unauthenticated && !settings.auth_required {
        let found = format!("{listen} may be reached from elsewhere without a key, by {tls}");
        let advice = "make a key with `agentry keys create`: from the first one on every request needs one";
        return check("access", CheckState::Look, found, Some(advice));
    }
    if beyond && settings.tls_cert.is_none() {
        let advice =
            "set --tls-cert and --tls-key, or put a proxy that speaks TLS before it: keys travel with every request";
        return check("access", CheckState::Look, format!("{listen} by {tls}"), Some(advice));
    }
    let who = if settings.auth_required { "a key is always needed" } else { "a key is needed as soon as one exists" };
    check("access", CheckState::Good, format!("{listen} by {tls}; {who}"), None)
}

async fn server(server: &cli::ServerArgs) -> DoctorCheck {
    let url = match server.address() {
        Ok(url) => url,
        Err(_) => return check("server", CheckState::Bad, "the settings name no good address", Some("see --url")),
    };
    let client = match server.client() {
        Ok(client) => client,
        Err(_) => return check("server", CheckState::Bad, format!("`{url}` is not an address"), Some("see --url")),
    };
    match client.ready().success().await {
        Ok(_) => match client.overview().success().await {
            Ok(_) => check("server", CheckState::Good, format!("{url} is ready"), None),
            Err(_) => {
                let advice = "set AGENTRY_API_KEY to one that `agentry keys` lists as active";
                check(
                    "server",
                    CheckState::Look,
                    format!("{url} is ready and does not take this API key"),
                    Some(advice),
                )
            }
        },
        Err(error) => {
            let found = error.to_string().lines().next().unwrap_or_default().to_owned();
            check("server", CheckState::Look, found, Some("start one with `agentry serve`"))
        }
    }
}
