//! LLM providers: one port, one thin client for each wire protocol, one taxonomy of errors.
//!
//! [`LlmProvider`] makes one call; [`Providers`] holds all clients of a process and adds what a single call does not
//! have: retries with backoff, fallback models, and a bound on calls in flight.

mod backoff;
mod error;
pub mod openai;
mod outcome;
mod pool;
mod port;
mod replay;
pub mod simulated;

pub use error::{LlmError, LlmErrorKind};
pub use outcome::{Abort, Attempt, ChatError, ChatOutcome, Hooks};
pub use pool::{Endpoints, MAX_CONCURRENT_CALLS, Providers};
pub use port::{Call, LlmProvider, Timed, TokenSink};
pub use replay::{Recorded, Replayed};
