//! The HTTP API as types, and a client of it.
//!
//! The server, its OpenAPI document and [`Client`] use these types. A type whose name ends in `View` is the public
//! representation of a resource, independent of the store.

mod access;
mod agents;
mod client;
mod events;
mod list;
mod overview;
mod people;
mod problem;
mod schedules;
mod server;
mod sessions;
mod tasks;
mod usage;

use agentry_core::money::NanoUsd;

pub use access::*;
pub use agents::*;
pub use client::{ApiCall, ApiRefusal, Client, ClientBuilder, Error, EventStream, ServerEvent, TaskEvent};
pub use events::*;
pub use list::*;
pub use overview::*;
pub use people::*;
pub use problem::*;
pub use schedules::*;
pub use server::*;
pub use sessions::*;
pub use tasks::*;
pub use usage::*;

/// Returns an amount as an exact decimal number, without the currency sign.
#[must_use]
pub fn decimal_usd(amount: NanoUsd) -> String {
    amount.to_string().replacen('$', "", 1)
}
