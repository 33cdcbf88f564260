//! The commands that use a server: each sends one or two requests and prints a table.

mod access;
mod fleet;
mod people;
mod profile;
mod reconcile;
mod schedules;
mod work;

pub use work::answer;

use agentry_api::{ApiCall, List};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::{CliCommand, ReadArgs, TargetArgs, UsageCommand};
use crate::failure::Failure;
use crate::out;
use crate::render::{self, OutputFormat, TableColumn};

/// Rows of a list without a limit of its own.
const LIST_LIMIT: usize = 10_000;

/// Runs a command.
pub async fn dispatch(command: CliCommand) -> Result<(), Failure> {
    match command {
        CliCommand::Agents(args) => fleet::agents(&args).await,
        CliCommand::Workers(reading) => fleet::workers(&reading).await,
        CliCommand::Usage(args) => match &args.command {
            Some(UsageCommand::Reconcile(file)) => reconcile::reconcile(file).await,
            None => fleet::usage(&args).await,
        },
        CliCommand::LogLevel(args) => fleet::log_level(&args).await,
        CliCommand::Keys(verb) => access::keys(verb).await,
        CliCommand::Profile(args) => profile::profile(&args).await,
        CliCommand::Schedules(verb) => schedules::schedules(verb).await,
        CliCommand::Tasks(verb) => work::tasks(verb).await,
        CliCommand::Sessions(verb) => work::sessions(verb).await,
        CliCommand::Events(args) => work::events(args.command).await,
        CliCommand::Clarifications(verb) => people::clarifications(verb).await,
        CliCommand::DeadLetters(verb) => people::dead_letters(verb).await,
        _ => Err(Failure::new("this verb does not read a server")),
    }
}

/// Prints the first `limit` rows of a list; JSON and YAML have all fields, including those of newer servers.
async fn list<T: DeserializeOwned + Send + 'static>(
    reading: &ReadArgs,
    call: ApiCall<List<T>>,
    limit: usize,
    columns: &[TableColumn<T>],
    empty: &str,
) -> Result<(), Failure> {
    match reading.output {
        OutputFormat::Table => render::rows(&call.all(limit).await?, columns, empty),
        format => render::document(format, &call.answered_as::<List<Value>>().all(limit).await?),
    }
}

/// Prints a reply with all its fields.
async fn show<T>(reading: &ReadArgs, call: ApiCall<T>) -> Result<(), Failure> {
    render::document(reading.output, &call.answered_as::<Value>().await?)
}

/// Sends a request and prints a line about the result.
async fn act<T>(args: &TargetArgs, call: ApiCall<T>, done: &str) -> Result<(), Failure> {
    call.success().await?;
    out::line(&format!("{} {done}", args.id))
}

/// Parses a text as JSON, or returns it as a string.
fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
