//! Servers, deployment and load together, and what a test asks of them while a fault lasts.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agentry_lab::{ProcessGroup, Server, Servers};
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::deployment::{Deployment, MEMBERS};
use crate::http::{client, get};
use crate::invariants::Promised;
use crate::judge;
use crate::load::{Load, RATES};
use crate::wait::until;

/// After a fault, 90 % of the offered rate must be back within this time (issue: 60 s, goal 5 s).
pub const BACK_WITHIN: Duration = Duration::from_secs(60);
/// Part of the offered rate that counts as back, over all agents.
const BACK: f64 = 0.9;
/// Over so many seconds in a row. In each of them at least [`STEADY`]: a burst of what had waited is not enough. And
/// over all of them at least [`EACH`] for each agent: one mode that stands still is not made up for by the others.
const SECONDS: usize = 3;
const STEADY: f64 = 0.75;
const EACH: f64 = 0.5;
/// How often the rate is looked at.
const LOOK_AT_RATE: Duration = Duration::from_millis(250);
/// How long anything else may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A deployment under load.
pub struct TestCluster {
    load: Option<Load>,
    pub deployment: Deployment,
    pub servers: Servers,
    pub http: Client,
    url: watch::Sender<String>,
    measured: Vec<String>,
    _folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

/// Without nextest all tests share a process; two deployments at once would be slow, not wrong.
static ALONE: Mutex<()> = Mutex::const_new(());

impl TestCluster {
    /// Servers and a deployment whose processes are all started at once; `proxied` ones reach the servers through proxies.
    pub async fn open(proxied: &[&str]) -> Self {
        Self::with(&MEMBERS, proxied).await
    }

    pub async fn with(members: &[&str], proxied: &[&str]) -> Self {
        let alone = ALONE.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let servers = Servers::start(folder.path(), ProcessGroup::Callers).await.unwrap();
        let mut deployment = Deployment::new(folder.path(), servers.urls()).await;
        let ports = [servers.postgres.port, servers.rabbitmq.port, servers.redis.port];
        deployment.proxy(proxied, ports).await;
        let (load, url) = (None, watch::Sender::new(String::new()));
        let http = client();
        let measured = Vec::new();
        let mut cluster = Self { load, deployment, servers, http, url, measured, _folder: folder, _alone: alone };
        cluster.start(members).await;
        cluster
    }

    /// Begins the load; returns when tasks end as fast as they come.
    pub async fn load(&mut self) {
        self.load = Some(Load::start(self.url.subscribe()));
        self.rate_is_back("start", now()).await;
    }

    /// Begins a load of single tasks, so many per second.
    pub fn load_singles(&mut self, rate: f64) {
        self.load = Some(Load::singles(self.url.subscribe(), rate));
    }

    /// Ends the load; what was acknowledged.
    pub async fn end_load(&mut self) -> Promised {
        self.load.take().unwrap().end().await
    }

    /// What callers have seen so far: requests without an answer, and requests that were refused.
    pub fn troubles(&self) -> (u64, u64) {
        let shared = &self.load.as_ref().unwrap().shared;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
        (count(&shared.unanswered), count(&shared.refused))
    }

    /// A fault begins; tasks that come from now on carry its name.
    pub fn fault(&self, name: &str) {
        self.load.as_ref().unwrap().phase(name);
        eprintln!("--- {name}");
    }

    pub fn measured(&mut self, what: String) {
        eprintln!("    {what}");
        self.measured.push(what);
    }

    /// Starts processes; callers hear of a new API.
    pub async fn start(&mut self, names: &[&str]) {
        self.deployment.start(names).await;
        if names.contains(&"api") {
            self.url.send_replace(self.deployment.url("api"));
        }
    }

    pub fn api(&self) -> String {
        self.url.borrow().clone()
    }

    /// `GET` from the API.
    pub async fn get(&self, path: &str) -> Value {
        get(&self.http, &format!("{}{path}", self.api())).await
    }

    /// Rows of a query to the store, as text.
    pub async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        self.servers.postgres.rows(sql).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// The number that a query to the store has for an answer.
    pub async fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql).await;
        rows[0][0].parse().unwrap_or_else(|_| panic!("no number: {rows:?} for {sql}"))
    }

    /// The worker that a process is, as the store knows it.
    pub async fn worker(&mut self, name: &str) -> String {
        let host = format!(":{}", self.deployment.process(name).pid());
        let of = |row: &Vec<String>| {
            let record: Value = serde_json::from_str(&row[1]).unwrap();
            record["host"].as_str().unwrap().ends_with(&host).then(|| row[0].clone())
        };
        let sql = "SELECT id::text, record FROM agentry.workers WHERE record IS NOT NULL AND NOT gone";
        until(&format!("the worker of {name}"), PATIENCE, async || self.rows(sql).await.iter().find_map(of)).await
    }

    /// The tasks that a worker owns and that run.
    pub async fn running(&self, worker: &str) -> Vec<String> {
        let sql = format!("SELECT id::text FROM agentry.open_tasks WHERE status = 1 AND owner = '{worker}'");
        self.rows(&sql).await.into_iter().map(|mut row| row.remove(0)).collect()
    }

    /// Waits until a worker runs at least so many tasks; these.
    pub async fn busy(&self, worker: &str, least: usize) -> Vec<String> {
        until(&format!("{least} running tasks of worker {worker}"), PATIENCE, async || {
            Some(self.running(worker).await).filter(|tasks| tasks.len() >= least)
        })
        .await
    }

    /// A number of a process's `/metrics`; `None` while it does not say.
    pub async fn metric(&self, member: &str, name: &str) -> Option<f64> {
        let url = format!("{}/metrics", self.deployment.url(member));
        let text = self.http.get(url).send().await.ok()?.text().await.ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Waits until a process's number is as it should be; the number.
    pub async fn until_metric(&self, member: &str, name: &str, fits: impl Fn(f64) -> bool) -> f64 {
        until(&format!("{name} of {member}"), PATIENCE, async || {
            self.metric(member, name).await.filter(|value| fits(*value))
        })
        .await
    }

    /// Whether a process says that it has a dependency.
    pub async fn until_up(&self, member: &str, dependency: &str, up: bool) {
        let name = format!("agentry_dependency_up{{dependency=\"{dependency}\"}}");
        self.until_metric(member, &name, |value| (value > 0.5) == up).await;
    }

    /// Waits until tasks end as fast as they are offered, and says how long after `since` that was.
    pub async fn rate_is_back(&mut self, what: &str, since: i64) {
        let sql = format!(
            "SELECT finished_at, agent FROM agentry.ended_tasks JOIN agentry.tasks USING (id)
             WHERE finished_at >= {since} ORDER BY 1"
        );
        let began = Instant::now();
        let from = loop {
            let rows = self.rows(&sql).await;
            let ended: Vec<(i64, &str)> = rows.iter().map(|row| (row[0].parse().unwrap(), row[1].as_str())).collect();
            if let Some(from) = steady_from(&ended) {
                break from;
            }
            let limit = BACK_WITHIN + Duration::from_secs(SECONDS as u64);
            assert!(began.elapsed() < limit, "{what}: {} tasks ended in {limit:?}, {}/s come", ended.len(), offered());
            tokio::time::sleep(LOOK_AT_RATE).await;
        };
        let back = Duration::from_micros((from - since).unsigned_abs());
        assert!(back <= BACK_WITHIN, "{what}: the rate was back after {back:?}");
        let waiting = "SELECT count(*) FROM agentry.open_tasks WHERE status = 0";
        until(&format!("the backlog to be worked off after {what}"), BACK_WITHIN, async || {
            (self.number(waiting).await < (2.0 * offered()) as i64).then_some(())
        })
        .await;
        self.measured(format!("{what}: {:.0} % of the rate is back after {:.1} s", BACK * 100.0, back.as_secs_f64()));
    }

    /// Ends the load, waits until all is quiet, and judges.
    pub async fn judge(mut self) -> judge::Record {
        let promised = self.end_load().await;
        let record = judge::judge(&mut self, promised).await;
        eprintln!("{} tasks; measured:\n  {}", record.journals.len(), self.measured.join("\n  "));
        record
    }
}

/// Tasks that come per second.
fn offered() -> f64 {
    RATES.iter().map(|(_, rate)| rate).sum()
}

/// The first of these moments from which on tasks ended at their rate.
fn steady_from(ended: &[(i64, &str)]) -> Option<i64> {
    let (last, _) = *ended.last()?;
    let over = last - SECONDS as i64 * 1_000_000;
    ended
        .iter()
        .take_while(|(from, _)| *from <= over)
        .enumerate()
        .find_map(|(at, (from, _))| is_steady(&ended[at..], *from).then_some(*from))
}

fn is_steady(ended: &[(i64, &str)], from: i64) -> bool {
    let ended = &ended[..ended.partition_point(|(at, _)| *at < from + SECONDS as i64 * 1_000_000)];
    let within = |first: usize, seconds: usize| {
        let (first, seconds) = (from + first as i64 * 1_000_000, seconds as i64 * 1_000_000);
        ended.iter().filter(move |(at, _)| (first..first + seconds).contains(at))
    };
    let enough = |count: usize, part: f64, rate: f64, seconds: usize| count as f64 >= part * rate * seconds as f64;
    enough(within(0, SECONDS).count(), BACK, offered(), SECONDS)
        && (0..SECONDS).all(|second| enough(within(second, 1).count(), STEADY, offered(), 1))
        && RATES.iter().all(|(name, rate)| {
            enough(within(0, SECONDS).filter(|(_, agent)| agent == name).count(), EACH, *rate, SECONDS)
        })
}

/// Microseconds since the Unix epoch, as the store counts.
pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let servers =
                self.servers.all().map(|server: &Server| (server.process.name().to_owned(), server.process.tail()));
            for (name, text) in servers.into_iter().chain(self.deployment.lab.program.tails()) {
                eprintln!("===== the end of the log of {name}\n{text}");
            }
        }
    }
}
