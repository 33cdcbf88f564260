//! A hundred kill -9 of a loaded server, at random moments: nothing that was accepted is lost, nothing ends twice, no
//! answer of a model is bought twice, and conversations stay in order.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::http::{Http, PATIENCE, client};
use crate::invariants::{self, Promised, calls, entries, journal_is_gapless, one_task_for_each_key};
use crate::support::{Server, agentry, empty_folder, write_agent};

/// Kills of a server that listens and has work.
const KILLS: u32 = 100;
/// Life of a server under load before it is killed, in milliseconds.
const LIFE_MS: (u64, u64) = (5, 120);
/// One in so many kills is followed by one of a server that is still starting.
const STILLBORN: u64 = 8;
/// Life of a process that is killed while it starts, in milliseconds.
const STARTING_MS: (u64, u64) = (1, 40);
/// Conversations, each with a client that sends one message after the other.
const SESSIONS: usize = 4;
/// Messages of each conversation per life.
const TURNS: usize = 2;
/// Clients of single tasks.
const SINGLES: usize = 3;
/// Tasks of a batch; one batch per life.
const BATCH: usize = 3;
/// How long a client waits before it sends a request again.
const AGAIN: Duration = Duration::from_millis(3);

/// SplitMix64: the same moments for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn between(&mut self, (least, most): (u64, u64)) -> u64 {
        least + self.roll() % (most - least + 1)
    }
}

fn write_fleet(folder: &Path) {
    let team = "collaborative_config: {preferred_collaborators: [clerk, checker], min_collaborators: 1}\n";
    for (name, mode, more) in [
        ("support", "continuous", ""),
        ("clerk", "autonomous", ""),
        ("checker", "autonomous", ""),
        ("team", "collaborative", team),
    ] {
        write_agent(folder, name, mode, more);
    }
}

/// The clients' view: where the server is now, and what it promised.
#[derive(Clone)]
struct Load {
    http: Client,
    url: watch::Receiver<String>,
    promised: Arc<Mutex<Promised>>,
}

impl Load {
    /// Sends a request again and again until a server that lives says something final.
    async fn post(&self, path: &str, key: &str, body: &Value) -> Value {
        let began = Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE * 3, "nobody answers {key}");
            let url = format!("{}{path}", *self.url.borrow());
            let sent = self.http.post(url).header("idempotency-key", key).json(body).send().await;
            if let Ok(response) = sent {
                let status = response.status();
                if let Ok(answer) = response.json::<Value>().await {
                    if status.is_success() {
                        return answer;
                    }
                    assert!(status.is_server_error(), "{key}: {status} {answer}");
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn promise(&self, key: &str, id: &Value) -> String {
        let id = id.as_str().unwrap_or_else(|| panic!("{key} has no id: {id}")).to_owned();
        let before = self.promised.lock().unwrap().keys.insert(key.to_owned(), id.clone());
        assert!(before.is_none_or(|before| before == id), "{key} is two tasks");
        id
    }

    async fn task(&self, key: &str, body: &Value) -> String {
        let answer = self.post("/v1/tasks", key, body).await;
        self.promise(key, &answer["id"])
    }
}

/// The input of a task: known by its key, and slow now and then so that kills meet it while it runs.
fn input(key: &str, n: usize) -> String {
    if n.is_multiple_of(3) { format!("{key} [[sleep:{}]]", 5 + n % 4 * 10) } else { key.to_owned() }
}

/// What a client may still do, and how much of it each life of the server brings.
type Permits = (Arc<Semaphore>, usize);

/// A client that does `work` once for each permit, until the semaphore is closed.
fn client_of<F, Fut>(permits: &Arc<Semaphore>, work: F) -> JoinHandle<()>
where
    F: Fn(usize) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let permits = Arc::clone(permits);
    tokio::spawn(async move {
        for n in 0.. {
            let Ok(permit) = permits.acquire().await else { return };
            permit.forget();
            work(n).await;
        }
    })
}

/// Starts every client. The permits of a life are given out when its server listens.
fn clients(load: &Load) -> (Vec<Permits>, Vec<JoinHandle<()>>) {
    let (mut permits, mut running) = (Vec::new(), Vec::new());
    let mut start = |per_life: usize| {
        let semaphore = Arc::new(Semaphore::new(0));
        permits.push((Arc::clone(&semaphore), per_life));
        semaphore
    };
    for session in 0..SESSIONS {
        let load = load.clone();
        running.push(client_of(&start(TURNS), move |n| {
            let (load, name) = (load.clone(), format!("s{session}"));
            async move { conversation(&load, &name, n).await }
        }));
    }
    for single in 0..SINGLES {
        let load = load.clone();
        running.push(client_of(&start(1), move |n| {
            let (load, key) = (load.clone(), format!("single-{single}-{n}"));
            async move { single_task(&load, &key, n).await }
        }));
    }
    let batches = load.clone();
    running.push(client_of(&start(1), move |n| {
        let load = batches.clone();
        async move { batch(&load, n).await }
    }));
    (permits, running)
}

async fn conversation(load: &Load, session: &str, n: usize) {
    let key = format!("{session}-{n}");
    let said = input(&key, n);
    let id = load.task(&key, &json!({"agent": "support", "session": session, "input": said})).await;
    let mut promised = load.promised.lock().unwrap();
    promised.turns.entry(session.to_owned()).or_default().push((id, said));
}

/// Every fourth is for the team; every fifth is asked for twice.
async fn single_task(load: &Load, key: &str, n: usize) {
    let agent = if n % 4 == 3 { "team" } else { "clerk" };
    let body = json!({"agent": agent, "input": input(key, n)});
    load.task(key, &body).await;
    if n.is_multiple_of(5) {
        load.task(key, &body).await;
    }
}

async fn batch(load: &Load, n: usize) {
    let key = format!("batch-{n}");
    let tasks: Vec<Value> =
        (0..BATCH).map(|at| json!({"agent": "checker", "input": input(&format!("{key}/{at}"), n + at)})).collect();
    let answer = load.post("/v1/tasks/batch", &key, &json!({"tasks": tasks})).await;
    for at in 0..BATCH {
        load.promise(&format!("{key}/{at}"), &answer["tasks"][at]["id"]);
    }
}

/// The processes: a simulator that lives, a server that does not.
struct Stage<'f> {
    folder: &'f Path,
    simulator: Server,
}

impl Stage<'_> {
    fn serve(&self) -> std::process::Command {
        let upstream = format!("{}/v1", self.simulator.url);
        let log = std::fs::File::options().create(true).append(true).open(self.folder.join("server.log")).unwrap();
        let mut command = agentry(self.folder);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--sim-url", &upstream]).stderr(log);
        command
    }

    /// Lives one after the other, each under load and ended by kill -9. Leaves a server that runs.
    async fn lives(&self, dice: &mut Dice, url: &watch::Sender<String>, permits: &[Permits]) -> Server {
        for kill in 0..KILLS {
            let server = tokio::task::block_in_place(|| Server::spawn(&mut self.serve()));
            url.send_replace(server.url.clone());
            permits.iter().for_each(|(permits, per_life)| permits.add_permits(*per_life));
            tokio::time::sleep(Duration::from_millis(dice.between(LIFE_MS))).await;
            drop(server);
            if u64::from(kill) % STILLBORN == 0 {
                let mut starting = self.serve().stdout(Stdio::null()).spawn().unwrap();
                tokio::time::sleep(Duration::from_millis(dice.between(STARTING_MS))).await;
                starting.kill().unwrap();
                starting.wait().unwrap();
            }
        }
        let server = tokio::task::block_in_place(|| Server::spawn(&mut self.serve()));
        url.send_replace(server.url.clone());
        server
    }

    /// The simulator's own ledger: request id to how often it was answered whole.
    fn bought(&self) -> HashMap<String, u32> {
        let text = std::fs::read_to_string(self.folder.join("ledger.jsonl")).unwrap();
        let mut bought = HashMap::new();
        // The last line may be half written.
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let answered = u32::from(line["end"] == "completed");
            *bought.entry(line["request_id"].as_str().unwrap().to_owned()).or_insert(0) += answered;
        }
        bought
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_lose_nothing_and_buy_nothing_twice() {
    let seed = std::env::var("AGENTRY_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_secs());
    // Shown when the test fails.
    eprintln!("seed {seed}: run it again with AGENTRY_TEST_SEED={seed}");
    let folder = empty_folder();
    write_fleet(folder.path());
    let mut simulator = agentry(folder.path());
    simulator.args(["sim", "llm", "--listen", "127.0.0.1:0", "--ledger", "ledger.jsonl"]).stderr(Stdio::null());
    let stage = Stage { folder: folder.path(), simulator: Server::spawn(&mut simulator) };

    let (url, seen) = watch::channel(String::new());
    let load = Load { http: client(), url: seen, promised: Arc::default() };
    let (permits, running) = clients(&load);
    let server = stage.lives(&mut Dice(seed), &url, &permits).await;
    // What was given out is used up; then the clients end.
    for (permits, _) in &permits {
        let began = Instant::now();
        while permits.available_permits() > 0 {
            assert!(began.elapsed() < PATIENCE, "a client does not get on");
            tokio::time::sleep(AGAIN).await;
        }
        permits.close();
    }
    for client in running {
        client.await.unwrap();
    }
    let promised = std::mem::take(&mut *load.promised.lock().unwrap());
    tokio::task::block_in_place(|| judge(&stage, server, &promised));
}

/// Everything that must hold once all is quiet.
fn judge(stage: &Stage<'_>, server: Server, promised: &Promised) {
    let http = Http::new(&server.url);
    http.until("the end of every task", || {
        let open = |status: &str| !http.get(&format!("/v1/tasks?limit=1&status={status}"))["items"][0].is_null();
        (!open("queued") && !open("running") && !open("waiting")).then_some(())
    });
    let tasks = all_tasks(&http);
    one_task_for_each_key(promised, &tasks);
    assert!(tasks.iter().all(|task| task["source"]["kind"] == "api"), "tasks that nobody asked for");
    let journals: Vec<Value> = tasks
        .iter()
        .map(|task| http.get(&format!("/v1/tasks/{}?journal=true", task["id"].as_str().unwrap())))
        .collect();
    journals.iter().for_each(ended_once);
    nothing_bought_twice(stage, &http, &journals);
    let recovered = journals.iter().filter(|task| entries(task, "recovered").next().is_some()).count();
    assert!(recovered > 0, "no kill met a task that ran");
    promised.turns.iter().for_each(|(session, turns)| conversation_is_whole(&http, session, turns, &journals));
    let poisoned = journals.iter().filter(|task| is_poisoned(task)).count();
    assert!(poisoned * 10 < tasks.len(), "{poisoned} of {} tasks were given up", tasks.len());

    // What has ended stays as it is, whatever happens to the server.
    drop(server);
    let server = Server::spawn(&mut stage.serve());
    assert_eq!(all_tasks(&Http::new(&server.url)), tasks);
}

fn all_tasks(http: &Http) -> Vec<Value> {
    let (mut tasks, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = http.get(&format!("/v1/tasks?limit=1000{cursor}"));
        tasks.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { return tasks };
        cursor = format!("&cursor={next}");
    }
}

/// Given up because its worker died again and again while it ran: rare, and right.
fn is_poisoned(task: &Value) -> bool {
    task["error"]["code"] == "poison_task"
}

fn ended_once(task: &Value) {
    let poisoned = is_poisoned(task);
    assert!(task["status"] == "completed" || poisoned, "{task}");
    assert!(task["output"].is_null() == poisoned && task["finished_at"].is_string(), "no outcome: {task}");
    journal_is_gapless(task);
}

fn nothing_bought_twice(stage: &Stage<'_>, http: &Http, journals: &[Value]) {
    let (known, completed) = calls(journals);
    let rows_of_tasks: u64 = journals.iter().map(|task| task["spent"]["llm_calls"].as_u64().unwrap()).sum();
    let bought = http.until("the simulator's ledger to have every answer", || {
        let bought = stage.bought();
        completed.iter().all(|call| bought.contains_key(call)).then_some(bought)
    });
    for call in &completed {
        assert_eq!(bought[call], 1, "call {call} was answered so often");
    }
    let strangers: Vec<_> = bought.keys().filter(|id| !known.contains(*id)).collect();
    assert!(strangers.is_empty(), "the provider was asked what no journal knows: {strangers:?}");
    let usage = http.get("/v1/usage?by=model");
    assert_eq!(usage["total"]["calls"], rows_of_tasks, "the sums are those of the tasks: {usage}");
}

fn conversation_is_whole(http: &Http, session: &str, turns: &[(String, String)], journals: &[Value]) {
    let status: HashMap<&str, &Value> =
        journals.iter().map(|task| (task["id"].as_str().unwrap(), &task["status"])).collect();
    let expected: Vec<&str> =
        turns.iter().filter(|(id, _)| *status[id.as_str()] == "completed").map(|(_, said)| said.as_str()).collect();
    let (mut messages, mut after) = (Vec::new(), Some(0));
    while let Some(number) = after {
        let page = http.get(&format!("/v1/sessions/support:{session}?limit=1000&after={number}"));
        messages.extend(page["history"].as_array().unwrap().iter().cloned());
        after = page["next_after"].as_u64();
    }
    invariants::conversation_is_whole(session, &messages, &expected);
}
