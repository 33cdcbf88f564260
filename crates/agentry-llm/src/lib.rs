//! LLM providers: one port, one thin client for each wire protocol, one taxonomy of errors.
//!
//! [`LlmProvider`] makes one call; [`Providers`] holds all clients of a process and adds what a single call does not
//! have: retries with backoff, fallback models, breakers, limits, measurements, and a bound on calls in flight.

mod anthropic;
mod backoff;
mod bedrock;
mod breaker;
mod endpoints;
mod error;
mod limits;
mod metrics;
mod ollama;
mod openai;
mod outcome;
mod pool;
mod port;
mod replay;
pub mod simulated;
#[cfg(test)]
mod test_call;
mod wire;

pub use bedrock::AwsEnvironment;
pub use endpoints::Endpoints;
pub use error::{LlmError, LlmErrorKind};
pub use limits::{Buckets, InvalidRedisUrl, Limit, LimitRule, MemoryBuckets, RedisBuckets, Taken, Wanted};
pub use outcome::{Abort, Attempt, ChatError, ChatOutcome, Hooks};
pub use pool::{MAX_CONCURRENT_CALLS, Providers};
pub use port::{Call, LlmProvider, Timed, TokenSink};
pub use replay::{Recorded, Replayed};
pub use wire::{MAX_BODY_BYTES, Timeouts};
