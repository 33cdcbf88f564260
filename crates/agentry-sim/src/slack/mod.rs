//! The Slack simulator: the Web API, `response_url`s, and deliveries that a control API triggers.

mod api;
mod args;
mod blocks;
mod control;
mod delivery;
mod fault;
mod follow_up;
mod ledger;
mod message;
mod options;
mod payload;
mod queries;
mod rates;
mod response_url;
mod server;
mod settings;
mod sign;
mod workspaces;

pub use fault::{FaultRule, SlackFault};
pub use ledger::SlackStats;
pub use options::{ACK_TIMEOUT, SlackOptions, Team};
pub use server::SlackSim;
