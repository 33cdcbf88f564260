//! The endpoints, one module per resource.

pub(crate) mod agents;
pub(crate) mod backfill;
pub(crate) mod batch;
pub(crate) mod bench;
pub(crate) mod clarifications;
pub(crate) mod dead_letters;
pub(crate) mod deployment;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod heap;
pub(crate) mod keys;
pub(crate) mod log;
pub(crate) mod me;
pub(crate) mod overview;
pub(crate) mod page;
pub(crate) mod profile;
pub(crate) mod request;
pub(crate) mod schedules;
pub(crate) mod scrape;
pub(crate) mod sessions;
pub(crate) mod tasks;
pub(crate) mod usage;
pub(crate) mod validate;
pub(crate) mod views;
pub(crate) mod workers;
