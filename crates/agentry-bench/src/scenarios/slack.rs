//! 6.1 Slack to response: signed events in an open loop, and the answers as Slack received them.
//!
//! The generator signs and sends the events itself, so that their intended moments are known; the Slack simulator is the
//! witness of the answers. An answer belongs to the event whose time stamp is its thread; it is there with the post or update
//! that makes it whole.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentry_lab::LabError;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::experiment::{Experiment, of_quantile};
use super::loads::{Drawing, LoadRow, Rate, Reading};
use crate::load::{Answer, Caller, Outcome, by_status, clock, put_post};
use crate::run::{LoadResult, RunError};
use crate::stats::{Hist, enough, histogram};
use crate::sut::{Deployment, Llm, Member, Plan, SLACK_SECRET, fleet};
use crate::verdict::Observation;

/// A load of events: its row, the model, whom they are to, and the criterion of their answers with its source.
struct SlackLoad {
    row: LoadRow,
    llm_profile: &'static str,
    channel: &'static str,
    answers: (&'static str, &'static str),
}

const DURABLE: &str = "intended event to its acknowledgement, which comes when it is durable";
/// One event in five is a repetition: 216 of a minute and a half bound a 95th percentile below its few slowest.
const SIMPLE: SlackLoad = SlackLoad {
    row: LoadRow::new("slack.simple", Rate::Random(3.0), [22.0, 90.0, 360.0, 3_600.0])
        .warm_up([1.0; 4])
        .target(3_000.0)
        .draws(&[Drawing::OverTime])
        .decides(&[("6.1/publish", Reading::Latency(0.95), DURABLE)]),
    llm_profile: "realistic",
    channel: "C0SIMPLE",
    answers: (
        "6.1/simple-p95",
        "intended event to the last post or update of its thread at the simulator, realistic model, 60 tokens",
    ),
};
const FURTHER: [SlackLoad; 3] = [
    SlackLoad {
        row: LoadRow::new("slack.complex", Rate::Random(3.0), [0.0, 30.0, 360.0, 3_600.0])
            .warm_up([1.0; 4])
            .target(3_000.0)
            .draws(&[Drawing::OverTime]),
        llm_profile: "realistic",
        channel: COMPLEX,
        answers: ("6.1/complex-p95", "the same for a team: a plan, its steps and a summary, all calls realistic"),
    },
    instant("slack.instant", 500.0, &[("stretch/slack-ack", Reading::Latency(0.99), DURABLE)]),
    instant("slack.instant.200", 200.0, &[("stretch/slack-ack-cluster", Reading::Latency(0.99), DURABLE)]),
];

const fn instant(
    name: &'static str,
    rate: f64,
    acknowledged: &'static [(&'static str, Reading, &'static str)],
) -> SlackLoad {
    let row = LoadRow::new(name, Rate::Random(rate), [0.0, 5.0, 60.0, 120.0]);
    SlackLoad {
        row: row.warm_up([1.0; 4]).target(100.0).draws(&[Drawing::OverTime]).decides(acknowledged),
        llm_profile: "instant",
        channel: "C0SIMPLE",
        answers: ("stretch/slack-answer", "instant model, at 500/s"),
    }
}

/// Every so-manieth event is sent again under its id, as Slack does when it heard no answer.
const AGAIN: u64 = 5;
/// Channels that events are spread over: an app may post about once a second in each, so 500 answers a second need more
/// than 500 of them.
const CHANNELS: u64 = 1_000;
/// Prefix of the channels of complex tasks.
const COMPLEX: &str = "C0COMPLEX";
/// Longest wait for answers after the last event.
const DRAIN: Duration = Duration::from_secs(30);
/// The workspace that the simulator plays.
const TEAM: &str = "T0SIM";

/// Signed events.
struct SlackEventCaller {
    host: String,
    channel: &'static str,
    /// Answer the model is told to give: 60 tokens.
    answer: String,
    /// The stamp of the first event, in microseconds since the Unix epoch; each has its own, which is its thread.
    first: i64,
    /// Stamp to the intended moment, on the monotonic clock.
    sent: BTreeMap<String, u64>,
    /// Stamps of events that were acknowledged.
    acknowledged: BTreeSet<String>,
}

impl SlackEventCaller {
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

impl Caller for SlackEventCaller {
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
    // A key of any length is valid.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    mac.update(format!("v0:{timestamp}:").as_bytes());
    mac.update(body);
    mac.finalize().into_bytes().iter().fold("v0=".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// Answers of one load or of several, as the simulator received them.
struct Answers {
    /// Intended event to the last post or update of its thread, in microseconds; of the last load.
    latency: Hist,
    answered: u64,
    /// Posts of a thread beyond its first.
    twice: u64,
    examples: Vec<String>,
    /// Events that were acknowledged, and those of them without an answer.
    acknowledged: u64,
    lost: Vec<String>,
}

impl Answers {
    fn none() -> Self {
        let (examples, lost) = (Vec::new(), Vec::new());
        Self { latency: histogram(), answered: 0, twice: 0, examples, acknowledged: 0, lost }
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.twice += other.twice;
        self.examples.extend(other.examples);
        self.acknowledged += other.acknowledged;
        self.lost.extend(other.lost);
    }

    /// Reports the invariants I2 and I9.
    fn report(self, x: &mut Experiment<'_>) {
        let source = "posts of one thread beyond the first; every fifth event is sent again under its id";
        let seen = Observation::exact(self.twice as f64, self.answered, source);
        x.observe("6.1/duplicates", seen.shown_by(&["I9", "I2"]));
        let lost = self.lost.len() as u64;
        let counts = [("acknowledged", self.acknowledged), ("unanswered", lost)];
        x.invariant("I2", "an acknowledged event of Slack is answered", lost, &counts, self.lost);
        let counts = [("answered", self.answered), ("twice", self.twice)];
        x.invariant("I9", "the same event of Slack is one answer", self.twice, &counts, self.examples);
    }
}

/// Runs simple events, complex ones, and instant ones.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let (mut all, mut acks) = (Answers::none(), histogram());
    let further = if x.by([false, true, true, true]) { &FURTHER[..] } else { &[] };
    for questions in std::iter::once(&SIMPLE).chain(further) {
        let Some((answers, acknowledged)) = ask(x, questions).await? else {
            if questions.row.name == SIMPLE.row.name {
                x.not_run_at_all(
                    "this binary has no `agentry sim slack`, or the platform does not answer /slack/events",
                );
                return Ok(());
            }
            continue;
        };
        all.add(answers);
        let _ = acks.add(acknowledged);
    }
    // Those at 3/s alone are too few for a p99, and those at 500/s are not faster.
    let seen = of_quantile(&acks, 0.99, &format!("{DURABLE}; all loads"));
    x.observe(
        "6.1/ack",
        match enough(acks.len(), 0.99) {
            true => seen,
            false => seen.undecided(format!("{} events are too few for a p99: 299 are the least", acks.len())),
        },
    );
    all.report(x);
    Ok(())
}

/// One load, and how long its acknowledgements took; `None` when this platform has no Slack.
async fn ask(x: &mut Experiment<'_>, questions: &SlackLoad) -> Result<Option<(Answers, Hist)>, RunError> {
    let team = "collaborative_config: {preferred_collaborators: [bench-helper], min_collaborators: 1}\n";
    let listens = "event_subscriptions: [slack.event.app_mention]\n";
    let plan = Plan {
        agents: vec![
            fleet::agent("bench-slack", "autonomous", listens),
            fleet::agent("bench-team", "collaborative", team),
            fleet::agent("bench-helper", "autonomous", ""),
        ],
        llm: Some(Llm { profile: questions.llm_profile, ..Llm::default() }),
        members: vec![Member::new("api", "api,slack,scheduler", ""), Member::new("worker-1", "worker", "")],
        slack: Some(if questions.channel == COMPLEX { "T0SIM=bench-team" } else { "" }),
        ..Plan::default()
    };
    let deployment = match x.deploy(plan).await {
        Ok(deployment) => deployment,
        Err(RunError::Sut(LabError::NotReady { what, .. })) if what.contains("Slack simulator") => return Ok(None),
        Err(error) => return Err(error),
    };
    let row = &questions.row;
    let driven = x.drive(row, &deployment, |host, _| SlackEventCaller::new(host, questions.channel, 60)).await?;
    if driven.seen.ok == 0 && driven.seen.failures.contains_key("4xx") {
        return Ok(None);
    }
    let answers = answers(&deployment, &driven).await?;
    let name = |what: &str| format!("{}.{what}", row.name);
    x.latencies(&name("end_to_end"), &answers.latency, "intended event to its answer at the simulator");
    let sent = driven.caller.sent.len() as u64;
    let missing = sent - answers.answered;
    x.counts(row.name, &[("unanswered", missing)], sent, "threads without a post");
    let (criterion, source) = questions.answers;
    let seen = of_quantile(&answers.latency, 0.95, source).shown_by(&[&name("end_to_end")]);
    x.observe(
        criterion,
        match missing {
            0 => seen,
            missing => seen.undecided(format!("{missing} events were never answered")),
        },
    );
    Ok(Some((answers, driven.seen.latency)))
}

/// Waits for an answer in every thread, then reads when each came.
async fn answers(deployment: &Deployment, driven: &LoadResult<SlackEventCaller>) -> Result<Answers, RunError> {
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

fn read(text: &str, driven: &LoadResult<SlackEventCaller>) -> Answers {
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
        acknowledged: acknowledged.len() as u64,
        lost: acknowledged.iter().filter(|stamp| !last.contains_key(*stamp)).cloned().collect(),
        ..Answers::none()
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
        let mut events = SlackEventCaller::new("h", "C0SIMPLE", 3);
        let (mut first, mut again) = (Vec::new(), Vec::new());
        events.request(AGAIN - 2, 5, &mut first);
        events.request(AGAIN - 1, 9, &mut again);
        let id = |bytes: &[u8]| String::from_utf8_lossy(bytes).split("event_id").nth(1).unwrap()[..30].to_owned();
        assert_eq!(id(&first), id(&again));
        assert_eq!(events.sent.values().copied().collect::<Vec<_>>(), [5]);
    }
}
