//! The verbs that read and act on a server: each is one or two requests and a table.

mod access;
mod fleet;
mod people;
mod profile;
mod reconcile;
mod schedules;
mod work;

pub use work::answer;

use reqwest::Method;
use serde_json::Value;

use crate::cli::{Act, Command, Reading, Server, UsageVerb};
use crate::failure::Failure;
use crate::out;
use crate::render::{self, Column};

/// Rows of a list without a limit of its own.
const LIST_LIMIT: usize = 10_000;

/// Carries out a verb.
///
/// # Errors
/// When the server is not there or refuses.
pub async fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Agents(args) => fleet::agents(&args).await,
        Command::Workers(reading) => fleet::workers(&reading).await,
        Command::Usage(args) => match &args.command {
            Some(UsageVerb::Reconcile(file)) => reconcile::reconcile(file).await,
            None => fleet::usage(&args).await,
        },
        Command::LogLevel(args) => fleet::log_level(&args).await,
        Command::Keys(verb) => access::keys(verb).await,
        Command::Profile(args) => profile::profile(&args).await,
        Command::Schedules(verb) => schedules::schedules(verb).await,
        Command::Tasks(verb) => work::tasks(verb).await,
        Command::Sessions(verb) => work::sessions(verb).await,
        Command::Events(args) => work::events(args.command).await,
        Command::Clarifications(verb) => people::clarifications(verb).await,
        Command::DeadLetters(verb) => people::dead_letters(verb).await,
        _ => Err(Failure::new("this verb does not read a server")),
    }
}

/// A list in the format asked for.
async fn list(reading: &Reading, path: &[&str], columns: &[Column], empty: &str) -> Result<(), Failure> {
    let rows = reading.server.client()?.list(path, &[], LIST_LIMIT).await?;
    render::rows(reading.output, &rows, columns, empty)
}

/// A request without a body, and a line that says what was done.
async fn act(args: &Act, method: Method, path: &[&str], done: &str) -> Result<(), Failure> {
    args.server.client()?.send(method, path, None).await?;
    out::line(&format!("{} {done}", args.id))
}

async fn send(server: &Server, method: Method, path: &[&str], body: &Value) -> Result<Value, Failure> {
    server.client()?.send(method, path, Some(body)).await
}

/// Text that may be JSON: then it is, else a string.
fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}
