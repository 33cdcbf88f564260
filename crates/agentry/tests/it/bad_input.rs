//! Bad input: what a caller, a file or the machine does wrong, what is said about it, and that nothing is lost.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Http, Reply};
use crate::support::{Server, agentry, folder_with_fleet, json, run};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A refusal as a snapshot shows it: everything but the trace id, which must be one.
fn refusal(reply: &Reply) -> String {
    let mut problem = reply.json();
    let trace = problem["trace_id"].as_str().unwrap_or_default().to_owned();
    assert_eq!(trace.len(), 32, "no trace id: {} {problem}", reply.status);
    assert_eq!(reply.header("content-type"), "application/problem+json", "{problem}");
    assert_eq!(problem["status"], reply.status);
    assert_eq!(problem["type"], format!("urn:agentry:problem:{}", problem["code"].as_str().unwrap()));
    let mut said =
        format!("{} {}: {}\n", reply.status, problem["code"].as_str().unwrap(), problem["detail"].as_str().unwrap());
    for error in problem["errors"].take().as_array().into_iter().flatten() {
        writeln!(said, "    at {}: {}", error["pointer"], error["detail"].as_str().unwrap()).unwrap();
    }
    said
}

#[test]
fn bodies_that_cannot_be_taken() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let http = Http::new(&server.url);
    let cases: &[(&str, &str, &[u8])] = &[
        ("an unknown agent", "/v1/tasks", br#"{"agent": "suport", "input": "x"}"#),
        ("an agent like no other", "/v1/tasks", br#"{"agent": "zzz", "input": "x"}"#),
        ("nothing", "/v1/tasks", b""),
        ("half a body", "/v1/tasks", br#"{"agent": "triage","#),
        ("not JSON", "/v1/tasks", b"agent=triage&input=x"),
        ("not an object", "/v1/tasks", br#""triage""#),
        ("invalid UTF-8", "/v1/tasks", b"{\"agent\": \"triage\", \"input\": \"\xff\"}"),
        ("an unknown field", "/v1/tasks", br#"{"agent": "triage", "inptu": "x"}"#),
        ("a missing field", "/v1/tasks", br#"{"agent": "triage"}"#),
        ("a field twice", "/v1/tasks", br#"{"agent": "triage", "input": "x", "input": "y"}"#),
        ("a priority that is none", "/v1/tasks", br#"{"agent": "triage", "input": "x", "priority": "hihg"}"#),
        ("a timeout that is none", "/v1/tasks", br#"{"agent": "triage", "input": "x", "timeout_seconds": -1}"#),
        ("a budget that is none", "/v1/tasks", br#"{"agent": "triage", "input": "x", "budget": "much"}"#),
        ("a callback to nowhere", "/v1/tasks", br#"{"agent": "triage", "input": "x", "callback_url": "ftp://x/y"}"#),
        ("a session of nobody", "/v1/tasks", br#"{"agent": "triage", "input": "x", "session": "s"}"#),
        ("an empty session", "/v1/tasks", br#"{"agent": "support", "input": "x", "session": ""}"#),
        ("a wait that is too long", "/v1/tasks?wait=3600", br#"{"agent": "triage", "input": "x"}"#),
        ("an unknown parameter", "/v1/tasks?wiat=1", br#"{"agent": "triage", "input": "x"}"#),
        ("a batch that is none", "/v1/tasks/batch", br#"{"tasks": {}}"#),
        ("a topic that is none", "/v1/events", br#"{"topic": "a..b", "data": 1}"#),
        ("a schedule that never fires", "/v1/schedules", br#"{"name": "s", "agent": "triage", "cron": "61 * * * *"}"#),
        ("an id that is none", "/v1/tasks/xyz/cancel", b""),
        ("a route that is none", "/v1/task", b"{}"),
        ("a method that is none", "/v1/usage", b"{}"),
    ];
    let mut said = String::new();
    for (what, path, body) in cases {
        let reply = http.send("POST", path, &[JSON], body.to_vec());
        assert!(reply.status >= 400, "{what}: {}", reply.json());
        writeln!(said, "{what}\n  {}", refusal(&reply)).unwrap();
    }
    let form = http.send("POST", "/v1/tasks", &[("content-type", "text/plain")], b"{}".to_vec());
    writeln!(said, "a form\n  {}", refusal(&form)).unwrap();
    insta::assert_snapshot!(said);
    assert_eq!(http.get("/v1/tasks?agent=triage")["items"], json!([]), "nothing of it was accepted");
}

#[test]
fn an_array_is_not_a_task() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let reply = Http::new(&server.url).post("/v1/tasks", &[], &json!(["triage", "x"]));
    assert_eq!(reply.status, 422, "{}", reply.json());
}

#[test]
fn bodies_that_are_too_large() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let http = Http::new(&server.url);
    let head = format!("POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{}: {}\r\n", JSON.0, JSON.1);
    let limit = "the body may have at most 1048576 bytes";
    // One byte too many.
    let mut whole = format!("{head}content-length: {}\r\n\r\n", (1 << 20) + 1).into_bytes();
    whole.resize(whole.len() + (1 << 20) + 1, b' ');
    // Announced, but never sent: the answer comes first.
    let announced = format!("{head}content-length: 99999999999\r\n\r\n").into_bytes();
    // Not announced: counted while it comes.
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..17 {
        chunked.extend(b"10000\r\n");
        chunked.resize(chunked.len() + 0x1_0000, b' ');
        chunked.extend(b"\r\n");
    }
    for request in [whole, announced, chunked] {
        let answer = raw(&server.url, &request);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("body_too_large") && answer.contains(limit), "{answer}");
    }
    // Exactly as much as is allowed, and the server is none the worse for the rest.
    let mut most = br#"{"agent": "triage", "input": "[[say:{}]]", "priority": "high""#.to_vec();
    most.resize((1 << 20) - 1, b' ');
    most.push(b'}');
    let reply = http.send("POST", "/v1/tasks", &[JSON], most);
    assert_eq!(reply.status, 202, "{}", reply.json());
}

/// Sends bytes and reads the whole answer. A server that answers early may close before all is sent.
fn raw(url: &str, bytes: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(crate::http::PATIENCE)).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_batch_is_refused_task_by_task() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let http = Http::new(&server.url);
    let tasks = json!([
        {"agent": "triage", "input": "good"},
        {"agent": "triag", "input": "x"},
        {"agent": "triage", "inptu": "x"},
        {"agent": "triage", "input": "x", "session": "s"},
    ]);
    let reply = http.post("/v1/tasks/batch", &[], &json!({"tasks": tasks}));
    let answer = reply.json();
    let rows: Vec<&Value> = answer["tasks"].as_array().unwrap().iter().map(|row| &row["error"]["code"]).collect();
    assert_eq!(reply.status, 200);
    assert_eq!(json!(rows), json!([null, "unknown_agent", "invalid_request", "invalid_request"]), "{answer}");
    http.task_in(answer["tasks"][0]["id"].as_str().unwrap(), &["completed"]);
    let many: Vec<Value> = (0..1_001).map(|n| json!({"agent": "triage", "input": n})).collect();
    let reply = http.post("/v1/tasks/batch", &[], &json!({"tasks": many}));
    assert_eq!(reply.status, 422, "{}", reply.json());
    assert_eq!(http.get("/v1/tasks?agent=triage&limit=1000")["items"].as_array().unwrap().len(), 1);
}

#[test]
fn a_key_stands_for_one_request() {
    let folder = folder_with_fleet();
    let server = Server::start(folder.path());
    let http = Http::new(&server.url);
    let key = [("idempotency-key", "k-1")];
    let first = http.post("/v1/tasks", &key, &json!({"agent": "triage", "input": "one"}));
    let again = http.post("/v1/tasks", &key, &json!({"input": "one", "agent": "triage"}));
    assert_eq!((again.status, &again.json()["id"]), (202, &first.json()["id"]));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let other = http.post("/v1/tasks", &key, &json!({"agent": "triage", "input": "two"}));
    let said = refusal(&other).replace(first.json()["id"].as_str().unwrap(), "ID");
    insta::assert_snapshot!(said);
}

/// A fleet in which one file of each kind is bad, and one is good.
fn broken_fleet() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let agents = folder.path().join("agents");
    std::fs::create_dir(&agents).unwrap();
    let write = |file: &str, bytes: &[u8]| std::fs::write(agents.join(file), bytes).unwrap();
    let agent = |name: &str, mode: &str, more: &str| {
        let target = "llm_config: {provider: simulated, model: any}\nsystem_prompt: Work.\n";
        format!("name: {name}\nexecution_mode: {mode}\n{target}{more}").into_bytes()
    };
    write("good.yml", &agent("good", "autonomous", ""));
    write("twin-a.yml", &agent("twin", "autonomous", ""));
    write("twin-b.yml", &agent("twin", "autonomous", "description: The other one.\n"));
    let team = |other: &str| format!("collaborative_config: {{preferred_collaborators: [{other}, good]}}\n");
    write("hen.yml", &agent("hen", "collaborative", &team("egg")));
    write("egg.yml", &agent("egg", "collaborative", &team("hen")));
    write("never.yml", &agent("never", "scheduled", "schedule_config: {type: cron, cron: \"99 * * * *\"}\n"));
    write("words.yml", &agent("words", "scheduled", "schedule_config: {type: cron, cron: every morning}\n"));
    write(
        "nowhere.yml",
        &agent("nowhere", "scheduled", "schedule_config: {type: cron, cron: \"0 9 * * *\", timezone: Mars/Base}\n"),
    );
    write("unknown.yml", &agent("unknown", "autonomous", "sytem_prompt: Twice.\n"));
    write("broken.yml", b"name: broken\n  execution_mode: [autonomous\n");
    write("latin.yml", b"name: latin\nsystem_prompt: caf\xe9\n");
    write("empty.yml", b"");
    folder
}

#[test]
fn bad_agent_files_leave_the_others_running() {
    let folder = broken_fleet();
    let server = Server::start(folder.path());
    let http = Http::new(&server.url);
    for agent in ["good", "twin"] {
        let path = format!("/v1/agents/{agent}");
        http.until(&format!("{agent} to be healthy"), || (http.get(&path)["status"] == "healthy").then_some(()));
    }
    let listed = json(folder.path(), &["agents", "--url", &server.url, "-o", "json"]);
    let mut said = String::new();
    for agent in listed.as_array().unwrap() {
        let text = |key: &str| agent[key].as_str().unwrap_or("–").to_owned();
        writeln!(said, "{}: {}\n  {}", text("name"), text("status"), text("error").replace('\n', "\n  ")).unwrap();
        for warning in agent["warnings"].as_array().unwrap() {
            writeln!(said, "  warning: {}", warning.as_str().unwrap()).unwrap();
        }
    }
    insta::assert_snapshot!(said);
    http.task_in(&http.submit("good", "x"), &["completed"]);
    let reply = http.post("/v1/tasks", &[], &json!({"agent": "never", "input": "x"}));
    assert_eq!((reply.status, &reply.json()["code"]), (409, &json!("agent_invalid")), "{}", reply.json());
}

#[test]
fn the_same_files_are_told_apart_by_validate() {
    let folder = broken_fleet();
    insta::assert_snapshot!(run(folder.path(), &["validate", "agents"]));
}

/// A small file system of its own, gone with its guard. Needs the right to mount (root, or a user namespace).
struct Disk(PathBuf);

impl Disk {
    fn mount(at: PathBuf, options: &str) -> Self {
        std::fs::create_dir(&at).unwrap();
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).output().unwrap();
        let why = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "this test mounts a tmpfs: run it as root or under `unshare -rm` ({why})");
        Self(at)
    }

    /// Takes every byte that is left; returns the file that has them.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        for size in [65_536, 4_096, 1] {
            while file.write_all(&vec![b'x'; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that was just killed may hold it for a moment.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A server with its data on `disk`.
fn serve_on(folder: &Path, disk: &Disk) -> Server {
    let mut command = agentry(folder);
    command.args(["serve", "--sim", "--listen", "127.0.0.1:0", "--data"]).arg(disk.0.join("data"));
    Server::spawn(command.stderr(Stdio::null()))
}

#[test]
fn a_full_disk_refuses_new_work_and_loses_none() {
    let folder = folder_with_fleet();
    let disk = Disk::mount(folder.path().join("disk"), "size=2m");
    let server = serve_on(folder.path(), &disk);
    let http = Http::new(&server.url);
    // Some have ended when the disk fills up, some run, some are told and not yet begun.
    let mut accepted: Vec<String> =
        (0..20).map(|n| http.submit("triage", &format!("{n} [[sleep:{}]]", n * 40))).collect();
    http.task_in(&accepted[0], &["completed"]);
    let ballast = disk.fill();
    let ask = |n: usize| {
        let key = format!("full-{n}");
        let body = json!({"agent": "triage", "input": format!("{n} {}", "x".repeat(10_000))});
        http.post("/v1/tasks", &[("idempotency-key", &key)], &body)
    };
    // The log of the database has some room of its own.
    let (refused, reply) = (0..200)
        .find_map(|n| {
            let reply = ask(n);
            match reply.status {
                202 => accepted.push(reply.json()["id"].as_str().unwrap().to_owned()),
                _ => return Some((n, reply)),
            }
            None
        })
        .expect("200 tasks of 10 kB were accepted on a full disk");
    assert!(!reply.header("retry-after").is_empty());
    insta::assert_snapshot!(refusal(&reply));
    let ready = http.send("GET", "/health/live", &[], Vec::new());
    assert_eq!(ready.status, 200, "it lives, and says so");
    assert_eq!(http.get(&format!("/v1/tasks/{}", accepted[0]))["status"], "completed", "it can still be read");
    // Longer than a worker may be silent: what it runs must not be taken from it twice.
    let began = std::time::Instant::now();
    http.until("the disk to have been full for a while", || (began.elapsed().as_secs() >= 4).then_some(()));
    assert_eq!(ask(refused).status, 503);

    std::fs::remove_file(ballast).unwrap();
    let again = http.until("the server to take work again", || Some(ask(refused)).filter(|reply| reply.status == 202));
    accepted.push(again.json()["id"].as_str().unwrap().to_owned());
    let ended: Vec<Value> = accepted.iter().map(|id| http.task_in(id, &["completed"])).collect();
    for task in &ended {
        let journal = task["journal"].as_array().unwrap();
        let answers = journal.iter().filter(|entry| entry["body"]["kind"] == "model_completed").count();
        assert_eq!(answers, 1, "an answer was bought twice: {task}");
    }
    drop(server);
    let server = serve_on(folder.path(), &disk);
    let http = Http::new(&server.url);
    let kept = http.get("/v1/tasks?agent=triage&limit=1000");
    assert_eq!(kept["items"].as_array().unwrap().len(), accepted.len());
    assert!(kept["items"].as_array().unwrap().iter().all(|task| task["status"] == "completed"));
}

#[test]
fn a_server_does_not_start_on_a_full_disk() {
    let folder = folder_with_fleet();
    let disk = Disk::mount(folder.path().join("disk"), "size=64k");
    disk.fill();
    insta::assert_snapshot!(serve_at(folder.path(), &disk.0.join("data")));
}

#[test]
fn a_data_folder_that_is_read_only() {
    let folder = folder_with_fleet();
    let disk = Disk::mount(folder.path().join("disk"), "ro");
    insta::assert_snapshot!(serve_at(folder.path(), &disk.0));
}

#[test]
fn a_data_folder_that_became_read_only() {
    let folder = folder_with_fleet();
    let disk = Disk::mount(folder.path().join("disk"), "size=8m");
    let server = serve_on(folder.path(), &disk);
    let http = Http::new(&server.url);
    http.task_in(&http.submit("triage", "kept"), &["completed"]);
    drop(server);
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap().success());
    insta::assert_snapshot!(serve_at(folder.path(), &disk.0.join("data")));
    assert!(Command::new("mount").args(["-o", "remount,rw"]).arg(&disk.0).status().unwrap().success());
    let server = serve_on(folder.path(), &disk);
    assert_eq!(Http::new(&server.url).get("/v1/tasks?agent=triage")["items"][0]["input"], "kept");
}

#[test]
fn a_data_folder_that_is_none() {
    let folder = folder_with_fleet();
    std::fs::write(folder.path().join("file"), "x").unwrap();
    insta::assert_snapshot!(serve_at(folder.path(), &folder.path().join("file")));
}

#[test]
fn a_database_that_is_none() {
    let folder = folder_with_fleet();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(
        folder.path().join("data/agentry.db"),
        "not a database, but long enough to look like one".repeat(99),
    )
    .unwrap();
    insta::assert_snapshot!(serve_at(folder.path(), &folder.path().join("data")));
}

/// A `serve` that must not start; its folder is shown as `FOLDER`, and its log left out.
fn serve_at(folder: &Path, data: &Path) -> String {
    let data = data.to_str().unwrap();
    let said = run(folder, &["serve", "--sim", "--listen", "127.0.0.1:0", "--log", "off", "--data", data]);
    said.replace(folder.to_str().unwrap(), "FOLDER")
}
