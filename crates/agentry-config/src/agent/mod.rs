//! One agent file: text to checked spec.

mod check;
mod file;
mod import;
mod leaf;
mod raw;
mod read;
mod record;
mod schedule;
mod schema;
mod tool;

pub(crate) use file::{Environment, ParsedFile, Scratch, parse_file, parse_text, process_environment};
pub use import::{Imported, import_text};
pub use schema::agent_file_schema;
