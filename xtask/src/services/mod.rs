//! `cargo xtask services`: finds or starts the servers that tests need: PostgreSQL, Redis, RabbitMQ.
//!
//! In this order: the URL in the environment, a server that we started before, one on its standard loopback port, an
//! installed one that we start, a container, a package that we install. Whatever answers first in its own protocol,
//! with the credentials of tests and in a version that will do, is used.

pub mod apt;
mod compose;
mod folder;
mod launch;
mod node;
mod state;

use std::cell::RefCell;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use agentry_lab::{Answer, ProcessIdentity, Service, probe};
use anyhow::{Context, Result, bail};
use futures_util::future::join_all;

use crate::process::wait_until;
use crate::workspace::Workspace;
use crate::{block_on, print, say};
pub use node::ensure as ensure_node;
use state::State;

/// The longest wait for another `services` command of this checkout, which may be installing packages.
const OTHER_COMMAND: Duration = Duration::from_secs(1_200);

pub const USAGE: &str = "\
Usage: cargo xtask services [up [--fresh] | down | status]

  up        finds or starts PostgreSQL, Redis and RabbitMQ; prints their URLs as `export` lines
  --fresh   only servers that we start ourselves: skips the environment and the standard ports
  down      ends what `up` started, and removes its data
  status    what tests would use now
";

/// A server that tests may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub service: Service,
    pub url: String,
    /// Its origin, for people.
    origin: String,
}

/// Failed attempts by service, for people.
type Tried = Vec<(Service, String)>;

/// A way to start missing servers; failed attempts are recorded.
type ServiceStep = fn(&Workspace, &mut State, &[Service], &mut Tried) -> Result<Vec<Found>>;

pub fn command(arguments: &[String]) -> Result<()> {
    let workspace = Workspace::find()?;
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] | ["up"] => up(&workspace, false).map(|found| export(&found)),
        ["up", "--fresh"] | ["--fresh"] => up(&workspace, true).map(|found| export(&found)),
        ["down"] => down(&workspace),
        ["status"] => status(&workspace),
        ["help" | "--help" | "-h"] => {
            print(USAGE);
            Ok(())
        }
        other => bail!("unknown arguments: {}\n\n{USAGE}", other.join(" ")),
    }
}

fn ask(service: Service, url: &str) -> Result<Answer> {
    block_on(async { Ok(probe(service, url).await?) })
}

/// Finds or starts all three.
pub fn up(workspace: &Workspace, fresh: bool) -> Result<Vec<Found>> {
    let _lock = lock(workspace)?;
    let mut state = State::load(&state_file(workspace))?;
    let mut tried = Tried::new();
    let mut found: Vec<Found> = Vec::new();
    for service in Service::ALL {
        found.extend(look(service, &mut state, fresh, &mut tried)?);
    }
    let steps: [ServiceStep; 3] = [start_installed, start_containers, install_and_start];
    for step in steps {
        let missing = missing(&found);
        if !missing.is_empty() {
            found.extend(step(workspace, &mut state, &missing, &mut tried)?);
        }
    }
    let missing = missing(&found);
    if !missing.is_empty() {
        bail!("{}", advice(&missing, &tried));
    }
    found.sort_by_key(|found| found.service);
    for server in &found {
        say(&format!("{}: {}\n", server.service.name(), server.origin));
    }
    Ok(found)
}

/// The variables that tests read.
pub fn variables(found: &[Found]) -> Vec<(&'static str, String)> {
    found.iter().map(|server| (server.service.variable(), server.url.clone())).collect()
}

fn export(found: &[Found]) {
    for (name, url) in variables(found) {
        print(&format!("export {name}='{}'\n", url.replace('\'', "'\\''")));
    }
}

fn missing(found: &[Found]) -> Vec<Service> {
    Service::ALL.into_iter().filter(|service| found.iter().all(|found| found.service != *service)).collect()
}

/// Returns the existing servers: named in the environment, started by us before, or on the standard port.
fn look(service: Service, state: &mut State, fresh: bool, tried: &mut Tried) -> Result<Option<Found>> {
    if !fresh && let Some(found) = named(service, tried) {
        return Ok(Some(found));
    }
    if let Some(own) = state.servers.iter().find(|own| own.service == service).cloned() {
        if own.processes.iter().all(ProcessIdentity::runs) && ask(service, &own.url).is_ok() {
            return Ok(Some(Found { service, url: own.url, origin: "started before, still running".to_owned() }));
        }
        say(&format!("{}: what was started before does not answer any more; it is ended\n", service.name()));
        launch::stop(&own)?;
        state.forget(service)?;
    }
    Ok(if fresh { None } else { standard(service, tried) })
}

/// Step (a): the URL that the environment names. What cannot be checked from here is taken on trust, and said.
fn named(service: Service, tried: &mut Tried) -> Option<Found> {
    let url = std::env::var(service.variable()).ok().filter(|url| !url.is_empty())?;
    match ask(service, &url) {
        Ok(answer) => {
            let note = answer.unchecked.map(|note| format!(" ({note})")).unwrap_or_default();
            Some(Found { service, url, origin: format!("as {} says{note}", service.variable()) })
        }
        Err(error) => {
            let complaint = format!("{} is set, but {error:#}", service.variable());
            say(&format!("{}: {complaint}; looking further\n", service.name()));
            tried.push((service, complaint));
            None
        }
    }
}

/// Step (b): the standard port on loopback.
fn standard(service: Service, tried: &mut Tried) -> Option<Found> {
    let (url, port) = (service.url(service.standard_port()), service.standard_port());
    let refusal = match ask(service, &url) {
        Ok(Answer { version, unchecked: None }) => {
            let origin = format!("{} on its standard port {port}", version.unwrap_or_default());
            return Some(Found { service, url, origin });
        }
        Ok(Answer { unchecked: Some(why), .. }) => why.to_owned(),
        Err(error) => format!("{error:#}"),
    };
    tried.push((service, format!("standard port: {refusal}")));
    None
}

/// Step (c): installed servers, all at once because RabbitMQ takes its time.
fn start_installed(
    workspace: &Workspace,
    state: &mut State,
    wanted: &[Service],
    tried: &mut Tried,
) -> Result<Vec<Found>> {
    let outcomes = {
        let shared = RefCell::new(&mut *state);
        let start = |service| launch::start(workspace, service, |server| shared.borrow_mut().remember(server));
        block_on(async { Ok(join_all(wanted.iter().map(|service| start(*service))).await) })?
    };
    let mut found = Vec::new();
    for (service, outcome) in wanted.iter().copied().zip(outcomes) {
        match outcome {
            Ok(own) => {
                let origin = format!("started by us with data in {}", own.dir.display());
                found.push(Found { service, url: own.url, origin });
            }
            Err(error) => {
                state.forget(service)?;
                tried.push((service, format!("installed: {error:#}")));
            }
        }
    }
    Ok(found)
}

/// Step (d): containers.
fn start_containers(
    workspace: &Workspace,
    state: &mut State,
    wanted: &[Service],
    tried: &mut Tried,
) -> Result<Vec<Found>> {
    let found = |(service, url)| Found { service, url, origin: "a container".to_owned() };
    let outcome = compose::available().and_then(|()| {
        // Noted first: what came up before a failure must be ended as well.
        state.compose = true;
        state.save()?;
        compose::start(workspace, wanted)
    });
    match outcome {
        Ok(urls) => Ok(urls.into_iter().map(found).collect()),
        Err(error) => {
            tried.extend(wanted.iter().map(|service| (*service, format!("docker compose: {error:#}"))));
            if state.compose && compose::stop(workspace).is_ok() {
                state.compose = false;
                state.save()?;
            }
            Ok(Vec::new())
        }
    }
}

/// Step (e): packages.
fn install_and_start(
    workspace: &Workspace,
    state: &mut State,
    wanted: &[Service],
    tried: &mut Tried,
) -> Result<Vec<Found>> {
    if let Err(error) = apt::install(wanted) {
        tried.extend(wanted.iter().map(|service| (*service, format!("packages: {error:#}"))));
        return Ok(Vec::new());
    }
    tried.extend(
        wanted.iter().map(|service| (*service, format!("packages: {} installed; once more:", service.package()))),
    );
    start_installed(workspace, state, wanted, tried)
}

/// The failure: for each server what was tried, and what to do.
fn advice(missing: &[Service], tried: &Tried) -> String {
    let mut text = String::from("tests need servers that are not there:\n");
    for service in missing {
        text.push_str(&format!("  {} ({})\n", service.name(), service.wanted()));
        for (_, why) in tried.iter().filter(|(of, _)| of == service) {
            text.push_str(&format!("    - {}\n", why.trim_end().replace('\n', "\n      ")));
        }
        text.push_str(&format!(
            "    = help: install it (Debian: apt-get install {}), or start docker, or set {} to a server that tests \
             may use\n",
            service.package(),
            service.variable()
        ));
    }
    text
}

/// Ends everything that we started. Servers that were there already stay as they are.
fn down(workspace: &Workspace) -> Result<()> {
    let _lock = lock(workspace)?;
    let mut state = State::load(&state_file(workspace))?;
    if state.servers.is_empty() && !state.compose {
        say("nothing was started by us\n");
    }
    for own in state.servers.clone() {
        launch::stop(&own)?;
        state.forget(own.service)?;
        say(&format!("{}: ended\n", own.service.name()));
        // Removed when it was the last one in it.
        if let Some(base) = own.dir.parent() {
            let _ = std::fs::remove_dir(base);
        }
    }
    if state.compose {
        compose::stop(workspace)?;
        state.compose = false;
        state.save()?;
        say("docker compose: containers and volumes removed\n");
    }
    Ok(())
}

/// Returns the servers that tests would use now, without starting any.
fn status(workspace: &Workspace) -> Result<()> {
    let state = State::load(&state_file(workspace))?;
    for service in Service::ALL {
        let own = state.servers.iter().find(|own| own.service == service);
        let line = match own {
            Some(own) => match ask(service, &own.url) {
                Ok(answer) => format!("{} ({}), started by us", own.url, answer.version.unwrap_or_default()),
                Err(error) => format!("started by us, but {error:#}"),
            },
            None => named(service, &mut Tried::new()).or_else(|| standard(service, &mut Tried::new())).map_or_else(
                || "not there; `cargo xtask services up` starts it".to_owned(),
                |found| format!("{}, {}", shown(&found.url), found.origin),
            ),
        };
        print(&format!("{:<11} {line}\n", service.name()));
    }
    Ok(())
}

/// A URL without its password.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, place))) => format!("{scheme}://…@{place}"),
        _ => url.to_owned(),
    }
}

/// This checkout's folder in the build folder.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("services").join(workspace.key())
}

fn state_file(workspace: &Workspace) -> PathBuf {
    folder(workspace).join("state.json")
}

/// One `services` command of a checkout at a time; the lock ends with the process.
fn lock(workspace: &Workspace) -> Result<File> {
    let folder = folder(workspace);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    if file.try_lock().is_err() {
        say("another `services` command of this checkout runs; waiting for it\n");
        if !wait_until(OTHER_COMMAND, || file.try_lock().is_ok()) {
            bail!("it still runs after {} s; see who holds {}", OTHER_COMMAND.as_secs(), path.display());
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_names_each_server_what_was_tried_and_the_way_out() {
        let tried = vec![
            (Service::Redis, "standard port: nothing listens".to_owned()),
            (Service::Postgres, "standard port: fine".to_owned()),
            (Service::Redis, "installed: no `redis-server`".to_owned()),
        ];
        let text = advice(&[Service::Redis], &tried);
        assert!(
            text.contains("Redis (6.2 or later)\n    - standard port: nothing listens\n    - installed: no"),
            "{text}"
        );
        assert!(text.contains("AGENTRY_TEST_REDIS_URL") && !text.contains("PostgreSQL"), "{text}");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("amqp://guest:secret@h:1/%2f"), "amqp://…@h:1/%2f");
        assert_eq!(shown("redis://h:1"), "redis://h:1");
    }
}
