//! The one harness for everything that runs the platform from outside: the validation suite, the tests of the cluster
//! engine, the demo, and `cargo xtask`.
//!
//! It knows processes (started, signalled, waited for, ended by their own id), the servers PostgreSQL, RabbitMQ and
//! Redis (found, or started in a folder), a TCP proxy that injects faults, and a deployment of roles over them. A
//! process or server ends with the value that holds it, unless it is detached.

mod address;
mod deployment;
mod error;
mod probe;
mod process;
mod program;
mod proxy;
mod server;
mod service;
mod shape;

pub use address::Address;
pub use deployment::{Deployment, Instance, Member, Program};
pub use error::LabError;
pub use probe::{Answer, execute, probe};
pub use process::{Exit, Process, ProcessGroup, ProcessIdentity, tail, until};
pub use program::{find_executable, free_port, is_root, loopback, numbers};
pub use proxy::{Counters, FaultProxy};
pub use rustix::process::Signal;
pub use server::{Frozen, Server, ServerDir, Servers, Urls, account_for};
pub use service::Service;
pub use shape::{Direction, Shape};
