//! The load generator.
//!
//! A load is an *open* loop by default: the moments of arrival follow from a seed alone. A latency counts from the
//! intended moment; the time from the actual send is kept beside it. A send that starts
//! late is counted, never dropped, and too many of them make the run invalid.
//!
//! One thread drives everything, with a timer of the kernel for the next request and `epoll` for answers.
//! Nothing is handed from thread to thread between the due moment and the send.

mod arrivals;
mod caller;
pub(crate) mod clock;
mod connection;
mod engine;
mod live;
mod record;
mod wire;

pub(crate) use arrivals::Spacing;
pub use caller::Fixed;
pub(crate) use caller::{Answer, Caller, Outcome, by_status};
pub use engine::{Load, start};
pub(crate) use engine::{LoadError, LoadHandle, LoadModel};
pub(crate) use live::Live;
pub(crate) use record::{Recording, Second};
pub(crate) use wire::put_post;
pub use wire::{get, post};
