//! 5.1 LLM API latency: four wire protocols through the platform, what it measures of them against the simulator's own
//! log, what it adds, and what is left of errors after its retries.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value;

use super::callers::TaskCaller;
use super::experiment::{Experiment, of_quantile};
use super::live;
use super::loads::{LoadRow, Rate, Reading};
use super::tasks::{id_of, simulated_calls};
use crate::estimate::DEFAULT_MODELS;
use crate::load::{Answer, Caller, Outcome, clock};
use crate::run::RunError;
use crate::stats::{Hist, histogram, mean};
use crate::sut::{Api, Deployment, Llm, Plan, fleet};

/// Five calls a second of each of four protocols.
const CLEAN: LoadRow = LoadRow::new("llm.clean", Rate::Random(20.0), [5.0, 20.0, 240.0, 1_200.0])
    .target(1_000.0)
    .decides(&[("5.1/errors", Reading::Errors, "tasks that did not complete")]);
const FAULTY: LoadRow = LoadRow::new("llm.faulty", Rate::Random(20.0), [5.0, 20.0, 240.0, 1_200.0])
    .target(10_000.0)
    .decides(&[("5.1/errors-faults", Reading::Errors, "tasks that did not complete")]);
/// Load of the stretch row, for one protocol.
const THOUSAND: LoadRow = LoadRow::new("llm.thousand", Rate::Random(1_000.0), [2.0, 5.0, 20.0, 60.0]).target(1_000.0);
/// Tasks whose journals are read at most, evenly over a load.
const MAX_READ: usize = 4_000;
/// Different errors of tasks that are kept of a load, and characters of each.
const MAX_ERRORS: usize = 20;
const MAX_ERROR: usize = 300;
/// Five calls in a hundred, of every kind that ends by itself.
const FAULTS: &[&str] = &["429=0.0125", "500=0.0125", "truncate=0.0125", "disconnect=0.0125"];

/// A task whose answer streams, and when it was meant to be asked.
pub(super) struct StreamedTaskCaller {
    pub(super) tasks: TaskCaller,
    agents: Vec<String>,
    /// Task id and intended moment in microseconds since the Unix epoch, of those that completed.
    pub(super) ended: Vec<(String, i64)>,
    /// Failed tasks by the platform's message.
    pub(super) errors: BTreeMap<String, u64>,
}

impl StreamedTaskCaller {
    pub(super) fn of(host: &str, agents: Vec<String>, seed: u64) -> Self {
        let tasks = TaskCaller { is_streamed: true, ..TaskCaller::of(host, "", seed) };
        Self { tasks, agents, ended: Vec::new(), errors: BTreeMap::new() }
    }

    fn note_error(&mut self, body: &[u8]) {
        let error = serde_json::from_slice::<Value>(body).map(|mut task| task["error"].take()).unwrap_or_default();
        let word = |field: &str| error[field].as_str().unwrap_or("unknown");
        let text: String = format!("{}: {}", word("code"), word("message")).chars().take(MAX_ERROR).collect();
        if self.errors.len() < MAX_ERRORS || self.errors.contains_key(&text) {
            *self.errors.entry(text).or_default() += 1;
        }
    }
}

impl Caller for StreamedTaskCaller {
    fn request(&mut self, number: u64, intended: u64, out: &mut Vec<u8>) {
        self.tasks.agent.clone_from(&self.agents[number as usize % self.agents.len()]);
        self.tasks.request(number, intended, out);
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        let outcome = self.tasks.judge(answer);
        if matches!(outcome, Outcome::Failed(_)) {
            self.note_error(answer.body);
        }
        if outcome == Outcome::Ok
            && let Some(id) = text_after(answer.body, "\"id\":\"")
        {
            let ago = clock::now().saturating_sub(answer.intended) / 1_000;
            self.ended.push((id, clock::wall_micros() - ago.cast_signed()));
        }
        outcome
    }
}

fn text_after(body: &[u8], key: &str) -> Option<String> {
    let (_, rest) = std::str::from_utf8(body).ok()?.split_once(key)?;
    Some(rest.split('"').next()?.to_owned())
}

/// One call as the platform journaled it and as the simulator logged it, in microseconds.
struct CallPair {
    provider: String,
    /// From the intended moment of the task to the arrival of the call at the provider.
    before: i64,
    /// To the first content and the end, in the platform.
    here: CallTimes,
    /// The same at the provider.
    there: CallTimes,
}

/// One streamed call, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallTimes {
    /// To the first content.
    pub(super) first: u64,
    /// To the end.
    pub(super) whole: u64,
    /// Of the answer.
    pub(super) tokens: u64,
}

/// Runs the clean load, the one with faults, and the one of the stretch row.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    clean(x).await?;
    faulty(x).await?;
    stretch(x).await?;
    live::run(x).await;
    Ok(())
}

fn agents() -> Vec<fleet::AgentFile> {
    let retries = "retry_config: {max_retries: 6, retry_delay_seconds: 0.2, max_retry_delay: 2}\n";
    let of = |(provider, model)| fleet::agent_of(&format!("bench-{provider}"), "autonomous", provider, model, retries);
    DEFAULT_MODELS.into_iter().map(of).collect()
}

fn names() -> Vec<String> {
    DEFAULT_MODELS.iter().map(|(provider, _)| format!("bench-{provider}")).collect()
}

async fn deploy(x: &mut Experiment<'_>, llm: Llm) -> Result<Deployment, RunError> {
    x.deploy(Plan { agents: agents(), llm: Some(llm), ..Plan::default() }).await
}

async fn clean(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let deployment = deploy(x, Llm { profile: "realistic", ..Llm::default() }).await?;
    let driven = x.drive(&CLEAN, &deployment, |host, seed| StreamedTaskCaller::of(host, names(), seed)).await?;
    let calls = pair(&deployment, &driven.caller.ended).await?;
    for (provider, _) in DEFAULT_MODELS {
        let of: Vec<CallTimes> = calls.iter().filter(|call| call.provider == provider).map(|call| call.here).collect();
        figures_of_calls(x, &format!("llm.{provider}"), &of);
    }
    let (mut fidelity, mut added) = (histogram(), histogram());
    for call in &calls {
        fidelity.saturating_record(call.here.first.abs_diff(call.there.first).max(1));
        let more = call.here.first.cast_signed() - call.there.first.cast_signed();
        added.saturating_record(u64::try_from(call.before + more).unwrap_or(0).max(1));
    }
    let source = "first_token_us of the journal against first_us of the simulator's log, by call";
    observe(x, ("5.1/fidelity", 0.95), "llm.fidelity", &fidelity, source);
    let source = "from the intended moment of a task to its call's arrival at the provider, and what the first token took \
                  longer than at the provider";
    observe(x, ("5.1/overhead", 0.95), "llm.overhead", &added, source);
    Ok(())
}

fn observe(x: &mut Experiment<'_>, (id, q): (&'static str, f64), name: &str, of: &Hist, source: &str) {
    x.latencies(name, of, source);
    x.observe(id, of_quantile(of, q, source).shown_by(&[name]));
}

/// Times of calls as figures that begin with `name`: to the first token, to the end, per token, and tokens a second.
pub(super) fn figures_of_calls(x: &mut Experiment<'_>, name: &str, calls: &[CallTimes]) {
    let (mut first, mut whole, mut each) = (histogram(), histogram(), histogram());
    let (mut decode, mut overall) = (Vec::new(), Vec::new());
    for call in calls {
        first.saturating_record(call.first.max(1));
        whole.saturating_record(call.whole.max(1));
        let writing = call.whole.saturating_sub(call.first);
        if call.tokens > 1 && writing > 0 {
            each.saturating_record((writing / (call.tokens - 1)).max(1));
            decode.push((call.tokens - 1) as f64 / (writing as f64 / 1e6));
        }
        overall.push(call.tokens as f64 / (call.whole.max(1) as f64 / 1e6));
    }
    let source = "journal of the platform";
    for (what, of) in [("ttft", first), ("end_to_end", whole), ("time_per_output_token", each)] {
        x.latencies(&format!("{name}.{what}"), &of, source);
    }
    for (what, rates) in [("decode_rate", decode), ("overall_rate", overall)] {
        let value = if rates.is_empty() { f64::NAN } else { mean(&rates) };
        x.benefit(&format!("{name}.{what}"), ("tokens/s", "mean"), value, rates.len() as u64, source);
    }
}

async fn faulty(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let deployment = deploy(x, Llm { profile: "fast", faults: FAULTS, ..Llm::default() }).await?;
    x.drive(&FAULTY, &deployment, |host, seed| StreamedTaskCaller::of(host, names(), seed)).await?;
    let mut ends: BTreeMap<(String, String), u64> = BTreeMap::new();
    for call in simulated_calls(&deployment)? {
        let word = |field: &str| call[field].as_str().unwrap_or_default().to_owned();
        *ends.entry((word("protocol"), word("end"))).or_default() += 1;
    }
    for ((protocol, end), count) in &ends {
        let name = format!("llm.faulty.{protocol}.{end}");
        x.figure(&name, ("count", "count"), *count as f64, *count, "the simulator's own log");
    }
    let faults: u64 = ends.iter().filter(|((_, end), _)| end != "completed").map(|(_, count)| count).sum();
    if let Some(seen) = x.seen.last_mut() {
        seen.remark = Some(format!("{faults} calls met a fault: 429, 500, a cut stream or a closed connection"));
    }
    Ok(())
}

/// A thousand calls a second of one protocol: the call as the platform saw it less what the simulator took.
async fn stretch(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let deployment = deploy(x, Llm { profile: "instant", ..Llm::default() }).await?;
    let one = vec!["bench-openai".to_owned()];
    let driven = x.drive(&THOUSAND, &deployment, |host, seed| StreamedTaskCaller::of(host, one, seed)).await?;
    let mut added = histogram();
    for call in pair(&deployment, &driven.caller.ended).await? {
        added.saturating_record(call.here.whole.saturating_sub(call.there.whole).max(1));
    }
    let source = "duration_us of the journal less end_us of the simulator's log, by call";
    observe(x, ("stretch/llm-overhead", 0.99), "llm.added", &added, source);
    Ok(())
}

/// The journal's entries of streamed answers of tasks that have ended, each with the intended moment of its task; of at most
/// [`MAX_READ`] tasks, evenly.
pub(super) async fn journaled(api: &Api, ended: &[(String, i64)]) -> Result<Vec<(Value, i64)>, RunError> {
    let every = ended.len().div_ceil(MAX_READ).max(1);
    let mut entries = Vec::new();
    for (task, intended) in ended.iter().step_by(every) {
        let mut task = api.get(&format!("/v1/tasks/{task}?journal=true")).await?;
        let bodies = task["journal"].as_array_mut().into_iter().flatten().map(|entry| entry["body"].take());
        entries.extend(bodies.filter(|body| body["first_token_us"].is_u64()).map(|body| (body, *intended)));
    }
    Ok(entries)
}

/// A streamed answer as the platform journaled it, in an entry of [`journaled`].
pub(super) fn timed(body: &Value) -> CallTimes {
    let of = |value: &Value| value.as_u64().unwrap_or(0);
    let tokens = of(&body["reply"]["usage"]["output_tokens"]);
    CallTimes { first: of(&body["first_token_us"]), whole: of(&body["duration_us"]), tokens }
}

/// The calls of tasks, from the journals and the simulator's log.
async fn pair(deployment: &Deployment, ended: &[(String, i64)]) -> Result<Vec<CallPair>, RunError> {
    let api = deployment.api()?;
    api.drained(Duration::from_secs(30)).await?;
    let log: HashMap<String, Value> =
        simulated_calls(deployment)?.into_iter().map(|call| (id_of(&call).to_owned(), call)).collect();
    let mut calls = Vec::new();
    for (body, intended) in journaled(api, ended).await? {
        let Some(line) = body["call"].as_str().and_then(|call| log.get(call)) else { continue };
        let at = |field: &str| line[field].as_u64();
        let (Some(t), Some(first), Some(whole)) = (at("t_us"), at("first_us"), at("end_us")) else { continue };
        let tokens = at("output_tokens").unwrap_or(0);
        calls.push(CallPair {
            provider: body["provider"].as_str().unwrap_or_default().to_owned(),
            before: t.cast_signed() - intended,
            here: CallTimes { tokens, ..timed(&body) },
            there: CallTimes { first, whole, tokens },
        });
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_take_turns_and_their_answers_are_kept_with_their_moment() {
        let mut caller = StreamedTaskCaller::of("h", names(), 1);
        let mut out = Vec::new();
        caller.request(1, 0, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("\"agent\":\"bench-anthropic\"") && text.contains("\"stream\":true"), "{text}");
        let body = br#"{"id":"t1","status":"completed"}"#;
        let before = clock::wall_micros();
        let answer = Answer { number: 1, status: 200, body, intended: clock::now(), received: clock::now() };
        assert_eq!(caller.judge(&answer), Outcome::Ok);
        let body = br#"{"id":"t2","status":"failed","error":{"code":"llm_error","message":"401"}}"#;
        let failed = Answer { body, ..answer };
        assert_eq!(caller.judge(&failed), Outcome::Failed("task did not complete"));
        assert_eq!(caller.errors.get("llm_error: 401"), Some(&1));
        assert_eq!(caller.ended.len(), 1);
        assert!(caller.ended[0].0 == "t1" && caller.ended[0].1 >= before - 1_000);
    }
}
