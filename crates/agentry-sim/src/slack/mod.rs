//! The Slack simulator: the Web API, `response_url`s, and a sending side that a control API moves.

mod aftermath;
mod api;
mod args;
mod blocks;
mod control;
mod delivery;
mod fault;
mod ledger;
mod message;
mod options;
mod payload;
mod rates;
mod response_url;
mod server;
mod settings;
mod show;
mod sign;
mod world;

pub use fault::{FaultRule, SlackFault};
pub use ledger::SlackStats;
pub use options::{ACK_TIMEOUT, SlackOptions, Team};
pub use server::SlackSim;
