//! The ingress of Agentry: the only way to create or change work.
//!
//! Every request (HTTP, Slack, a slot of a schedule, an event, a person's answer) becomes a call of [`Intake`], which
//! resolves the agents of the deployment, creates the tasks ([`Task::new`](agentry_core::task::Task::new)), lets the
//! store accept them durably, and only then wakes a worker. A successful result is reliable: all messages that follow
//! from the call are in the outbox already.
//!
//! ```text
//! submit  publish  fire  trigger  backfill  replay      make tasks
//! cancel  answer                                        change them
//! ```

mod answers;
mod cancel;
mod deployment;
mod entropy;
mod events;
mod intake;
mod refusal;
mod replay;
mod slots;
mod submit;

pub use answers::{AnswerRefused, ResolvedQuestion, is_open};
pub use cancel::CancelOutcome;
pub use deployment::{Authority, Deployment};
pub use entropy::{Entropy, OsEntropy};
pub use events::{Audience, PublishError, Published};
pub use intake::{Intake, IntakeDeps};
pub use refusal::{Refusal, UnavailableAgent};
pub use replay::{ReplayError, Replayed};
pub use slots::{DueSlot, FiredSlot};
pub use submit::{Order, Prepared, SubmitResult};
