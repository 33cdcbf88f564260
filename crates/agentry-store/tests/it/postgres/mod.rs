//! What only PostgreSQL promises: many processes on one database.

mod concerns;
mod liveness;
mod processes;
