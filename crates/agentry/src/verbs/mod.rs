//! The verbs that read and act on a server: each is one or two requests and a table.

mod access;
mod fleet;
mod people;
mod profile;
mod reconcile;
mod schedules;
mod work;

pub use work::answer;

use agentry_api::{Call, List};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::{CliCommand, ReadArgs, TargetArgs, UsageCommand};
use crate::failure::Failure;
use crate::out;
use crate::render::{self, Column, Format};

/// Rows of a list without a limit of its own.
const LIST_LIMIT: usize = 10_000;

/// Carries out a verb.
///
/// # Errors
/// When the server is not there or refuses.
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

/// Prints the first `limit` rows of a list in the format asked for; programs get all fields, those of a newer server too.
async fn list<T: DeserializeOwned + Send + 'static>(
    reading: &ReadArgs,
    call: Call<List<T>>,
    limit: usize,
    columns: &[Column<T>],
    empty: &str,
) -> Result<(), Failure> {
    match reading.output {
        Format::Table => render::rows(&call.all(limit).await?, columns, empty),
        format => render::document(format, &call.answered_as::<List<Value>>().all(limit).await?),
    }
}

/// Prints one thing with all its fields.
async fn show<T>(reading: &ReadArgs, call: Call<T>) -> Result<(), Failure> {
    render::document(reading.output, &call.answered_as::<Value>().await?)
}

/// Sends a request, and prints a line that says what was done.
async fn act<T>(args: &TargetArgs, call: Call<T>, done: &str) -> Result<(), Failure> {
    call.success().await?;
    out::line(&format!("{} {done}", args.id))
}

/// Text that may be JSON: then it is, else a string.
fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
