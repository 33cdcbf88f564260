//! Steady load in an open loop: tasks come at their rate whatever the deployment does, and every caller insists, with
//! the same idempotency key, until it has an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::http::client;
use crate::invariants::Promised;

/// Single tasks per second.
const SINGLES: f64 = 40.0;
/// Conversations, and messages per second of each.
const SESSIONS: usize = 8;
const TURNS: f64 = 1.0;
/// Tasks for a team per second; each is a plan, its steps and a summary.
const TEAMS: f64 = 2.0;
/// Looks at tasks per second.
const LOOKS: f64 = 10.0;
/// Tasks that come per second, by agent. The schedule brings its own.
pub const RATES: [(&str, f64); 5] = [
    ("clerk", SINGLES / 2.0),
    ("checker", SINGLES / 2.0),
    ("support", SESSIONS as f64 * TURNS),
    ("team", TEAMS),
    ("ticker", 1.0),
];
/// Requests under way at once; what comes meanwhile waits its turn and is sent as soon as there is an answer.
const MAX_IN_FLIGHT: usize = 128;
/// How long a caller waits before it sends a request again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a caller insists.
const PATIENCE: Duration = Duration::from_secs(120);
/// Tasks that are looked at again and again: the last so many.
const RECENT: usize = 300;

/// The callers together.
pub struct Load {
    pub shared: Arc<Shared>,
    lanes: Vec<JoinHandle<()>>,
}

/// What callers share.
pub struct Shared {
    http: Client,
    url: watch::Receiver<String>,
    promised: Mutex<Promised>,
    recent: Mutex<VecDeque<String>>,
    phase: Mutex<String>,
    in_flight: Arc<Semaphore>,
    stop: CancellationToken,
    /// Requests that nobody answered.
    pub unanswered: AtomicU64,
    /// Requests that were answered with "not now" (5xx).
    pub refused: AtomicU64,
}

impl Load {
    /// Begins.
    pub fn start(url: watch::Receiver<String>) -> Self {
        let shared = Shared::new(url);
        let mut lanes = vec![
            at_rate(&shared, SINGLES, |shared, n| async move { single(&shared, n).await }),
            at_rate(&shared, TEAMS, |shared, n| async move { team(&shared, n).await }),
            tokio::spawn(look(Arc::clone(&shared))),
        ];
        lanes.extend((0..SESSIONS).map(|session| tokio::spawn(converse(Arc::clone(&shared), session))));
        Self { shared, lanes }
    }

    /// Begins with single tasks only, so many per second.
    pub fn singles(url: watch::Receiver<String>, rate: f64) -> Self {
        let shared = Shared::new(url);
        let lanes = vec![at_rate(&shared, rate, |shared, n| async move { single(&shared, n).await })];
        Self { shared, lanes }
    }

    /// What follows belongs to this fault: its name stands in keys and inputs.
    pub fn phase(&self, name: &str) {
        name.clone_into(&mut self.shared.phase.lock().unwrap());
    }

    /// Ends it once everybody has an answer.
    pub async fn end(self) -> Promised {
        self.shared.stop.cancel();
        for lane in self.lanes {
            lane.await.unwrap();
        }
        std::mem::take(&mut *self.shared.promised.lock().unwrap())
    }
}

/// Requests that begin at a fixed rate, each for itself.
fn at_rate<F, Fut>(shared: &Arc<Shared>, rate: f64, work: F) -> JoinHandle<()>
where
    F: Fn(Arc<Shared>, usize) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // Ticks that were late are made up for.
        let (mut ticks, mut requests) = (interval(Duration::from_secs_f64(1.0 / rate)), JoinSet::new());
        for n in 0.. {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shared.stop.cancelled() => break,
            }
            let permit = Arc::clone(&shared.in_flight).acquire_owned().await.unwrap();
            let request = work(Arc::clone(&shared), n);
            requests.spawn(async move {
                request.await;
                drop(permit);
            });
            while let Some(ended) = requests.try_join_next() {
                ended.unwrap();
            }
        }
        while let Some(ended) = requests.join_next().await {
            ended.unwrap();
        }
    })
}

/// Some take two seconds: whichever worker a fault meets has tasks that run.
async fn single(shared: &Shared, n: usize) {
    let phase = shared.phase();
    let agent = if n.is_multiple_of(2) { "clerk" } else { "checker" };
    let wait = match n % 16 {
        0 | 5 => " [[sleep:2000]]",
        3 | 9 => " [[sleep:100]]",
        _ => "",
    };
    let key = format!("{phase}/single/{n}");
    let body = json!({"agent": agent, "input": format!("{key}{wait}")});
    shared.task(&key, &body).await;
    if n.is_multiple_of(20) {
        // Asked for twice.
        shared.task(&key, &body).await;
    }
}

async fn team(shared: &Shared, n: usize) {
    let key = format!("{}/team/{n}", shared.phase());
    shared.task(&key, &json!({"agent": "team", "input": format!("{key} [[sleep:1200]]")})).await;
}

/// One message after the other; the next may be sent before the one before is answered.
async fn converse(shared: Arc<Shared>, session: usize) {
    let name = format!("s{session}");
    let mut ticks = interval(Duration::from_secs_f64(1.0 / TURNS));
    for n in 0.. {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        let key = format!("{}/{name}/{n}", shared.phase());
        let said = if (n + session).is_multiple_of(4) { format!("{key} [[sleep:1500]]") } else { key.clone() };
        let id = shared.task(&key, &json!({"agent": "support", "session": name, "input": said})).await;
        shared.promised.lock().unwrap().turns.entry(name.clone()).or_default().push((id, said));
    }
}

/// Looks at tasks that were accepted. They are there, and what has ended stays as it is: nothing stale is served.
async fn look(shared: Arc<Shared>) {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / LOOKS));
    let mut ended: HashMap<String, Value> = HashMap::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shared.stop.cancelled() => return,
        }
        let Some(id) = shared.any_recent() else { continue };
        let url = format!("{}/v1/tasks/{id}", *shared.url.borrow());
        let Ok(response) = shared.http.get(&url).send().await else { continue };
        if response.status().is_server_error() {
            continue;
        }
        assert_eq!(response.status(), StatusCode::OK, "task {id} was accepted");
        let Ok(task) = response.json::<Value>().await else { continue };
        match ended.get(&id) {
            Some(before) => assert_eq!(*before, task, "a task that had ended changed"),
            None if !task["finished_at"].is_null() => drop(ended.insert(id, task)),
            None => {}
        }
    }
}

impl Shared {
    fn new(url: watch::Receiver<String>) -> Arc<Self> {
        Arc::new(Self {
            http: client(),
            url,
            promised: Mutex::default(),
            recent: Mutex::default(),
            phase: Mutex::new("start".to_owned()),
            in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            stop: CancellationToken::new(),
            unanswered: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    fn phase(&self) -> String {
        self.phase.lock().unwrap().clone()
    }

    fn any_recent(&self) -> Option<String> {
        let recent = self.recent.lock().unwrap();
        (!recent.is_empty()).then(|| recent[rand::random_range(..recent.len())].clone())
    }

    /// A task that is accepted in the end; its id.
    async fn task(&self, key: &str, body: &Value) -> String {
        let answer = self.post("/v1/tasks", key, body).await;
        let id = answer["id"].as_str().unwrap_or_else(|| panic!("{key} has no id: {answer}")).to_owned();
        let before = self.promised.lock().unwrap().keys.insert(key.to_owned(), id.clone());
        assert!(before.is_none_or(|before| before == id), "{key} is two tasks");
        let mut recent = self.recent.lock().unwrap();
        recent.push_back(id.clone());
        if recent.len() > RECENT {
            recent.pop_front();
        }
        id
    }

    /// Sends a request again and again until somebody says something final.
    async fn post(&self, path: &str, key: &str, body: &Value) -> Value {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "nobody answers {key}");
            let url = format!("{}{path}", *self.url.borrow());
            match self.http.post(url).header("idempotency-key", key).json(body).send().await {
                Ok(response) => {
                    let status = response.status();
                    match response.json::<Value>().await {
                        Ok(answer) if status.is_success() => return answer,
                        Ok(answer) => {
                            assert!(status.is_server_error(), "{key}: {status} {answer}");
                            self.refused.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(_) => drop(self.unanswered.fetch_add(1, Ordering::Relaxed)),
                    }
                }
                Err(_) => drop(self.unanswered.fetch_add(1, Ordering::Relaxed)),
            }
            sleep(AGAIN).await;
        }
    }
}
