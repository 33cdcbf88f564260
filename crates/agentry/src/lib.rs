//! Agentry: a fleet of LLM agents in one binary. From the command line to an exit code.

mod access;
mod bench;
mod cli;
mod client;
mod cluster;
mod demo;
mod doctor;
mod engine;
mod failure;
mod first_keys;
mod import;
mod log;
mod migrate;
mod models;
mod out;
mod platform;
mod providers;
mod render;
mod run;
mod serve;
mod servers;
mod settings;
mod sim;
mod slack;
mod tape;
mod tls;
mod top;
mod traces;
mod validate;
mod verbs;
mod vitals;
mod yaml;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, CliCommand};
use failure::Failure;

pub use engine::{StoreLayer, set_store_layer};

/// The program: reads the command line and does what it says.
pub fn main() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command),
        Err(error) => usage(&error),
    };
    let Err(failure) = ended else { return ExitCode::SUCCESS };
    if let Some(text) = failure.text(out::colour_err()) {
        out::eprint(&text);
    }
    ExitCode::from(failure.exit_code())
}

/// Help and version go to standard output; everything else that clap says is a usage error.
fn usage(error: &clap::Error) -> Result<(), Failure> {
    if error.use_stderr() {
        let text = error.to_string();
        return Err(Failure::usage(text.trim_start_matches("error: ").trim_end()));
    }
    out::print(&error.to_string())
}

fn dispatch(command: CliCommand) -> Result<(), Failure> {
    match command {
        CliCommand::Validate(args) => validate::validate(&args.paths),
        CliCommand::Models(args) => models::models(&args),
        CliCommand::Schema => validate::schema(),
        CliCommand::Import(args) => import::import(&args),
        CliCommand::Bench(command) => bench::bench(&command),
        CliCommand::Serve(args) => runtime()?.block_on(serve::serve(*args)),
        CliCommand::Run(args) => runtime()?.block_on(run::run(args)),
        CliCommand::Demo(args) => runtime()?.block_on(demo::demo(&args)),
        CliCommand::Doctor(args) => runtime()?.block_on(doctor::doctor(&args)),
        CliCommand::Migrate(args) => runtime()?.block_on(migrate::migrate(args)),
        CliCommand::Sim(cli::SimCommand::Llm(args)) => runtime()?.block_on(sim::llm(args)),
        CliCommand::Sim(cli::SimCommand::Slack(args)) => runtime()?.block_on(sim::slack(args)),
        CliCommand::Top(args) => runtime()?.block_on(top::top(&args)),
        CliCommand::Sim(cli::SimCommand::Send(args)) => runtime()?.block_on(sim::send(args)),
        reading => runtime()?.block_on(verbs::dispatch(reading)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        Failure::new(format!("cannot start the runtime: {error}")).help("check `ulimit -u` and memory")
    })
}
