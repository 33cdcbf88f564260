//! `cargo xtask cluster`: the services of deploy/compose/compose.yml as processes of this machine, on loopback.
//!
//! The same binary with the same roles against the same servers, so that scaling and stopping can be tried, and
//! tested, where there is no docker daemon.

mod args;
mod pool;
mod replica;
mod state;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentry_lab::{Service, execute};
use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::services;
use crate::workspace::Workspace;
use crate::{block_on, cargo, print, say, show};
use args::{Args, Verb};
pub use pool::{POOLS, Pool};
use state::State;

/// Time between the drain and the kill of a process, to flush logs and close connections.
const STOP_MARGIN: Duration = Duration::from_secs(15);
/// The binary's own default of `drain`, in seconds.
const DRAIN: u64 = 30;

pub const USAGE: &str = "\
Usage: cargo xtask cluster <up | scale | status | down> [arguments]

  up [--scale POOL=N]... [--dir DIR] [--release | --binary FILE] [--fresh] [-- FLAGS]
        builds agentry and starts the deployment: api, scheduler and the pools autonomous, collaborative and
        continuous, one process each unless scaled. FLAGS go to every `agentry serve`, for example `-- --sim`.
        On a running deployment: replaces processes that died, and scales what is named
  scale POOL=N... [--dir DIR]
        more processes, or fewer: those get SIGTERM and the time of a drain, and SIGKILL only after it
  status [--dir DIR]
        every process with its address; fails when one is not ready
  down [--dir DIR] [--volumes]
        ends all of them the same way; --volumes also drops their schema
";

pub fn command(arguments: &[String]) -> Result<()> {
    let args = Args::parse(arguments).with_context(|| format!("cluster\n\n{USAGE}"))?;
    let workspace = Workspace::find()?;
    let dir = match &args.dir {
        Some(dir) => std::path::absolute(dir).with_context(|| dir.display().to_string())?,
        None => workspace.target.join("cluster").join(workspace.key()),
    };
    match args.verb {
        Verb::Help => {
            print(USAGE);
            Ok(())
        }
        Verb::Up => up(&workspace, &dir, &args),
        Verb::Scale => reconcile(&mut existing(&dir)?, &args.scale, grace()?),
        Verb::Status => status(&existing(&dir)?),
        Verb::Down => down(&mut existing(&dir)?, args.volumes, grace()?),
    }
}

/// Brings it up, or back to what was asked for.
fn up(workspace: &Workspace, dir: &Path, args: &Args) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let servers = services::up(workspace, args.fresh)?;
    let binary = match &args.binary {
        Some(file) => std::path::absolute(file).with_context(|| file.display().to_string())?,
        None => build(args.release)?,
    };
    let mut state = State::load(dir)?.unwrap_or_else(|| State::new(dir));
    state.binary = binary;
    state.root.clone_from(&workspace.root);
    state.flags.clone_from(&args.flags);
    state.environment = environment(&servers, dir);
    let mut wanted = Vec::new();
    for pool in POOLS {
        let named = args.scale.iter().find(|(of, _)| *of == pool).map(|(_, count)| *count);
        wanted.push((pool, named.unwrap_or_else(|| state.count(pool).max(1))));
    }
    reconcile(&mut state, &wanted, grace()?)?;
    if let Some(api) = state.replicas.iter().find(|replica| replica.pool.word == "api") {
        print(&format!("export AGENTRY_URL='{}'\n", api.url));
    }
    Ok(())
}

/// The settings that every process gets: where the servers are, and names that no other deployment uses.
fn environment(servers: &[services::Found], dir: &Path) -> BTreeMap<String, String> {
    let name = state::name_of(dir);
    let url = |service| servers.iter().find(|server| server.service == service).map(|server| server.url.clone());
    let setting = |key: &str, value: Option<String>| value.map(|value| (key.to_owned(), value));
    [
        setting("AGENTRY_POSTGRES_URL", url(Service::Postgres)),
        setting("AGENTRY_REDIS_URL", url(Service::Redis)),
        setting("AGENTRY_RABBITMQ_URL", url(Service::Rabbitmq)),
        setting("AGENTRY_POSTGRES_SCHEMA", Some(name.clone())),
        setting("AGENTRY_RABBITMQ_PREFIX", Some(name)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Starts and ends processes until every named pool has as many as wanted; the others stay as they are.
fn reconcile(state: &mut State, wanted: &[(&'static Pool, u32)], grace: Duration) -> Result<()> {
    let dead: Vec<String> = state.drop_dead().iter().map(replica::Replica::name).collect();
    if !dead.is_empty() {
        say(&format!("died since the last look: {}\n", dead.join(", ")));
    }
    for (pool, count) in wanted {
        let surplus = state.surplus(pool, *count);
        stop(state, surplus, grace)?;
    }
    let mut started = Vec::new();
    for (pool, count) in wanted {
        for index in state.free_indexes(pool, *count) {
            let replica = replica::start(state, pool, index)?;
            started.push(replica.name());
            // Remembered before it is waited for: it can be ended even when this command is interrupted.
            state.replicas.push(replica);
            state.save()?;
        }
    }
    replica::await_ready(state, &started)?;
    for replica in &state.replicas {
        say(&format!("{:<28} {} (process {})\n", replica.name(), replica.url, replica.process.id));
    }
    Ok(())
}

/// Ends these, all at once, and forgets them.
fn stop(state: &mut State, surplus: Vec<replica::Replica>, grace: Duration) -> Result<()> {
    replica::stop_all(&surplus, grace);
    state.replicas.retain(|replica| surplus.iter().all(|gone| gone.process != replica.process));
    state.save()
}

fn status(state: &State) -> Result<()> {
    let mut bad = Vec::new();
    for replica in &state.replicas {
        let condition = replica.condition();
        print(&format!("{:<28} {:<24} {:>8} {condition}\n", replica.name(), replica.url, replica.process.id));
        if condition != "ready" {
            bad.push(replica.name());
        }
    }
    if !bad.is_empty() {
        bail!("not ready: {}; logs are in {}", bad.join(", "), state.logs().display());
    }
    Ok(())
}

fn down(state: &mut State, volumes: bool, grace: Duration) -> Result<()> {
    let all = state.replicas.clone();
    stop(state, all, grace)?;
    if volumes {
        let (Some(url), Some(schema)) =
            (state.setting("AGENTRY_POSTGRES_URL"), state.setting("AGENTRY_POSTGRES_SCHEMA"))
        else {
            bail!("{} does not say which schema it used", state.file().display());
        };
        block_on(async { Ok(execute(url, &format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")).await?) })?;
        say(&format!("schema {schema} dropped\n"));
    }
    state.remove()
}

fn existing(dir: &Path) -> Result<State> {
    State::load(dir)?
        .with_context(|| format!("no deployment in {}: `cargo xtask cluster up` starts one", dir.display()))
}

/// The drain that the processes were told, or their default, and a margin.
fn grace() -> Result<Duration> {
    let drain = match std::env::var("AGENTRY_DRAIN") {
        Ok(text) => text.parse().with_context(|| format!("AGENTRY_DRAIN is `{text}`, not a number of seconds"))?,
        Err(_) => DRAIN,
    };
    Ok(Duration::from_secs(drain) + STOP_MARGIN)
}

/// Builds the binary; where it is.
fn build(release: bool) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--package", "agentry", "--message-format", "json-render-diagnostics"]);
    if release {
        command.arg("--release");
    }
    say(&format!("$ {}\n", show(&command)));
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cargo build")?;
    if !output.status.success() {
        bail!("`{}` failed ({})", show(&command), output.status);
    }
    executable_in(&String::from_utf8_lossy(&output.stdout)).context("cargo build made no executable")
}

/// The last executable that cargo's messages name.
fn executable_in(messages: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\nnoise\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/debug/agentry\"}\n{\"success\":true}\n";
        assert_eq!(executable_in(messages), Some(PathBuf::from("/t/debug/agentry")));
        assert_eq!(executable_in(""), None);
    }
}
