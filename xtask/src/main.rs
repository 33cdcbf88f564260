//! Project chores: one command for the tests, one for everything else that must hold.
//!
//! `cargo xtask test` and `cargo xtask check` are what `.ci/run` calls; the rest are their parts, to run by themselves.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

mod browser;
mod cluster;
mod deny;
mod deploy;
mod install;
mod layers;
mod loadtest;
mod names;
mod process;
mod prometheus;
mod services;
mod sim;
mod workspace;

const USAGE: &str = "\
Usage: cargo xtask <command> [arguments]

Commands:
  test [ARGS]        layer table, all tests, documentation examples; ARGS go to the test runner
  check              formatting, clippy and rustdoc with warnings denied, layer table, type names, licences and bans,
                     deployment
  services           PostgreSQL, Redis and RabbitMQ for tests: up, down, status
  browser            Chromium and what drives it, for tests of the dashboard
  loadtest           Locust and Artillery, for tests of the scripts in loadtest/
  prometheus         Prometheus and promtool, for tests of alert rules and of the Grafana dashboard
  sim                the orchestrator under seeds: --seeds N --from SEED --jobs N, or --seed SEED --log
  screenshots [DIR]  pictures of every page of the dashboard; --guide: also those of docs/dashboard.md
  cluster            the deployment as processes of this machine: up, scale, status, down
  layers             which crate may use which, against `cargo metadata`
  names              type names that are defined more than once
  deny               licences, bans, sources and advisories of dependencies
  deploy-check       the files under deploy/ against their schemas and against one another
  references         rewrites the checked-in references (OpenAPI, JSON Schema, …) from the code
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let result = match command.as_str() {
        "test" => test(&rest, &[]),
        "check" => check(),
        "services" => services::command(&rest),
        "browser" => browser::command(),
        "loadtest" => loadtest::command(),
        "prometheus" => prometheus::ensure(),
        "sim" => sim::command(&rest),
        "screenshots" => browser::screenshots(&rest),
        "cluster" => cluster::command(&rest),
        "layers" => layers::check(),
        "names" => names::check(),
        "deny" => deny::check(),
        "deploy-check" => deploy::check(),
        "references" => references(&rest),
        "help" | "--help" | "-h" => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        other => {
            complain(&format!("unknown command `{other}`\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The layer table, the servers, the documentation examples, then the tests: nextest's summary is the last thing
/// printed. Servers that were started stay up for the next run; `cargo xtask services down` ends them.
fn test(extra: &[String], env: &[(&str, &str)]) -> Result<()> {
    layers::check()?;
    services::ensure_node();
    let workspace = workspace::Workspace::find()?;
    let servers = services::variables(&services::up(&workspace, false)?);
    let tools = [browser::variables(&workspace)?, loadtest::variables(&workspace)?].concat();
    prometheus::ensure()?;
    let with_env = |command: &mut Command| {
        command.envs(servers.iter().cloned()).envs(tools.iter().cloned()).envs(env.to_vec());
    };
    // Documentation examples are no part of nextest; a selection of tests (extra arguments) leaves them out.
    if has_nextest() {
        if extra.is_empty() {
            let mut examples = cargo();
            with_env(examples.args(["test", "--workspace", "--doc", "--quiet"]));
            run(&mut examples)?;
        }
        let mut tests = cargo();
        with_env(tests.args(["nextest", "run", "--workspace", "--no-fail-fast"]).args(extra));
        return run(&mut tests);
    }
    say("cargo-nextest is not installed: running cargo test (cargo install cargo-nextest --locked is faster)\n");
    let mut tests = cargo();
    with_env(tests.args(["test", "--workspace", "--no-fail-fast"]).args(extra));
    run(&mut tests)
}

fn check() -> Result<()> {
    run(cargo().args(["fmt", "--all", "--check"])).context("formatting differs: run `cargo fmt --all`")?;
    layers::check()?;
    names::check()?;
    deny::check()?;
    deploy::check()?;
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]))?;
    run(cargo().args(["doc", "--workspace", "--no-deps", "--quiet"]).env("RUSTDOCFLAGS", "-Dwarnings"))
}

/// Checked-in references are compared by tests; with `UPDATE_REFERENCES=1` the same tests write them.
fn references(extra: &[String]) -> Result<()> {
    deploy::references()?;
    test(extra, &[("UPDATE_REFERENCES", "1"), ("INSTA_UPDATE", "always")])
}

fn has_nextest() -> bool {
    cargo().args(["nextest", "--version"]).output().is_ok_and(|output| output.status.success())
}

/// The cargo that runs this, without what it told us about the package `xtask`: build scripts that watch those variables
/// (ring's does) would run again, and everything above them, each time cargo is called by hand between two chores.
fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let about_us = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start)) || name == "CARGO_BIN_NAME"
        });
        if about_us {
            command.env_remove(name);
        }
    }
    command
}

/// Runs an asynchronous function of the harness.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot make a runtime")?.block_on(work)
}

/// Runs a command with our terminal; an error names it.
fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    say(&format!("$ {shown}\n"));
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

fn show(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    std::iter::once(name)
        .chain(command.get_args().map(|arg| arg.to_string_lossy().into_owned()))
        .collect::<Vec<_>>()
        .join(" ")
}

#[allow(clippy::print_stderr, reason = "progress of a chore is for the terminal; standard output is the tools'")]
fn say(text: &str) {
    eprint!("{text}");
}

/// Prints to standard output for scripts; a closed pipe is ignored.
fn print(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str) {
    say(&format!("{text}\n"));
}
