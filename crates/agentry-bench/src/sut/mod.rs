//! What is under test: the shipped binary in processes of the run's own, the simulators beside it, and the servers that
//! the cluster engine needs. Processes and servers are those of `agentry_lab`.

pub mod api;
mod deployment;
pub mod fleet;

pub use agentry_lab::{LabError as SutError, Member, Servers};
pub use api::Api;
pub use deployment::{Deployment, Llm, Plan, SLACK_SECRET, roles};

/// Where the servers of the cluster engine are.
pub mod servers {
    pub use agentry_lab::Urls;
}
