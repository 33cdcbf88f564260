//! The system under test: the shipped binary in processes of the run's own, the simulators beside it, and the servers of
//! the cluster engine. Processes and servers are those of `agentry_lab`.

mod api;
mod deployment;
pub mod fleet;

pub use agentry_lab::{Member, Servers};
pub use api::{Api, unreachable};
pub use deployment::{Deployment, Llm, Plan, SLACK_SECRET};
