//! The HTTP API as types, and a client of it.
//!
//! The server answers with these types and its OpenAPI document is made of them; [`Client`] speaks them. A type that ends
//! in `View` is a resource as callers see it: flat and stable, whatever the store keeps.

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
pub use client::{Call, Client, ClientBuilder, Error, EventStream, Refusal, ServerEvent, TaskEvent};
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

/// Dollars as an exact decimal number without the sign of the currency.
#[must_use]
pub fn decimal_usd(amount: NanoUsd) -> String {
    amount.to_string().replacen('$', "", 1)
}
