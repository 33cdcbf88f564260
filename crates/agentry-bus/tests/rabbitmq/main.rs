//! The bus on a real RabbitMQ: the contract of the port, several processes, foreign clients, outages.
//!
//! The broker is `AGENTRY_TEST_RABBITMQ_URL`, or else the one on this machine. Every test uses names of its own.

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
