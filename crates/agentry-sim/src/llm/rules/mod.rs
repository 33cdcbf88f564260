//! What providers refuse, read from their documentation on 2026-11-30: parameters by model, schemas, fields.
//!
//! This is a reading of its own. It shares nothing with the tables of the clients, so that an error of one shows.

pub(super) mod claude;
pub(super) mod fields;
pub(super) mod gpt;
pub(super) mod model;
pub(super) mod schema;
