//! The cache over the SQLite store and a real Redis: races, and failures of Redis.

mod faults;
pub mod fixtures;
mod races;
mod reads;
mod server;
