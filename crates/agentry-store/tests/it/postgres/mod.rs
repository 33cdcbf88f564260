//! Guarantees of PostgreSQL only: many processes on one database.

mod concurrency;
mod liveness;
mod processes;
