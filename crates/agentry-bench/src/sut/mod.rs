//! What is under test: the shipped binary in processes of our own, the simulators that witness what it does, and the
//! servers that the cluster engine needs. Everything is known by its process id and ends with the value that holds it,
//! also when the run is interrupted.

pub mod api;
mod child;
mod deployment;
mod error;
pub mod fleet;
pub mod servers;

pub use api::Api;
pub use child::{Child, Ended};
pub use deployment::{Deployment, Llm, Member, Plan, SLACK_SECRET, roles};
pub use error::SutError;
pub use servers::Servers;
