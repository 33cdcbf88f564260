//! The cluster engine under faults, from outside: the real binary in the roles of a deployment, on PostgreSQL, RabbitMQ
//! and Redis servers of this test's own, which it stops, kills, freezes, wipes and cuts off while tasks come in.
//!
//! After every fault the same must hold, see [`judge`]: what was accepted ended exactly once, no answer that was
//! journaled was bought twice, conversations are in order, slots fired once; and the rate came back, see [`test_cluster`].

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail the test, and say what they measured"
)]

mod deployment;
mod edges;
mod file_matrix;
mod files_differ;
mod foreign;
mod freezes;
mod http;
#[path = "../common/invariants.rs"]
mod invariants;
mod judge;
mod load;
mod rolling;
mod schedulers_die;
mod servers_fail;
mod slow_claims;
mod test_cluster;
mod wait;
mod workers_die;
