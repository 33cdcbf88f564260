//! Load: who asks what and when.
//!
//! An *open* loop by default: the moments of arrival follow from a seed alone, whatever the answers do. A latency counts
//! from the moment that was meant; the time from the moment it was really sent is kept beside it. A send that starts
//! late is counted, never dropped, and too many of them make the run invalid.
//!
//! One thread drives everything: a timer of the kernel says when the next request is due, `epoll` which answers came.
//! Nothing is handed from thread to thread between the due moment and the send.

mod arrivals;
mod caller;
pub mod clock;
mod connection;
mod engine;
mod live;
mod record;
mod wire;

pub use crate::stats::histogram;
pub use arrivals::{Arrivals, Spacing};
pub use caller::{Answer, Caller, Fixed, Outcome, by_status};
pub use engine::{Load, LoadError, Pace, Running, start};
pub use live::Live;
pub use record::{Recording, Second};
pub use wire::{get, post, put_post};
