//! One agent file: text to checked spec.

mod check;
#[cfg(test)]
mod disclosure;
mod file;
mod import;
mod leaf;
mod model;
mod raw;
mod read;
mod record;
mod schedule;
mod schema;
mod tool;

pub(crate) use file::{
    Environment, NamedAgent, ParsedFile, Scratch, no_environment, parse_file, parse_text, process_environment,
};
pub use import::{ImportResult, import_text};
pub use schema::agent_file_schema;
