//! Schedules: how late slots are when a thousand fall on one second, and what a hundred thousand cost at rest.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agentry_core::time::Timestamp;
use serde_json::{Value, json};

use super::at_most;
use super::cluster_stage::Stage;
use super::http::post;
use super::load::{noop, open};
use super::open_loop::Latencies;
use super::server::{Server, folder_of};

/// Schedules on one second.
const ON_A_SECOND: usize = 1_000;
/// Seconds between their slots.
const EVERY: i64 = 2;
/// Slots of each that are measured.
const SLOTS: i64 = 15;
/// Processes of the cluster that fire them.
const SCHEDULERS: usize = 3;
/// How often one of these is killed.
const KILL_EVERY: Duration = Duration::from_secs(10);
/// Connections that make schedules.
const MAKERS: usize = 32;

/// Makes schedules over the API.
async fn make(server: &Server, count: usize, of: fn(usize) -> Value) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut makers = Vec::new();
    for mut connection in open(server, MAKERS).await {
        let next = Arc::clone(&next);
        makers.push(tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                let (status, body) = connection.send(&post("/v1/schedules", &of(number).to_string())).await;
                assert_eq!(status, 201, "{}", String::from_utf8_lossy(body));
            }
        }));
    }
    for maker in makers {
        maker.await.unwrap();
    }
}

fn every_other_second(number: usize) -> Value {
    json!({"name": format!("s{number}"), "agent": "noop", "interval_seconds": EVERY, "overlap": "allow_all",
           "input": "tick", "catchup_window_seconds": 3600})
}

/// Daily, at a minute of its own: most expressions are shared by many.
fn daily(number: usize) -> Value {
    let zone = ["UTC", "Europe/Berlin", "America/New_York"][number % 3];
    let cron = format!("{} {} * * *", number % 60, number / 60 % 24);
    json!({"name": format!("s{number}"), "agent": "noop", "cron": cron, "timezone": zone, "input": "daily"})
}

/// One process.
pub async fn on_one_second() {
    let server = Server::start(&noop(), &[]);
    measure("embedded", &server, 5.0).await;
}

/// An API, a worker and three schedulers, of which one is killed again and again.
pub async fn on_one_second_of_cluster(stage: &Stage) {
    let api = stage.process("api", &["--role", "api"]);
    let _worker = stage.process("worker", &["--role", "worker"]);
    let mut kills = 0;
    tokio::select! {
        () = measure("cluster, three schedulers", &api, 20.0) => {}
        () = kill_schedulers(stage, &mut kills) => {}
    }
    println!("  {kills} schedulers were killed meanwhile, one every {} s, and replaced", KILL_EVERY.as_secs());
}

/// Three schedulers; every while the oldest is killed, as by `kill -9`, and a new one takes its place.
async fn kill_schedulers(stage: &Stage, kills: &mut usize) {
    let start = |number: usize| stage.process(&format!("scheduler-{number}"), &["--role", "scheduler"]);
    let mut schedulers: VecDeque<Server> = (0..SCHEDULERS).map(start).collect();
    loop {
        tokio::time::sleep(KILL_EVERY).await;
        drop(schedulers.pop_front());
        *kills += 1;
        schedulers.push_back(start(SCHEDULERS + *kills));
    }
}

async fn measure(engine: &str, server: &Server, goal: f64) {
    make(server, ON_A_SECOND, every_other_second).await;
    tokio::time::sleep(Duration::from_secs(2 * EVERY.unsigned_abs())).await;
    let (from, step) = (now(), EVERY * 1_000_000);
    let first = (from / step + 1) * step;
    let last = first + (SLOTS - 1) * step;
    let until = Duration::from_micros((last + 2_000_000 - from).unsigned_abs());
    tokio::time::sleep(until).await;
    let (mut accepted, mut started) = (Vec::new(), Vec::new());
    let (mut seen, mut early) = (HashSet::new(), 0);
    let mut doubled = 0;
    each_task(server, |task| {
        let slot = at(&task["source"]["slot"]);
        if slot < first || slot > last {
            return slot >= first;
        }
        doubled += usize::from(!seen.insert((task["source"]["schedule"].to_string(), slot)));
        early += usize::from(at(&task["started_at"]) < slot);
        accepted.push((at(&task["created_at"]) - slot).unsigned_abs());
        started.push((at(&task["started_at"]) - slot).unsigned_abs());
        true
    })
    .await;
    let expected = ON_A_SECOND * usize::try_from(SLOTS).unwrap();
    let (accepted, started) = (Latencies::of(accepted, expected), Latencies::of(started, expected));
    println!(
        "{ON_A_SECOND} schedules on one second, {engine}: slot to the start of its task {}; p99 {}; slot to the task's making \
         p50 {:.2}, p99 {:.2} ms; {} missed, {doubled} doubled, {early} early",
        started.text(),
        at_most(started.at(0.99), goal),
        accepted.at(0.5),
        accepted.at(0.99),
        expected - seen.len(),
    );
}

/// Tasks, newest first, until `each` says that it has seen enough.
async fn each_task(server: &Server, mut each: impl FnMut(&Value) -> bool) {
    let (mut connection, mut cursor) = (server.connect().await, String::new());
    loop {
        let page = connection.ask(&format!("/v1/tasks?limit=1000{cursor}")).await;
        for task in page["items"].as_array().unwrap() {
            if !each(task) {
                return;
            }
        }
        let Some(next) = page["next_cursor"].as_str() else { return };
        cursor = format!("&cursor={next}");
    }
}

fn at(moment: &Value) -> i64 {
    serde_json::from_value::<Timestamp>(moment.clone()).map_or(0, |moment| moment.0)
}

fn now() -> i64 {
    i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// Processor time with many schedules of which none is due, and how soon the first slot is decided after a start.
pub async fn idle(count: usize, window: Duration) {
    let dir = folder_of(&noop());
    let server = Server::spawn(Arc::clone(&dir), &[], &[], None);
    let began = Instant::now();
    make(&server, count, daily).await;
    let made = began.elapsed().as_secs_f64();
    drop(server);
    let server = Server::spawn(Arc::clone(&dir), &[], &[], None);
    let listening = server.spawned.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, kib) = (server.cpu(), server.pss_kib());
    tokio::time::sleep(window).await;
    let share = (server.cpu() - before).as_secs_f64() / window.as_secs_f64() * 100.0;
    println!(
        "{count} schedules at rest: {share:.2} % of a core over {} s ({}); {} MiB; made in {made:.1} s; listening {:.0} ms after a \
         start, which took {:.2} s of processor time in 5 s",
        window.as_secs(),
        at_most(share, 1.0),
        kib / 1024,
        listening * 1_000.0,
        before.as_secs_f64(),
    );
    make(
        &server,
        1,
        |_| json!({"name": "tick", "agent": "noop", "interval_seconds": 1, "catchup_window_seconds": 3600}),
    )
    .await;
    drop(server);
    let server = Server::spawn(dir, &[], &[], None);
    let mut connection = server.connect().await;
    let born = server.spawned_at.duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
    let began = Instant::now();
    let decided = loop {
        let tick = connection.ask("/v1/schedules/tick").await;
        let decided = at(&tick["last_slots"][0]["decided_at"]);
        if decided > born {
            break decided - born;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "no slot after a start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    println!("  the first slot of a second's schedule is decided {:.0} ms after a start", decided as f64 / 1_000.0);
}
