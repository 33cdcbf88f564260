//! Tools with a ledger of their own: every attempt, its effect, and its answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_core::agent::AgentSpec;
use agentry_core::chat::ToolDefinition;
use agentry_core::id::TaskId;
use agentry_store::StateStore;
use agentry_testkit::{FaultCounts, SeededRng};
use agentry_tools::{Invocation, ToolBox, ToolError, ToolOutput};
use async_trait::async_trait;
use serde_json::json;

/// Maximum latency of a tool without a fault.
const MAX_LATENCY: Duration = Duration::from_millis(300);

/// An attempt of a call. The model's script gives every call of a task different arguments, whatever its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    pub task: TaskId,
    pub tool: String,
    pub arguments: String,
    pub key: String,
    /// The task's attempt at the time.
    pub attempt: u32,
    /// True if the attempt had its effect, or found it done under its key.
    pub done: bool,
}

/// The injected result of an attempt.
enum Fate {
    Answered,
    Refused,
    TurnedAway,
    AnswerLost,
    LostBefore,
    Hangs,
}

/// Tools that act once for each idempotency key.
pub struct ScriptedTools {
    dice: SeededRng,
    store: Arc<dyn StateStore>,
    faulty: AtomicBool,
    tries: Arc<Mutex<Vec<Try>>>,
    pub counts: FaultCounts,
}

/// Returns the output of a tool for a call.
pub fn result_of(tool: &str, arguments: &str) -> String {
    format!("done by {tool} with {arguments}")
}

impl ScriptedTools {
    /// `store` provides the attempt of a task; it is read without faults.
    pub fn new(dice: SeededRng, store: Arc<dyn StateStore>) -> Arc<Self> {
        Arc::new(Self { dice, store, faulty: true.into(), tries: Arc::default(), counts: FaultCounts::default() })
    }

    pub fn set_faulty(&self, faulty: bool) {
        self.faulty.store(faulty, Ordering::SeqCst);
    }

    pub fn tries(&self) -> Vec<Try> {
        self.tries.lock().expect("tools").clone()
    }

    fn fate(&self) -> Fate {
        if !self.faulty.load(Ordering::SeqCst) {
            return Fate::Answered;
        }
        let (name, fate) = match self.dice.below(100) {
            0..10 => ("tool.refused", Fate::Refused),
            10..18 => ("tool.turned_away", Fate::TurnedAway),
            18..34 => ("tool.answer_lost", Fate::AnswerLost),
            34..40 => ("tool.lost_before", Fate::LostBefore),
            40..46 => ("tool.hung", Fate::Hangs),
            _ => return Fate::Answered,
        };
        self.counts.add(name);
        fate
    }

    async fn begin(&self, invocation: &Invocation<'_>) -> usize {
        let record = self.store.task(invocation.task).await.expect("a read").expect("a task that is executed");
        let new = Try {
            task: invocation.task,
            tool: invocation.call.name.clone(),
            arguments: invocation.call.arguments.clone(),
            key: invocation.idempotency_key.clone(),
            attempt: record.attempt,
            done: false,
        };
        let mut tries = self.tries.lock().expect("tools");
        tries.push(new);
        tries.len() - 1
    }

    fn up_to(&self, most: Duration) -> Duration {
        Duration::from_micros(self.dice.below(u64::try_from(most.as_micros()).expect("short")))
    }
}

#[async_trait]
impl ToolBox for ScriptedTools {
    async fn definitions(&self, spec: &AgentSpec) -> Vec<ToolDefinition> {
        let definition = |name: &str| ToolDefinition {
            name: name.to_owned(),
            description: "A tool of the test.".to_owned(),
            parameters: json!({"type": "object"}),
        };
        spec.tools.iter().map(|tool| definition(&tool.name)).collect()
    }

    fn trouble(&self, _spec: &AgentSpec) -> Option<String> {
        None
    }

    async fn invoke(&self, invocation: Invocation<'_>) -> Result<ToolOutput, ToolError> {
        let number = self.begin(&invocation).await;
        let tool = invocation.call.name.clone();
        let unknown = |reason: &str| ToolError::Unknown { tool: tool.clone(), reason: format!("injected: {reason}") };
        let latency = self.up_to(MAX_LATENCY);
        match self.fate() {
            Fate::Refused => {
                Err(ToolError::Unavailable { tool: tool.clone(), reason: "injected: connection refused".to_owned() })
            }
            Fate::TurnedAway => {
                tokio::time::sleep(latency).await;
                Ok(ToolOutput { text: "injected: overloaded".to_owned(), is_error: true, is_refusal: true })
            }
            Fate::LostBefore => {
                tokio::time::sleep(latency).await;
                Err(unknown("the connection was lost before the call arrived"))
            }
            Fate::Hangs => {
                // The receiver continues after its caller has gone.
                let (tries, when) = (Arc::clone(&self.tries), self.up_to(Duration::from_secs(4)));
                tokio::spawn(async move {
                    tokio::time::sleep(when).await;
                    tries.lock().expect("tools")[number].done = true;
                });
                tokio::time::sleep(Duration::from_millis(invocation.tool.timeout_ms)).await;
                Err(unknown("no answer in time"))
            }
            Fate::AnswerLost => {
                tokio::time::sleep(latency / 2).await;
                self.tries.lock().expect("tools")[number].done = true;
                tokio::time::sleep(latency / 2).await;
                Err(unknown("the answer was lost"))
            }
            Fate::Answered => {
                tokio::time::sleep(latency / 2).await;
                self.tries.lock().expect("tools")[number].done = true;
                tokio::time::sleep(latency / 2).await;
                let text = result_of(&tool, &invocation.call.arguments);
                Ok(ToolOutput { text, is_error: false, is_refusal: false })
            }
        }
    }
}
