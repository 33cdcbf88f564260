//! 6.1 Slack to response: signed events in an open loop, and the answers as Slack received them.
//!
//! The generator signs and sends the events itself, so that their intended moments are known; the Slack simulator is the
//! witness of the answers. An answer belongs to the event whose time stamp is its thread; it is there with the post or update
//! that makes it whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::Found;
use super::figures::{self, cost, latencies, quantile_ci};
use super::observe::Observation;
use super::plots;
use crate::load::{Answer, Caller, Load, Outcome, by_status, clock, histogram, put_post};
use crate::model::{Invariant, Test};
use crate::run::{Driven, Lab, Purpose, RunError};
use crate::sut::{Deployment, Llm, Member, Plan, SLACK_SECRET, SutError, fleet};

/// Events per second.
const RATE: f64 = 3.0;
/// Every so-manieth event is sent again under its id, as Slack does when it heard no answer.
const AGAIN: u64 = 5;
/// Channels that events are spread over: an app may post about once a second in each, so 500 answers a second need more
/// than 500 of them.
const CHANNELS: u64 = 1_000;
/// Where the channels of complex tasks begin.
const COMPLEX: &str = "C0COMPLEX";
/// How long answers may take after the last event.
const DRAIN: Duration = Duration::from_secs(30);
/// The workspace that the simulator plays.
const TEAM: &str = "T0SIM";

/// Signed events.
struct Events {
    host: String,
    channel: &'static str,
    /// What the model is told to say: an answer of 60 tokens.
    answer: String,
    /// The stamp of the first event, in microseconds since the Unix epoch; each has its own, which is its thread.
    first: i64,
    /// Stamp to the intended moment, on the monotonic clock.
    sent: BTreeMap<String, u64>,
    /// Stamps of events that were acknowledged.
    acknowledged: BTreeSet<String>,
}

impl Events {
    fn new(host: &str, channel: &'static str, words: usize) -> Self {
        let answer = vec!["word"; words].join(" ");
        let (sent, acknowledged) = (BTreeMap::new(), BTreeSet::new());
        Self { host: host.to_owned(), channel, answer, first: clock::wall_micros(), sent, acknowledged }
    }

    /// The number of the event that a request carries: a repetition has the id and the body of the one before it.
    fn original(number: u64) -> u64 {
        if number % AGAIN == AGAIN - 1 { number - 1 } else { number }
    }

    fn stamp(&self, number: u64) -> String {
        let micros = self.first + i64::try_from(number).unwrap_or(i64::MAX);
        format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
    }
}

impl Caller for Events {
    fn request(&mut self, number: u64, intended: u64, out: &mut Vec<u8>) {
        let original = Self::original(number);
        let stamp = self.stamp(original);
        let answer = &self.answer;
        let body = format!(
            "{{\"type\":\"event_callback\",\"team_id\":\"{TEAM}\",\"api_app_id\":\"A0BENCH\",\"event_id\":\"Ev{stamp}\",\
             \"event_time\":{},\"authorizations\":[{{\"user_id\":\"U0BOT\"}}],\"event\":{{\"type\":\"app_mention\",\
             \"channel\":\"{}\",\"user\":\"U0BENCH\",\"text\":\"<@U0BOT> q{original} [[say:{answer}]]\",\"ts\":\"{stamp}\",\
             \"event_ts\":\"{stamp}\"}}}}",
            self.first / 1_000_000,
            format_args!("{}{}", self.channel, original % CHANNELS)
        );
        let now = (clock::wall_micros() / 1_000_000).to_string();
        let signature = sign(SLACK_SECRET, &now, body.as_bytes());
        let headers = [("x-slack-request-timestamp", now.as_str()), ("x-slack-signature", signature.as_str())];
        put_post(out, &self.host, "/slack/events", &headers, body.as_bytes());
        self.sent.entry(stamp).or_insert(intended);
    }

    fn judge(&mut self, answer: &Answer<'_>) -> Outcome {
        let outcome = by_status(answer.status);
        if outcome == Outcome::Ok {
            self.acknowledged.insert(self.stamp(Self::original(answer.number)));
        }
        outcome
    }
}

/// `v0=` and the HMAC-SHA256 of `v0:{timestamp}:{body}`.
fn sign(secret: &str, timestamp: &str, body: &[u8]) -> String {
    let mut text = "v0=".to_owned();
    // A key of any length is valid.
    if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) {
        mac.update(format!("v0:{timestamp}:").as_bytes());
        mac.update(body);
        for byte in mac.finalize().into_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
    }
    text
}

/// What the simulator saw of one load.
struct Answers {
    /// Intended event to the last post or update of its thread, in microseconds.
    latency: Histogram<u64>,
    answered: u64,
    /// Posts of a thread beyond its first.
    twice: u64,
    examples: Vec<String>,
    /// Events that were acknowledged, and those of them without an answer.
    acknowledged: u64,
    lost: Vec<String>,
}

/// What the loads together say of the promises.
#[derive(Default)]
struct Kept {
    answered: u64,
    twice: u64,
    doubled: Vec<String>,
    acknowledged: u64,
    lost: Vec<String>,
}

impl Kept {
    fn add(&mut self, answers: &Answers) {
        self.answered += answers.answered;
        self.twice += answers.twice;
        self.doubled.extend(answers.examples.iter().cloned());
        self.acknowledged += answers.acknowledged;
        self.lost.extend(answers.lost.iter().cloned());
    }

    /// I2 and I9 of what was seen.
    fn invariants(self, test: &Test) -> [Invariant; 2] {
        let of =
            |invariant: &str, text: &str, broken: u64, counts: [(&str, u64); 2], examples: Vec<String>| Invariant {
                invariant: invariant.to_owned(),
                text: text.to_owned(),
                test: test.id.clone(),
                valid: Some(broken == 0),
                counts: counts.map(|(key, count)| (key.to_owned(), count)).into(),
                examples: examples.into_iter().take(Invariant::MAX_EXAMPLES).collect(),
            };
        let lost = self.lost.len() as u64;
        let counts = [("acknowledged", self.acknowledged), ("unanswered", lost)];
        [
            of("I2", "an acknowledged event of Slack is answered", lost, counts, self.lost),
            of(
                "I9",
                "the same event of Slack is one answer",
                self.twice,
                [("answered", self.answered), ("twice", self.twice)],
                self.doubled,
            ),
        ]
    }
}

/// Runs simple events, complex ones, and instant ones.
///
/// # Errors
/// When the platform does not start or the harness does not work.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let mut test = lab.test("6.1-slack", "Signed events at 3/s, answers as Slack received them", "realistic, instant");
    let mut seen = Vec::new();
    if lab.url.is_some() {
        let why = "needs a Slack simulator that the platform posts to: leave out --url";
        seen.extend(
            ["6.1/simple-p95", "6.1/complex-p95", "6.1/ack", "6.1/publish"].map(|id| Observation::not_run(id, why)),
        );
        return Ok(Found { tests: vec![test], seen });
    }
    // One event in five is a repetition: 216 of a minute and a half bound a 95th percentile below its few slowest.
    let window = lab.seconds(22.0, 90.0, 360.0, 3_600.0);
    let (mut kept, mut acks) = (Kept::default(), histogram());
    let simple = one(lab, &mut test, "realistic", "C0SIMPLE", RATE, window, "slack.simple").await?;
    let (answers, driven) = match simple {
        Some(both) => both,
        None => {
            let why = "this binary has no `agentry sim slack`, or the platform does not answer /slack/events";
            seen.extend(
                ["6.1/simple-p95", "6.1/complex-p95", "6.1/ack", "6.1/publish", "6.1/duplicates"]
                    .map(|id| Observation::not_run(id, why)),
            );
            return Ok(Found { tests: vec![test], seen });
        }
    };
    let source = "intended event to the last post or update of its thread at the simulator, realistic model, 60 tokens";
    seen.push(p95("6.1/simple-p95", &answers, &driven, source).shown_by(&["slack.simple.end_to_end"]));
    let latency = &driven.seen.latency;
    let source = "intended event to its acknowledgement, which comes when it is durable";
    let published = Observation::new("6.1/publish", driven.seen.ms(0.95), latency.len(), source);
    seen.push(published.ci(quantile_ci(latency, 0.95)));
    kept.add(&answers);
    let _ = acks.add(latency);
    if lab.by(false, true, true, true) {
        let window = lab.seconds(0.0, 30.0, 360.0, 3_600.0);
        if let Some((answers, driven)) =
            one(lab, &mut test, "realistic", COMPLEX, RATE, window, "slack.complex").await?
        {
            let source = "the same for a team: a plan, its steps and a summary, all calls realistic";
            seen.push(p95("6.1/complex-p95", &answers, &driven, source).shown_by(&["slack.complex.end_to_end"]));
            kept.add(&answers);
            let _ = acks.add(&driven.seen.latency);
        }
        let window = lab.seconds(0.0, 5.0, 60.0, 120.0);
        if let Some((answers, driven)) =
            one(lab, &mut test, "instant", "C0SIMPLE", 500.0, window, "slack.instant").await?
        {
            seen.push(p95("stretch/slack-answer", &answers, &driven, "instant model, at 500/s"));
            kept.add(&answers);
            let latency = &driven.seen.latency;
            let _ = acks.add(latency);
            let source = "acknowledgement of the event at 500/s, durable when it comes";
            seen.push(
                Observation::new("stretch/slack-ack", driven.seen.ms(0.99), latency.len(), source)
                    .ci(quantile_ci(latency, 0.99)),
            );
        }
    }
    seen.push(acknowledged(&acks));
    let source = "posts of one thread beyond the first; every fifth event is sent again under its id";
    seen.push(Observation::new("6.1/duplicates", kept.twice as f64, kept.answered, source).shown_by(&["I9", "I2"]));
    lab.safety.extend(kept.invariants(&test));
    Ok(Found { tests: vec![test], seen })
}

fn p95(id: &'static str, answers: &Answers, driven: &Driven<Events>, source: &str) -> Observation {
    let latency = &answers.latency;
    let observed = Observation::new(id, latency.value_at_quantile(0.95) as f64 / 1_000.0, latency.len(), source);
    let observed = observed.ci(quantile_ci(latency, 0.95));
    let missing = driven.caller.sent.len() as u64 - answers.answered;
    match missing {
        0 => observed,
        missing => observed.undecided(format!("{missing} events were never answered")),
    }
}

/// Acknowledgements of all loads: those at 3/s alone are too few for a p99, and those at 500/s are not faster.
fn acknowledged(acks: &Histogram<u64>) -> Observation {
    let (n, p99) = (acks.len(), quantile_ci(acks, 0.99));
    let source = "intended event to its acknowledgement, which comes when it is durable; all loads";
    let observed = Observation::new("6.1/ack", acks.value_at_quantile(0.99) as f64 / 1_000.0, n, source).ci(p99);
    match p99 {
        Some(_) => observed,
        None => observed.undecided(format!("{n} events are too few for a p99: 299 are the least")),
    }
}

/// One load; `None` when this platform has no Slack.
async fn one(
    lab: &mut Lab,
    test: &mut Test,
    profile: &'static str,
    channel: &'static str,
    rate: f64,
    window: Duration,
    name: &str,
) -> Result<Option<(Answers, Driven<Events>)>, RunError> {
    let team = "collaborative_config: {preferred_collaborators: [bench-helper], min_collaborators: 1}\n";
    let listens = "event_subscriptions: [slack.event.app_mention]\n";
    let plan = Plan {
        agents: vec![
            fleet::agent("bench-slack", "autonomous", listens),
            fleet::agent("bench-team", "collaborative", team),
            fleet::agent("bench-helper", "autonomous", ""),
        ],
        llm: Some(Llm { profile, ..Llm::default() }),
        members: vec![Member::new("api", "api,slack,scheduler", ""), Member::new("worker-1", "worker", "")],
        slack: Some(if channel == COMPLEX { "T0SIM=bench-team" } else { "" }),
        ..Plan::default()
    };
    let deployment = match lab.deploy(plan).await {
        Ok(deployment) => deployment,
        Err(SutError::NotReady { what, .. }) if what.contains("Slack simulator") => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let (target, host) = lab.target(Some(&deployment))?;
    let load = Load::open(target, rate, window, lab.seed_of(name)).warm_up(Duration::from_secs(1));
    let target_ms = if profile == "realistic" { 3_000.0 } else { 100.0 };
    let driven = lab.drive(test, load, Events::new(&host, channel, 60), Purpose::target(target_ms)).await?;
    if driven.seen.ok == 0 && driven.seen.failures.contains_key("4xx") {
        return Ok(None);
    }
    figures::of_load(test, lab, name, &driven);
    test.plots.extend(plots::over_time(lab, name, name, &driven.seen));
    let answers = answers(&deployment, &driven).await?;
    test.metrics.extend(latencies(
        &format!("{name}.end_to_end"),
        &answers.latency,
        "intended event to its answer at the simulator",
    ));
    let sent = driven.caller.sent.len() as u64;
    test.metrics.push(cost(
        &format!("{name}.unanswered"),
        "count",
        "count",
        (sent - answers.answered) as f64,
        sent,
        "threads without a post",
    ));
    Ok(Some((answers, driven)))
}

/// Waits for an answer in every thread, then reads when each came.
async fn answers(deployment: &Deployment, driven: &Driven<Events>) -> Result<Answers, RunError> {
    // Tasks have ended before their posts have left: the simulator's file is looked at until all threads are there.
    let _ = deployment.api()?.drained(DRAIN).await;
    let end = tokio::time::Instant::now() + DRAIN;
    loop {
        let path = deployment.slack_ledger();
        let text = std::fs::read_to_string(&path).map_err(|error| RunError::File { path, error })?;
        let answers = read(&text, driven);
        if answers.answered == driven.caller.sent.len() as u64 || tokio::time::Instant::now() > end {
            return Ok(answers);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn read(text: &str, driven: &Driven<Events>) -> Answers {
    let calls = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let (mut thread_of, mut last, mut posts) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::<String, u64>::new());
    // A team sums up in words of its own; while it works, what is shown has an ellipsis.
    let is_whole = |text: &str| match driven.caller.channel {
        COMPLEX => !text.contains('…'),
        _ => text == driven.caller.answer,
    };
    for call in calls.filter(|call| call["kind"] == "call" && call["ok"] == true) {
        let text = |key: &str| call[key].as_str().unwrap_or_default().to_owned();
        let Some(at) = call["t_us"].as_i64() else { continue };
        let thread = match text("method").as_str() {
            "chat.postMessage" => {
                let thread = text("thread_ts");
                thread_of.insert(text("ts"), thread.clone());
                *posts.entry(thread.clone()).or_default() += 1;
                thread
            }
            "chat.update" => thread_of.get(&text("ts")).cloned().unwrap_or_default(),
            _ => continue,
        };
        // Until the last update an answer is not there.
        if is_whole(&text("text")) {
            last.insert(thread, at);
        } else {
            last.remove(&thread);
        }
    }
    // Both clocks are of this machine: a moment of one is a moment of the other.
    let apart = clock::wall_micros() - i64::try_from(clock::now() / 1_000).unwrap_or(0);
    let acknowledged = &driven.caller.acknowledged;
    let mut answers = Answers {
        latency: histogram(),
        answered: 0,
        twice: 0,
        examples: Vec::new(),
        acknowledged: acknowledged.len() as u64,
        lost: acknowledged.iter().filter(|stamp| !last.contains_key(*stamp)).cloned().collect(),
    };
    let window = driven.seen.began..driven.seen.began + clock::nanos(driven.seen.window);
    for (stamp, intended) in &driven.caller.sent {
        let Some(at) = last.get(stamp) else { continue };
        answers.answered += 1;
        let took = at - apart - i64::try_from(intended / 1_000).unwrap_or(0);
        if window.contains(intended) {
            answers.latency.saturating_record(u64::try_from(took).unwrap_or(0).max(1));
        }
        let more = posts.get(stamp).copied().unwrap_or(1) - 1;
        if more > 0 {
            answers.twice += more;
            answers.examples.push(format!("{stamp}: {} posts", more + 1));
        }
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_slacks() {
        // The example of Slack's own documentation.
        let body = "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&\
                    channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&\
                    response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&\
                    trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c";
        let signature = sign("8f742231b10e8888abcd99yyyzzz85a5", "1531420618", body.as_bytes());
        assert_eq!(signature, "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503");
    }

    #[test]
    fn a_repetition_is_the_event_before_it() {
        let mut events = Events::new("h", "C0SIMPLE", 3);
        let (mut first, mut again) = (Vec::new(), Vec::new());
        events.request(AGAIN - 2, 5, &mut first);
        events.request(AGAIN - 1, 9, &mut again);
        let id = |bytes: &[u8]| String::from_utf8_lossy(bytes).split("event_id").nth(1).unwrap()[..30].to_owned();
        assert_eq!(id(&first), id(&again));
        assert_eq!(events.sent.values().copied().collect::<Vec<_>>(), [5]);
    }
}
