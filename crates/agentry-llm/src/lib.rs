//! LLM providers: one port, one thin client per wire protocol, one error taxonomy.
//!
//! [`LlmProvider`] makes one call; [`Providers`] holds all clients of a process and adds retries with backoff, fallback
//! models, circuit breakers, limits, metrics, and a bound on calls in flight.

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
pub use limits::{
    Buckets, InvalidRedisUrl, Limit, LimitDecision, LimitRequest, LimitRule, MemoryBuckets, RedisBuckets,
};
pub use outcome::{Abort, Attempt, ChatError, ChatOutcome, Hooks};
pub use pool::{MAX_CONCURRENT_CALLS, Providers};
pub use port::{Call, LlmProvider, TimedReply, TokenSink};
pub use replay::{RecordingProvider, ReplayProvider};
pub use wire::{MAX_BODY_BYTES, Timeouts};
