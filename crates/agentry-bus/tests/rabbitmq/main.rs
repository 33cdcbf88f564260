//! The bus on a real RabbitMQ: the contract of the port, several processes, foreign clients, outages.
//!
//! The broker is `AGENTRY_TEST_RABBITMQ_URL`, else the one on this machine. Every test has names of its own on it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a panic is how a test fails; it says how long an outage took"
)]

mod broker;
mod connect;
mod events;
mod outage;
mod own_broker;
mod proxy;
mod support;
mod wakes;
mod watching;
