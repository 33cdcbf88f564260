//! Slack: how long it waits for its 200, and how long people wait for an answer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::Mutex;

use super::at_most;
use super::cluster_stage::Stage;
use super::http::{Pool, signed_post};
use super::load::open;
use super::open_loop::{self, Latencies};
use super::server::{Server, Simulator, agent, folder_of};

const SECRET: &str = "figures-signing-secret";
const TOKEN: &str = "xoxb-sim";
const TEAM: &str = "T0SIM";
/// Channels that posts are spread over: Slack takes about one answer a second in each.
const CHANNELS: u64 = 500;
/// How long events come.
const WINDOW: Duration = Duration::from_secs(20);
/// Events a second for the time to an answer.
const ANSWER_RATE: u64 = 50;

/// An agent that answers mentions, by a model that answers at once.
pub fn agents() -> Vec<(String, String)> {
    let text = agent("helper", "autonomous", "openai", "sim-small");
    vec![("helper".to_owned(), format!("{text}event_subscriptions: [slack.event.app_mention]\n"))]
}

fn environment(slack: &Simulator) -> Vec<(String, String)> {
    [
        ("AGENTRY_SLACK_SIGNING_SECRET", SECRET.to_owned()),
        ("AGENTRY_SLACK_BOT_TOKEN", format!("{TEAM}={TOKEN}")),
        ("AGENTRY_SLACK_API_URL", format!("{}/api", slack.url)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// What Slack sends of a mention: signed now.
fn mention(number: u64) -> Vec<u8> {
    let body = json!({
        "type": "event_callback", "team_id": TEAM, "event_id": format!("Ev{number}"),
        "authorizations": [{"user_id": "U0SIMBOT"}],
        "event": {"type": "app_mention", "channel": format!("C0F{}", number % CHANNELS), "user": "U0ALICE",
                  "text": "<@U0SIMBOT> where is the parcel?", "ts": ts_of(number)},
    })
    .to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("v0:{now}:{body}").as_bytes());
    let tag: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = format!("x-slack-request-timestamp: {now}\r\nx-slack-signature: v0={tag}\r\n");
    signed_post("/slack/events", &headers, &body)
}

fn ts_of(number: u64) -> String {
    format!("1795424400.{number:06}")
}

/// Sends mentions in an open loop, the first of them with `from`; how long each waited for its 200.
async fn mentions(server: &Server, rate: u64, window: Duration, from: &AtomicU64) -> Latencies {
    let pool = Pool::new(&server.address, open(server, 64).await);
    let first = from.load(Ordering::Relaxed);
    let latencies = open_loop::run(rate, window, |number| {
        let pool = pool.clone();
        async move { pool.is_well(&mention(first + number)).await }
    })
    .await;
    from.fetch_add(latencies.count() as u64, Ordering::Relaxed);
    latencies
}

/// Slack event to 200, the event and its task durable: the embedded engine. Two seconds of events go before the window.
///
/// The tail is the disk's: each answer waits for an `fsync` of the store's log, and the pauses are those that are slow.
/// With `TMPDIR` on a file system in memory they are gone, which tells a slow disk from a slow server.
pub async fn acknowledged() {
    let (llm, slack) = (Simulator::start(), Simulator::slack(None));
    let server = Server::spawn(folder_of(&agents()), &["--sim-url", &llm.url], &environment(&slack), None);
    say("embedded", &server, 500, 3.0).await;
}

/// The same on the cluster engine.
pub async fn acknowledged_by_cluster(stage: &Stage) {
    let (llm, slack) = (Simulator::start(), Simulator::slack(None));
    let server = stage.process_with("all", &["--sim-url", &llm.url], environment(&slack));
    say("cluster, one process", &server, 200, 10.0).await;
}

async fn say(engine: &str, server: &Server, rate: u64, goal: f64) {
    let number = AtomicU64::new(0);
    mentions(server, rate, Duration::from_secs(2), &number).await;
    let latencies = mentions(server, rate, WINDOW, &number).await;
    println!("Slack event to 200, {engine}, {rate}/s: {}; p99 {}", latencies.text(), at_most(latencies.at(0.99), goal));
    println!("  {}", latencies.pauses());
}

/// Slack event to the post of its answer, by Slack's own ledger: from when the event was sent to when the post came.
pub async fn answered() {
    let ledger = tempfile::NamedTempFile::new().unwrap();
    let (llm, slack) = (Simulator::start(), Simulator::slack(ledger.path().to_str()));
    let server = Server::spawn(folder_of(&agents()), &["--sim-url", &llm.url], &environment(&slack), None);
    let number = AtomicU64::new(0);
    mentions(&server, ANSWER_RATE, Duration::from_secs(2), &number).await;
    let sent = Arc::new(std::sync::Mutex::new(HashMap::new()));
    let first = number.load(Ordering::Relaxed);
    let idle = Arc::new(Mutex::new(open(&server, 64).await));
    let taken = open_loop::run(ANSWER_RATE, WINDOW, |number| {
        let (idle, sent) = (Arc::clone(&idle), Arc::clone(&sent));
        sent.lock().unwrap().insert(ts_of(first + number), micros());
        async move {
            let mut connection = idle.lock().await.pop().unwrap();
            let (status, _) = connection.send(&mention(first + number)).await;
            idle.lock().await.push(connection);
            status == 200
        }
    })
    .await;
    server.drained().await;
    let sent = sent.lock().unwrap().clone();
    let took = answers(ledger.path(), &sent, taken.count()).await;
    let latencies = Latencies::of(took, taken.count());
    println!(
        "Slack event to its answer in Slack, {ANSWER_RATE}/s: {}; p95 {}",
        latencies.text(),
        at_most(latencies.at(0.95), 20.0)
    );
}

fn micros() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// Microseconds from each event to the first post in its thread, once there are as many as expected or no more come.
async fn answers(ledger: &Path, sent: &HashMap<String, u64>, expected: usize) -> Vec<u64> {
    for _ in 0..100 {
        let text = std::fs::read_to_string(ledger).unwrap();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut came: HashMap<String, u64> = HashMap::new();
        for line in lines.filter(|line| line["method"] == "chat.postMessage" && line["ok"] == true) {
            let (Some(thread), Some(at)) = (line["thread_ts"].as_str(), line["t_us"].as_u64()) else { continue };
            came.entry(thread.to_owned()).or_insert(at);
        }
        let took: Vec<u64> = sent.iter().filter_map(|(ts, sent)| Some(came.get(ts)?.saturating_sub(*sent))).collect();
        if took.len() >= expected {
            return took;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Vec::new()
}
