//! Drives one agent loop: executes its next action, journals it, and feeds back the result.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentry_bus::Signal;
use agentry_core::agent::{AgentSpec, OnUnknown, ToolSpec};
use agentry_core::agent_loop::{ASK_HUMAN, AgentLoop, LoopConfig, MAX_TURNS, Next, PendingCall};
use agentry_core::answer::OutputForm;
use agentry_core::chat::{ChatReply, ChatRequest, Message, ToolCall, Usage};
use agentry_core::clarification::Clarification;
use agentry_core::id::{CallId, TaskId};
use agentry_core::journal::{JournalBody, Scope};
use agentry_core::models::Traits;
use agentry_core::money::{CallStatus, LedgerRow, NanoUsd};
use agentry_core::retry::RetryPolicy;
use agentry_core::task::{ErrorCode, TaskError};
use agentry_core::trace::SpanContext;
use agentry_llm::{Abort, Attempt, Call, Hooks, TokenSink};
use agentry_tools::{Invocation, ToolError, ToolOutput};
use async_trait::async_trait;
use futures_util::future::try_join_all;
use serde_json::Value;
use tracing::Instrument as _;

use crate::budget;
use crate::context::lock;
use crate::run::{Run, Stop};
use crate::slack::{StreamPreview, place_of_questions};
use crate::spans;

/// The state in which a loop stopped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LoopEnd {
    /// Ended with an output or an error.
    Done(Result<Value, TaskError>),
    /// Waiting for humans.
    Paused,
}

/// Retries of a tool call whose outcome is unknown (`on_unknown: retry`): five within 16 s, enough for a server that
/// restarts.
const UNKNOWN_OUTCOME: RetryPolicy =
    RetryPolicy { max_retries: 5, delay_ms: 500, exponential: true, multiplier_percent: 200, max_delay_ms: 8_000 };

/// The result of one attempt of a tool call.
struct ToolAttempt {
    outcome: AttemptOutcome,
    took: Duration,
}

enum AttemptOutcome {
    /// The tool answered.
    Answered { text: String, is_error: bool },
    /// The attempt had no effect; with the message for the model.
    NotDone(String),
    /// The attempt may have had an effect; with the reason.
    Unknown(String),
}

/// The permission of a loop's agent to ask humans.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClarificationPolicy {
    pub allowed: bool,
    pub timeout: Duration,
    pub default: Option<String>,
}

/// An agent loop within a run.
pub(crate) struct Runner<'a> {
    pub run: &'a Run,
    /// Agent of this loop; in a step of a plan not the task's.
    pub spec: &'a AgentSpec,
    pub scope: Scope,
    pub clarification: ClarificationPolicy,
}

impl Runner<'_> {
    /// Returns a loop that begins with these messages, with the journal replayed into it.
    pub fn machine(&self, messages: Vec<Message>) -> AgentLoop {
        let config = LoopConfig {
            // The tools are set before each model call: tool servers change theirs while a loop runs.
            tools: Vec::new(),
            output: self.spec.output_schema.as_deref().map(|schema| self.form(schema)),
            on_length: self.spec.llm.params.on_length,
            may_ask: self.clarification.allowed,
            max_turns: MAX_TURNS,
        };
        let mut machine = AgentLoop::new(config, messages);
        for body in self.run.past_of(&self.scope) {
            machine.replay(body);
        }
        machine
    }

    /// Returns the form that answers must have.
    fn form(&self, schema: &Value) -> OutputForm {
        let (schemas, own) = (Arc::clone(&self.run.ctx.schemas), schema.clone());
        OutputForm::new(schema.clone(), move |value| schemas.problem(&own, value))
    }

    /// Drives the loop until it ends or waits for humans.
    pub async fn drive(&self, machine: &mut AgentLoop) -> Result<LoopEnd, Stop> {
        self.steps(machine).instrument(spans::part(&self.context(), self.spec, &self.scope)).await
    }

    async fn steps(&self, machine: &mut AgentLoop) -> Result<LoopEnd, Stop> {
        let mut tools_called_in = None;
        loop {
            match machine.next() {
                Next::Done(result) => return Ok(LoopEnd::Done(result)),
                Next::AwaitHuman => return Ok(LoopEnd::Paused),
                Next::CallModel { turn } => {
                    self.run.checkpoint()?;
                    if !self.spec.tools.is_empty() {
                        let mut tools = self.run.ctx.tools.definitions(self.spec).await;
                        // The same tools must make the same request, which the provider's cache depends on.
                        tools.sort_by(|a, b| a.name.cmp(&b.name));
                        machine.offer(tools);
                    }
                    match self.call_model(turn, machine.request()).await? {
                        Ok(reply) => machine.apply_reply(&reply),
                        Err(error) => machine.fail(error),
                    }
                }
                Next::CallTools { turn, calls } => {
                    self.run.checkpoint()?;
                    // After a round every call of a turn has an answer or a question: the same turn again would be an
                    // endless loop.
                    if tools_called_in.replace(turn) == Some(turn) {
                        let message = format!("the tool calls of turn {turn} were answered and are open all the same");
                        machine.fail(TaskError::new(ErrorCode::Internal, message));
                        continue;
                    }
                    self.call_tools(machine, turn, calls).await?;
                }
            }
        }
    }

    /// Makes a model call and journals it. An answer that calls tools is durable before any of them is called; a final
    /// answer is written together with the end of the task.
    pub async fn call_model(&self, turn: u32, request: ChatRequest) -> Result<Result<ChatReply, TaskError>, Stop> {
        let call = self.call(request);
        if let Err(error) = budget::allow_call(self.run, self.spec, 0) {
            return Ok(Err(error));
        }
        let hooks = CallHooks {
            runner: self,
            turn,
            first: call.id,
            tries: AtomicU32::new(0),
            lost: Mutex::default(),
            set_aside: Mutex::default(),
        };
        let mut outcome = self.run.ctx.providers.chat(&call, &self.spec.llm.fallback, self.sink(), &hooks).await;
        outcome.attempts.iter_mut().for_each(|attempt| hooks.count(attempt));
        let answer = outcome.answer().map(|(attempt, timed)| (attempt.call, timed.reply.clone()));
        let mut bodies = Vec::with_capacity(outcome.attempts.len());
        let mut ledger = Vec::with_capacity(outcome.attempts.len());
        for attempt in outcome.attempts {
            let row = self.ledger_row(&attempt);
            if let Some(cost) = row.cost {
                self.run.ctx.providers.record_cost(&attempt.target, cost);
            }
            bodies.push(journal_body(turn, attempt, &row));
            ledger.push(row);
        }
        if self.run.ctx.interrupt.is_cancelled() {
            self.run.defer(&self.scope, bodies, ledger);
            return Err(Stop::Draining);
        }
        match answer {
            Ok((_, reply)) if reply.tool_calls.is_empty() => {
                self.run.defer(&self.scope, bodies, ledger);
                Ok(Ok(reply))
            }
            Ok((_, reply)) => {
                self.run.record(&self.scope, bodies, ledger).await?;
                Ok(Ok(reply))
            }
            Err(error) => {
                self.run.defer(&self.scope, bodies, ledger);
                Ok(Err(error))
            }
        }
    }

    /// Returns the span context of the loop: the run's own, or a child of it.
    fn context(&self) -> SpanContext {
        let run = self.run.context;
        // The plan and the summary are single calls of the run itself.
        if [Scope::MAIN, Scope::PLAN, Scope::SUMMARY].contains(&self.scope) {
            run
        } else {
            run.child(run.span.derive_from(self.scope.as_str()))
        }
    }

    fn call(&self, request: ChatRequest) -> Call {
        Call {
            id: self.run.ctx.new_call_id(),
            agent: self.spec.name.clone(),
            under: self.context(),
            target: self.spec.llm.target.clone(),
            request,
            params: self.spec.llm.params.clone(),
            response_format: self.spec.llm.response_format.as_deref().cloned(),
            timeout: Duration::from_millis(self.spec.llm.timeout_ms),
            priority: self.run.task.priority,
            traits: Arc::new(Traits::default()),
            must_limit: budget::is_in_dollars(self.run, self.spec),
        }
    }

    /// Returns the receivers of a streamed answer; `None` if nobody watches the task.
    fn sink(&self) -> Option<Arc<dyn TokenSink>> {
        let bus = &self.run.ctx.bus;
        let watched = self.run.task.stream || bus.is_watched(self.run.task.id);
        let preview = self.run.preview().filter(|_| self.scope == Scope::MAIN);
        if !watched && preview.is_none() {
            return None;
        }
        if let Some(preview) = &preview {
            preview.begin();
        }
        let bus = watched.then(|| Arc::clone(bus));
        Some(Arc::new(StreamSink { bus, task: self.run.task.id, preview }))
    }

    fn ledger_row(&self, attempt: &Attempt) -> LedgerRow {
        let (status, usage, provider_call) = match &attempt.result {
            Ok(timed) => (
                if timed.is_uncounted { CallStatus::Estimated } else { CallStatus::Completed },
                timed.reply.usage,
                timed.provider_call_id.as_deref().map(Into::into),
            ),
            Err(error) => (CallStatus::Failed, error.usage, None),
        };
        let at = self.run.ctx.now();
        let cost = self.run.ctx.prices.cost(attempt.target.provider, &attempt.target.model, &usage, at);
        LedgerRow {
            call: attempt.call,
            task: self.run.task.id,
            agent: self.spec.name.clone(),
            provider: attempt.target.provider,
            model: attempt.target.model.to_string(),
            status,
            provider_call,
            usage,
            cost,
            at,
            duration_us: micros(attempt.duration),
        }
    }

    /// Calls the tools of a turn concurrently: an intent entry before each call, its result after.
    async fn call_tools(&self, machine: &mut AgentLoop, turn: u32, calls: Vec<PendingCall>) -> Result<(), Stop> {
        let results = try_join_all(calls.iter().map(|pending| self.call_tool(turn, pending))).await?;
        for result in results {
            match result {
                Ok(body) => machine.replay(&body),
                Err(error) => machine.fail(error),
            }
        }
        Ok(())
    }

    /// Calls one tool; returns the journal entry of its result, or the error that ends the loop.
    ///
    /// An unknown outcome stays unknown until an answer to the call itself, given to a later attempt under the same
    /// idempotency key, clarifies it.
    async fn call_tool(&self, turn: u32, pending: &PendingCall) -> Result<Result<JournalBody, TaskError>, Stop> {
        let call = &pending.call;
        if call.name == ASK_HUMAN && self.clarification.allowed {
            return self.ask(call, None).await.map(Ok);
        }
        let mut unknown = pending.started.then(|| "a worker lost the task during the call".to_owned());
        let Some(tool) = self.run.ctx.tools.owner(self.spec, &call.name) else {
            if let Some(reason) = &unknown {
                return Ok(Err(unknown_outcome(&call.name, reason)));
            }
            let text = format!("there is no tool `{}`", call.name);
            return self.returned(turn, call, text, true, Duration::ZERO).await.map(Ok);
        };
        let idempotency_key = self.idempotency_key(turn, pending.index);
        let mut retries = 0;
        loop {
            if let Some(reason) = &unknown {
                match tool.on_unknown {
                    OnUnknown::Retry => {}
                    OnUnknown::Ask => return self.ask(call, Some(reason)).await.map(Ok),
                    OnUnknown::Fail => return Ok(Err(unknown_outcome(&call.name, reason))),
                }
                retries += 1;
                let Some(delay) = UNKNOWN_OUTCOME.delay_before(retries) else {
                    return Ok(Err(unknown_outcome(&call.name, reason)));
                };
                tokio::time::sleep(delay).await;
                self.run.checkpoint()?;
            }
            match self.invoke(turn, tool, call, &idempotency_key, retries).await? {
                ToolAttempt { outcome: AttemptOutcome::Answered { text, is_error }, took } => {
                    return self.returned(turn, call, text, is_error, took).await.map(Ok);
                }
                ToolAttempt { outcome: AttemptOutcome::NotDone(text), took } => match &mut unknown {
                    None => return self.returned(turn, call, text, true, took).await.map(Ok),
                    Some(reason) => *reason = format!("{reason}; the last retry: {text}"),
                },
                ToolAttempt { outcome: AttemptOutcome::Unknown(reason), .. } => unknown = Some(reason),
            }
        }
    }

    /// Returns a name for a call that depends on its position only: the same for all of its attempts, and different
    /// from that of any other call.
    fn idempotency_key(&self, turn: u32, index: usize) -> String {
        format!("{}:{}:{}:{turn}:{index}", self.run.task.id, self.run.attempt, self.scope.as_str())
    }

    /// Makes one attempt, after its intent entry is durable.
    async fn invoke(
        &self,
        turn: u32,
        tool: &ToolSpec,
        call: &ToolCall,
        idempotency_key: &str,
        number: u32,
    ) -> Result<ToolAttempt, Stop> {
        let intent = JournalBody::ToolStarted { turn, call: call.clone() };
        self.run.record(&self.scope, vec![intent], Vec::new()).await?;
        let above = self.context();
        let invocation = Invocation {
            tool,
            call,
            task: self.run.task.id,
            place: above.child(above.span.derive_from(idempotency_key).derive(u64::from(number))),
            idempotency_key: idempotency_key.to_owned(),
        };
        let began = tokio::time::Instant::now();
        let span = spans::execute_tool(&invocation);
        let result = self.run.ctx.tools.invoke(invocation).instrument(span.clone()).await;
        if let Some(kind) = tool_failure(&result) {
            span.record("error.type", kind);
        }
        let outcome = match result {
            Ok(output) if output.is_refusal => AttemptOutcome::NotDone(output.text),
            Ok(output) => AttemptOutcome::Answered { text: output.text, is_error: output.is_error },
            Err(ToolError::Unknown { reason, .. }) => AttemptOutcome::Unknown(reason),
            Err(error @ (ToolError::Arguments { .. } | ToolError::Unavailable { .. })) => {
                AttemptOutcome::NotDone(error.to_string())
            }
        };
        Ok(ToolAttempt { outcome, took: began.elapsed() })
    }

    async fn returned(
        &self,
        turn: u32,
        call: &ToolCall,
        output: String,
        is_error: bool,
        took: Duration,
    ) -> Result<JournalBody, Stop> {
        let body =
            JournalBody::ToolCompleted { turn, call_id: call.id.clone(), output, is_error, duration_us: micros(took) };
        self.run.record(&self.scope, vec![body.clone()], Vec::new()).await?;
        Ok(body)
    }

    /// Asks a human the model's question, or (`unknown`) for the result of a lost call.
    async fn ask(&self, call: &ToolCall, unknown: Option<&str>) -> Result<JournalBody, Stop> {
        let now = self.run.ctx.now();
        let (question, options) = match unknown {
            Some(reason) => (
                format!("What did `{}` with {} return? Its outcome is unknown: {reason}.", call.name, call.arguments),
                Vec::new(),
            ),
            None => question_of(call),
        };
        let timeout =
            if self.clarification.timeout.is_zero() { Duration::from_secs(86_400) } else { self.clarification.timeout };
        let clarification = Clarification {
            id: self.run.ctx.intake.new_clarification_id(),
            task: self.run.task.id,
            agent: self.spec.name.clone(),
            scope: self.scope.as_str().to_owned(),
            question: question.clone(),
            options,
            asked_at: now,
            expires_at: now.after(timeout),
            default: if unknown.is_some() { None } else { self.clarification.default.clone() },
            reply_to: place_of_questions(&self.run.ctx, &self.run.task),
            resolution: None,
        };
        let body = JournalBody::Asked { clarification: clarification.id, call_id: Some(call.id.clone()), question };
        self.run.record_with(&self.scope, vec![body.clone()], Vec::new(), vec![clarification]).await?;
        Ok(body)
    }
}

/// Returns the kind of failure of a tool call; `None` if it succeeded.
fn tool_failure(result: &Result<ToolOutput, ToolError>) -> Option<&'static str> {
    match result {
        Ok(output) => output.is_error.then_some("tool_error"),
        Err(ToolError::Arguments { .. }) => Some("arguments"),
        Err(ToolError::Unavailable { .. }) => Some("unavailable"),
        Err(ToolError::Unknown { .. }) => Some("outcome_unknown"),
    }
}

/// Returns the question in the arguments of `ask_human`; arguments that do not parse are the question themselves.
fn question_of(call: &ToolCall) -> (String, Vec<String>) {
    let Ok(arguments) = serde_json::from_str::<Value>(&call.arguments) else {
        return (call.arguments.clone(), Vec::new());
    };
    let question = arguments.get("question").and_then(Value::as_str).unwrap_or(&call.arguments).to_owned();
    let options = arguments
        .get("options")
        .and_then(Value::as_array)
        .map(|options| options.iter().filter_map(Value::as_str).map(str::to_owned).take(20).collect());
    (question, options.unwrap_or_default())
}

fn unknown_outcome(tool: &str, reason: &str) -> TaskError {
    let message = format!(
        "the outcome of tool `{tool}` is unknown ({reason}) and its on_unknown policy does not let it be called again"
    );
    TaskError::new(ErrorCode::ToolOutcomeUnknown, message)
}

fn journal_body(turn: u32, attempt: Attempt, row: &LedgerRow) -> JournalBody {
    match attempt.result {
        Ok(timed) => JournalBody::ModelCompleted {
            call: attempt.call,
            turn,
            provider: attempt.target.provider,
            reply: timed.reply,
            cost: row.cost,
            duration_us: row.duration_us,
            first_token_us: timed.first_token.map(micros),
        },
        Err(error) => JournalBody::ModelFailed {
            call: attempt.call,
            turn,
            error: error.to_task_error(),
            duration_us: row.duration_us,
        },
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Reserves money and writes a journal entry before a call leaves the process.
struct CallHooks<'a> {
    runner: &'a Runner<'a>,
    turn: u32,
    /// First call of the chat: the id of its reservation.
    first: CallId,
    /// Calls of the chat so far.
    tries: AtomicU32,
    /// Cost of the failed calls of the chat.
    lost: Mutex<NanoUsd>,
    /// The most that each call of the chat may use.
    set_aside: Mutex<HashMap<CallId, Usage>>,
}

impl CallHooks<'_> {
    /// Charges a call that the provider did not count with what was set aside for it.
    fn count(&self, attempt: &mut Attempt) {
        let set_aside = || lock(&self.set_aside).get(&attempt.call).copied();
        match &mut attempt.result {
            Ok(timed) if timed.is_uncounted => match set_aside() {
                Some(usage) => timed.reply.usage = usage,
                // Nothing left the process.
                None => timed.is_uncounted = false,
            },
            Err(error) if error.is_uncounted => error.usage = set_aside().unwrap_or(error.usage),
            _ => {}
        }
    }
}

#[async_trait]
impl Hooks for CallHooks<'_> {
    async fn before(&self, call: &Call) -> Result<(), Abort> {
        let (run, spec) = (self.runner.run, self.runner.spec);
        // Others may have declared this worker dead meanwhile; the write below fails then.
        run.ctx.liveness.wait_fresh().await;
        let tries = self.tries.fetch_add(1, Ordering::Relaxed);
        budget::allow_call(run, spec, tries).map_err(Abort)?;
        lock(&self.set_aside).insert(call.id, budget::most_usage(call));
        let lost = *lock(&self.lost);
        budget::reserve(run, spec, self.first, call, lost).await.map_err(Abort)?;
        run.call_announced(call, self.turn, &self.runner.scope);
        let body = JournalBody::ModelStarted {
            call: call.id,
            turn: self.turn,
            provider: call.target.provider,
            model: call.target.model.to_string(),
        };
        if let Err(stop) = run.record(&self.runner.scope, vec![body], Vec::new()).await {
            budget::release(run, spec, self.first).await;
            let message = format!("writing the call to the journal failed: {stop:?}");
            return Err(Abort(TaskError::new(ErrorCode::Internal, message)));
        }
        run.call_left(call.id);
        Ok(())
    }

    fn failed(&self, attempt: &Attempt) {
        let mut attempt = attempt.clone();
        self.count(&mut attempt);
        let row = self.runner.ledger_row(&attempt);
        {
            let mut lost = lock(&self.lost);
            *lost = lost.plus(row.cost.unwrap_or_default());
        }
        let call = attempt.call;
        let body = journal_body(self.turn, attempt, &row);
        self.runner.run.call_failed(call, body, row);
    }

    fn new_call_id(&self) -> CallId {
        self.runner.run.ctx.new_call_id()
    }

    fn jitter(&self) -> f64 {
        self.runner.run.ctx.jitter()
    }
}

struct StreamSink {
    bus: Option<Arc<dyn agentry_bus::EventBus>>,
    task: TaskId,
    preview: Option<Arc<StreamPreview>>,
}

impl TokenSink for StreamSink {
    fn piece(&self, text: &str) {
        if let Some(bus) = &self.bus {
            bus.signal(Signal::Delta { task: self.task, text: text.into() });
        }
        if let Some(preview) = &self.preview {
            preview.push(text);
        }
    }

    fn restart(&self) {
        if let Some(bus) = &self.bus {
            bus.signal(Signal::Restart { task: self.task });
        }
        if let Some(preview) = &self.preview {
            preview.begin();
        }
    }
}
