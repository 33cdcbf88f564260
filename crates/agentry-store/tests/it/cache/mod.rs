//! The cache over the SQLite store and a real Redis: races, and Redis failing.

pub mod behind;
mod faults;
mod races;
mod reads;
mod server;
