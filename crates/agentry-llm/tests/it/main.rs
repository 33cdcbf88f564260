//! The clients and the pool against the simulator, over sockets. One binary, so that it is linked once.
#![allow(clippy::unwrap_used, reason = "a test may panic, also in its helpers")]

mod botocore;
mod chat;
mod common;
mod contract;
mod dialect;
mod limits;
mod oddities;
mod openai;
mod server;
mod simulator;
