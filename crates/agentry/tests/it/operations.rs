//! What operators do with a running server, verb by verb, and what reaches the outside: events, callbacks, streams.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Http, Sent};
use crate::listener::{Listener, signature};
use crate::support::{Server, agentry, empty_folder, json, run, write_agent};

/// Tasks fail at the first error: nothing is tried again.
const ONCE: &str = "retry_config: {max_retries: 0}\n";

/// A server over a fleet with an agent for each thing to try, and a client of it.
struct Stage {
    // Ends before its folder.
    server: Server,
    http: Http,
    folder: TempDir,
}

impl Stage {
    fn start() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        let folder = empty_folder();
        let write = |name: &str, mode: &str, more: &str| write_agent(folder.path(), name, mode, more);
        write("clerk", "autonomous", ONCE);
        write("orders", "autonomous", "event_subscriptions: [\"order.*\"]\n");
        write("follower", "autonomous", "event_subscriptions: [agent.output.orders]\n");
        write("support", "continuous", "");
        let ask = "collaborative_config: {preferred_collaborators: [clerk], min_collaborators: 1, \
                   allow_human_clarification: true, clarification_timeout_seconds: 600}\n";
        write("team", "collaborative", ask);
        // Its next slot is months or a minute away: what fires here was triggered.
        write("yearly", "scheduled", "schedule_config: {type: cron, cron: \"0 0 29 2 *\", task_data: {count: all}}\n");
        let mut command = agentry(folder.path());
        command.args(["serve", "--sim", "--listen", "127.0.0.1:0"]).envs(settings.iter().copied());
        let server = Server::spawn(command.stderr(Stdio::null()));
        Self { http: Http::new(&server.url), server, folder }
    }

    /// A verb that must succeed, as a person sees it.
    fn said(&self, args: &[&str]) -> String {
        let said = self.run(args);
        let text =
            said.strip_prefix("exit code: 0\n----- stdout -----\n").unwrap_or_else(|| panic!("{args:?}: {said}"));
        text.strip_suffix("----- stderr -----\n").unwrap_or_else(|| panic!("{args:?}: {said}")).to_owned()
    }

    /// A verb, with everything it prints and how it ends.
    fn run(&self, args: &[&str]) -> String {
        run(self.folder.path(), &[args, &["--url", &self.server.url]].concat())
    }

    /// A verb that reads, as a program sees it.
    fn json(&self, args: &[&str]) -> Value {
        json(self.folder.path(), &[args, &["--url", &self.server.url, "-o", "json"]].concat())
    }

    /// The only row of a list, once there is one.
    fn only(&self, args: &[&str]) -> Value {
        let rows = self.http.until(&format!("a row of {args:?}"), || {
            let rows = self.json(args).as_array().unwrap().clone();
            (!rows.is_empty()).then_some(rows)
        });
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].clone()
    }
}

fn id(row: &Value) -> &str {
    row["id"].as_str().unwrap_or_else(|| panic!("no id: {row}"))
}

#[test]
fn schedules_are_listed_triggered_paused_and_resumed() {
    let stage = Stage::start();
    let row = stage.only(&["schedules", "list"]);
    let name = row["name"].as_str().unwrap().to_owned();
    assert_eq!((&row["agent"], &row["paused"]), (&json!("yearly"), &json!(false)), "{row}");
    assert!(row["next_slots"][0].as_str().unwrap().contains("-02-29T00:00:00"), "{row}");
    assert_eq!(stage.said(&["schedules", "trigger", &name]), format!("{name} is triggered\n"));
    let task = stage.only(&["tasks", "list", "--agent", "yearly"]);
    let task = stage.http.task_in(id(&task), &["completed"]);
    assert_eq!(task["input"], json!({"count": "all"}));

    assert_eq!(stage.said(&["schedules", "pause", &name]), format!("{name} is paused\n"));
    let row = stage.only(&["schedules"]);
    assert_eq!((&row["paused"], &row["next_slots"]), (&json!(true), &json!([])), "{row}");
    assert_eq!(stage.said(&["schedules", "resume", &name]), format!("{name} fires again\n"));
    assert_eq!(stage.only(&["schedules"])["paused"], false);
    insta::assert_snapshot!(stage.run(&["schedules", "trigger", "yearli"]));
}

#[test]
fn past_slots_of_a_schedule_are_fired_once_and_coming_ones_shown() {
    let stage = Stage::with(&[("AGENTRY_TASK_RETENTION", "forever")]);
    let shown = stage.json(&["schedules", "show", "yearly"]);
    assert_eq!(shown["next_slots"].as_array().unwrap().len(), 5, "{shown}");
    let next = stage.said(&["schedules", "next", "yearly", "--count", "2"]);
    assert!(next.lines().count() == 2 && next.lines().all(|line| line.contains("-02-29 00:00:00")), "{next}");

    let backfill = |more: &[&str]| {
        let range = ["schedules", "backfill", "yearly", "--from", "2015-01-01", "--to", "2024-12-31"];
        stage.said(&[&range[..], more].concat())
    };
    assert_eq!(backfill(&["--dry-run"]), "yearly: 3 of 3 slots would fire; 0 had been decided before\n");
    assert_eq!(backfill(&[]), "yearly: 3 of 3 slots fired; 0 had been decided before\n");
    assert_eq!(backfill(&[]), "yearly: 0 of 3 slots fired; 3 had been decided before\n");
    let tasks = stage.json(&["tasks", "list", "--agent", "yearly"]);
    assert_eq!(tasks.as_array().unwrap().len(), 3, "{tasks}");
    for task in tasks.as_array().unwrap() {
        assert_eq!(stage.http.task_in(id(task), &["completed"])["input"], json!({"count": "all"}));
    }
    let reversed = ["schedules", "backfill", "yearly", "--from", "2024-01-01", "--to", "2023-01-01"];
    insta::assert_snapshot!(stage.run(&reversed));
}

#[test]
fn a_paused_schedule_fires_no_slots() {
    let stage = Stage::start();
    let every = json!({"name": "tick", "agent": "clerk", "interval_seconds": 1, "input": "tick"});
    assert_eq!(stage.http.post("/v1/schedules", &[], &every).status, 201);
    let slots = || stage.http.get("/v1/schedules/tick")["last_slots"].as_array().unwrap().len();
    stage.http.until("a slot", || (slots() > 0).then_some(()));
    stage.said(&["schedules", "pause", "tick"]);
    let fired = slots();
    // Something else that takes two slots to happen.
    stage.http.task_in(&stage.http.submit("clerk", "[[sleep:2200]]"), &["completed"]);
    assert_eq!(slots(), fired);
    stage.said(&["schedules", "resume", "tick"]);
    stage.http.until("a slot after the pause", || (slots() > fired).then_some(()));
}

#[test]
fn dead_letters_are_shown_edited_replayed_and_dropped() {
    let stage = Stage::start();
    assert_eq!(stage.said(&["dead-letters"]).trim(), "nothing was given up");
    let lost = stage.http.submit("clerk", "one [[fail:400]]");
    stage.http.task_in(&lost, &["failed"]);
    let letter = stage.only(&["dead-letters", "list"]);
    assert_eq!((&letter["task"], &letter["agent"]), (&json!(lost), &json!("clerk")), "{letter}");
    let shown = stage.json(&["dead-letters", "show", id(&letter)]);
    assert!(shown["payload"].to_string().contains("one [[fail:400]]") && shown["state"] == "open", "{shown}");
    assert!(shown["reason"]["code"].is_string() && shown["reason"]["message"].is_string(), "{shown}");

    assert!(stage.run(&["dead-letters", "edit", id(&letter), "no JSON"]).starts_with("exit code: 2\n"));
    stage.said(&["dead-letters", "edit", id(&letter), "\"one, mended\""]);
    stage.said(&["dead-letters", "replay", id(&letter)]);
    let again = stage.json(&["tasks", "list", "--agent", "clerk"]);
    let again = again.as_array().unwrap().iter().find(|task| id(task) != lost).unwrap().clone();
    let again = stage.http.task_in(id(&again), &["completed"]);
    assert_eq!((&again["input"], &again["source"]["of"]), (&json!("one, mended"), &json!(lost)), "{again}");
    assert_eq!(stage.json(&["dead-letters"]), json!([]));
    assert_eq!(stage.json(&["dead-letters", "show", id(&letter)])["state"], "replayed");
    let twice = stage.run(&["dead-letters", "replay", id(&letter)]);
    assert!(twice.starts_with("exit code: 1\n") && twice.contains("dead_letter_closed"), "{twice}");

    stage.http.task_in(&stage.http.submit("clerk", "two [[fail:400]]"), &["failed"]);
    let letter = stage.only(&["dead-letters"]);
    stage.said(&["dead-letters", "drop", id(&letter)]);
    assert_eq!(stage.json(&["dead-letters"]), json!([]));
}

#[test]
fn a_dead_letter_that_nobody_edits_is_replayed_as_it_was() {
    let stage = Stage::start();
    let lost = stage.http.submit("clerk", "as it was [[fail:400:1]]");
    stage.http.task_in(&lost, &["failed"]);
    let letter = stage.only(&["dead-letters"]);
    assert_eq!(letter["payload"], "as it was [[fail:400:1]]");
    stage.said(&["dead-letters", "replay", id(&letter)]);
    let again = stage.only(&["tasks", "list", "--agent", "clerk", "--status", "completed"]);
    assert_eq!(again["input"], "as it was [[fail:400:1]]");
}

#[test]
fn an_event_reaches_its_subscribers_and_their_subscribers() {
    let stage = Stage::start();
    let mut tail = Tail::start(&stage, "#");
    // The tail is live only: publish until it hears something.
    stage.http.until("the tail to listen", || {
        stage.said(&["events", "publish", "test.nobody", "1"]);
        tail.next_within(Duration::from_millis(200))
    });
    let said = stage.said(&["events", "publish", "order.created", r#"{"order": "A-1"}"#]);
    assert!(said.trim_end().ends_with("accepted, 1 tasks"), "{said}");
    let task = stage.only(&["tasks", "list", "--agent", "orders"]);
    let task = stage.http.task_in(id(&task), &["completed"]);
    assert_eq!(task["source"]["topic"], "order.created");
    assert!(task["input"].to_string().contains("A-1"), "{task}");
    let next = stage.only(&["tasks", "list", "--agent", "follower"]);
    let next = stage.http.task_in(id(&next), &["completed"]);
    assert_eq!((&next["source"]["topic"], &next["trace_id"]), (&json!("agent.output.orders"), &task["trace_id"]));
    let heard = |tail: &mut Tail, topic: &str| {
        stage.http.until(topic, || tail.next_within(Duration::from_secs(1)).filter(|event| event["topic"] == topic))
    };
    assert_eq!(heard(&mut tail, "order.created")["data"], json!({"order": "A-1"}));
    assert_eq!(heard(&mut tail, "agent.output.orders")["data"]["task_id"], task["id"]);
    insta::assert_snapshot!(stage.run(&["events", "publish", "no..topic", "1"]));
}

#[test]
fn agents_that_feed_each_other_are_cut_off_and_the_chain_says_where() {
    let stage = Stage::start();
    for (name, other) in [("ping", "pong"), ("pong", "ping")] {
        let topics = format!("event_subscriptions: [agent.output.{other}]\n");
        write_agent(stage.folder.path(), name, "autonomous", &topics);
    }
    let live = |name: &str| {
        let list = stage.http.get(&format!("/v1/agents?q={name}"));
        list["items"]
            .as_array()
            .is_some_and(|items| items.iter().any(|agent| agent["status"] == "healthy"))
            .then_some(())
    };
    stage.http.until("the new agents", || live("ping").and(live("pong")));
    stage.http.submit("ping", "[[say:ball]]");
    // The end of the chain: its last event is given up, with the reason, and starts nothing.
    let letter = stage.only(&["dead-letters", "list"]);
    let reason = letter["reason"]["message"].as_str().unwrap();
    assert_eq!(reason, "16 agents triggered one another in a row; the chain was cut at topic `agent.output.ping`");
    let mut chain = Vec::new();
    for agent in ["ping", "pong"] {
        let tasks = stage.json(&["tasks", "list", "--agent", agent]);
        chain.extend(tasks.as_array().unwrap().iter().map(|task| stage.http.task_in(id(task), &["completed"])));
    }
    assert_eq!(chain.len(), 17, "one that was asked for, and sixteen that agents asked for");
    assert!(chain.iter().all(|task| task["trace_id"] == chain[0]["trace_id"]), "{chain:?}");
}

/// `events tail`, line by line; ends with the test.
struct Tail {
    child: Child,
    lines: std::sync::mpsc::Receiver<Value>,
}

impl Tail {
    fn start(stage: &Stage, pattern: &str) -> Self {
        let mut command = agentry(stage.folder.path());
        command.args(["events", "tail", pattern, "--url", &stage.server.url]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if send.send(serde_json::from_str(&line).unwrap()).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn next_within(&mut self, time: Duration) -> Option<Value> {
        self.lines.recv_timeout(time).ok()
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sessions_are_listed_shown_and_deleted() {
    let stage = Stage::start();
    assert!(stage.said(&["sessions"]).starts_with("no sessions yet"));
    stage.said(&["run", "support", "hello", "--session", "a/b c", "--wait"]);
    let row = stage.only(&["sessions", "list"]);
    assert_eq!((&row["id"], &row["turns"], &row["messages"]), (&json!("support:a/b c"), &json!(1), &json!(2)), "{row}");
    let shown = stage.json(&["sessions", "show", "support:a/b c"]);
    assert_eq!(shown["history"][0]["message"]["content"], "hello");
    assert!(stage.said(&["sessions", "show", "support:a/b c"]).contains("hello"));

    // One with work in it stays.
    let busy = json!({"agent": "support", "session": "busy", "input": "[[hang]]"});
    let task = stage.http.post("/v1/tasks", &[], &busy).json();
    stage.http.task_in(id(&task), &["running"]);
    let refused = stage.run(&["sessions", "delete", "support:busy"]);
    assert!(refused.starts_with("exit code: 1\n") && refused.contains("session_busy"), "{refused}");
    stage.said(&["sessions", "delete", "support:a/b c"]);
    let gone = stage.run(&["sessions", "show", "support:a/b c"]);
    assert!(gone.starts_with("exit code: 1\n") && gone.contains("unknown_session"), "{gone}");
}

#[test]
fn tasks_are_followed_and_cancelled() {
    let stage = Stage::start();
    let task = stage.http.submit("clerk", "[[hang]]");
    stage.http.task_in(&task, &["running"]);
    assert_eq!(id(&stage.only(&["tasks", "list", "--status", "running"])), task);
    assert_eq!(stage.said(&["tasks", "cancel", &task]), format!("{task} is being cancelled\n"));
    let ended = stage.http.task_in(&task, &["cancelled"]);
    assert_eq!(ended["error"]["code"], "cancelled");
    let again = stage.run(&["tasks", "cancel", &task]);
    assert!(again.starts_with("exit code: 1\n") && again.contains("task_ended"), "{again}");
    assert!(stage.said(&["tasks", "show", &task]).contains("cancelled"));

    let task = stage.http.submit("clerk", "hello");
    let lines = stage.said(&["tasks", "events", &task, "-o", "json"]);
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = events.last().unwrap();
    assert_eq!((&last["event"], &last["data"]["status"]), (&json!("end"), &json!("completed")), "{lines}");
    assert!(events.iter().any(|event| event["event"] == "model_completed"), "{lines}");
    let table = stage.said(&["tasks", "events", &task]);
    assert!(table.contains("model_completed") && table.contains("end     completed"), "{table}");
    // A cancelled task is not given up: nobody has to look after it.
    assert_eq!(stage.json(&["dead-letters"]), json!([]));
}

#[test]
fn a_queued_turn_is_cancelled_and_the_next_one_goes_on() {
    let stage = Stage::start();
    let say = |input: &str| {
        let body = json!({"agent": "support", "session": "s", "input": input});
        id(&stage.http.post("/v1/tasks", &[], &body).json()).to_owned()
    };
    let (first, second, third) = (say("one [[hang]]"), say("two"), say("three"));
    stage.http.task_in(&first, &["running"]);
    stage.said(&["tasks", "cancel", &second]);
    assert_eq!(stage.http.task_in(&second, &["cancelled"])["started_at"], Value::Null, "it never began");
    stage.said(&["tasks", "cancel", &first]);
    stage.http.task_in(&third, &["completed"]);
    let session = stage.json(&["sessions", "show", "support:s"]);
    assert_eq!((&session["turns"], &session["history"][0]["message"]["content"]), (&json!(1), &json!("three")));
}

#[test]
fn a_question_is_listed_and_answered() {
    let stage = Stage::start();
    let task = stage.http.submit("team", "Compare. [[ask:Which region?|EU|US]]");
    stage.http.task_in(&task, &["waiting"]);
    let question = stage.only(&["clarifications", "list"]);
    assert_eq!((&question["question"], &question["options"]), (&json!("Which region?"), &json!(["EU", "US"])));
    let refused = stage.run(&["clarifications", "answer", id(&question), "Mars"]);
    assert!(refused.starts_with("exit code: 1\n") && refused.contains("choose from EU, US"), "{refused}");
    stage.said(&["clarifications", "answer", id(&question), "EU", "--by", "ada"]);
    let ended = stage.http.task_in(&task, &["completed"]);
    let answered = ended["journal"].as_array().unwrap().iter().find(|entry| entry["body"]["kind"] == "answered");
    let resolution = answered.unwrap()["body"]["resolution"].to_string();
    assert!(resolution.contains("EU") && resolution.contains("ada"), "{resolution}");
    assert_eq!(stage.json(&["clarifications"]), json!([]));
    let twice = stage.run(&["clarifications", "answer", id(&question), "US"]);
    assert!(twice.starts_with("exit code: 1\n") && twice.contains("was answered by ada"), "{twice}");
}

#[test]
fn agents_workers_and_usage_say_what_goes_on() {
    let stage = Stage::start();
    stage.http.task_in(&stage.http.submit("clerk", "hello"), &["completed"]);
    let agents = stage.json(&["agents"]);
    let names: Vec<&str> = agents.as_array().unwrap().iter().map(|agent| agent["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["clerk", "follower", "orders", "support", "team", "yearly"]);
    assert!(stage.said(&["agents"]).contains("clerk"));
    assert_eq!(stage.json(&["agents", "clerk"])["counters"]["llm_calls_today"], 1);
    let worker = stage.only(&["workers"]);
    assert_eq!((&worker["alive"], &worker["busy"]), (&json!(true), &json!(0)), "{worker}");
    let usage = |by: &str| stage.json(&["usage", "--by", by]);
    for (by, key) in [("agent", "clerk"), ("model", "openai/gpt-4.1-mini")] {
        let usage = usage(by);
        assert_eq!((&usage["rows"][0]["key"], &usage["total"]["calls"]), (&json!(key), &json!(1)), "{usage}");
    }
    assert_eq!(usage("day")["rows"].as_array().unwrap().len(), 1);
    assert!(stage.said(&["usage"]).contains("clerk"));
}

#[test]
fn files_are_reloaded_and_bad_ones_keep_the_old_version() {
    let stage = Stage::start();
    let agent = |name: &str| stage.http.get(&format!("/v1/agents/{name}"));
    let before = agent("clerk")["version"].clone();
    write_agent(stage.folder.path(), "clerk", "autonomous", "description: Sorts paper.\n");
    let after = stage.http.until("the new version", || {
        let now = agent("clerk");
        (now["version"] != before).then_some(now)
    });
    assert_eq!(after["description"], "Sorts paper.");

    write_agent(stage.folder.path(), "clerk", "autonomos", "description: Broken.\n");
    let broken = stage.http.until("the error", || Some(agent("clerk")).filter(|now| now["error"].is_string()));
    assert_eq!((&broken["version"], &broken["description"]), (&after["version"], &after["description"]), "{broken}");
    assert!(broken["error"].as_str().unwrap().contains("did you mean `autonomous`"), "{broken}");
    let task = stage.http.task_in(&stage.http.submit("clerk", "still there?"), &["completed"]);
    assert_eq!(task["agent_version"], after["version"]);
    assert!(stage.said(&["agents"]).contains("autonomos"), "the list shows what is wrong");

    write_agent(stage.folder.path(), "clerk", "autonomous", "description: Mended.\n");
    stage.http.until("the mended version", || Some(agent("clerk")).filter(|now| now["description"] == "Mended."));
    assert!(agent("clerk")["error"].is_null());
    write_agent(stage.folder.path(), "newcomer", "autonomous", "");
    stage.http.until("the new agent", || {
        let reply = stage.http.send("GET", "/v1/agents/newcomer", &[], Vec::new());
        (reply.json()["status"] == "healthy").then_some(())
    });
    std::fs::remove_file(stage.folder.path().join("agents/newcomer.yml")).unwrap();
    stage.http.until("the agent to be gone", || {
        let reply = stage.http.send("GET", "/v1/agents/newcomer", &[], Vec::new());
        (reply.status == 404).then_some(())
    });
    let refused = stage.http.post("/v1/tasks", &[], &json!({"agent": "newcomer", "input": "x"}));
    assert_eq!((refused.status, &refused.json()["code"]), (404, &json!("unknown_agent")));
}

#[test]
fn a_callback_is_signed_and_arrives_once() {
    let stage = Stage::with(&[("AGENTRY_CALLBACK_SECRET", "a secret of the tests")]);
    let listener = Listener::start(&[]);
    let ask = |input: &str, path: &str| {
        let body = json!({"agent": "clerk", "input": input, "callback_url": format!("{}{path}", listener.url)});
        id(&stage.http.post("/v1/tasks", &[], &body).json()).to_owned()
    };
    let arrived =
        |path: &str| stage.http.until("a callback", || listener.seen().into_iter().find(|posted| posted.path == path));
    let good = ask("hello", "/good?x=1");
    let posted = arrived("/good?x=1");
    let told: Value = serde_json::from_slice(&posted.body).unwrap();
    let task = stage.http.task_in(&good, &["completed"]);
    assert_eq!(posted.method, "POST");
    assert_eq!((&told["task_id"], &told["status"], &told["output"]), (&task["id"], &task["status"], &task["output"]));
    let (name, time) = (posted.header("webhook-id"), posted.header("webhook-timestamp"));
    let expected = signature(b"a secret of the tests", name, time, &posted.body);
    assert_eq!(posted.header("webhook-signature"), expected, "{posted:?}");
    let age = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs().abs_diff(time.parse().unwrap());
    assert!(age < 300, "receivers refuse a timestamp that is {age} s off");

    let bad = ask("[[fail:400]]", "/bad");
    let told: Value = serde_json::from_slice(&arrived("/bad").body).unwrap();
    assert_eq!((&told["task_id"], &told["status"]), (&json!(bad), &json!("failed")), "{told}");
    // The second came later; had the first come twice, it would be here.
    assert_eq!(listener.seen().len(), 2);
}

#[test]
fn a_callback_that_was_refused_comes_again_with_the_same_id() {
    let stage = Stage::start();
    let listener = Listener::start(&[500]);
    let body = json!({"agent": "clerk", "input": "hello", "callback_url": format!("{}/hook", listener.url)});
    stage.http.post("/v1/tasks", &[], &body);
    let seen = stage.http.until("the second try", || Some(listener.seen()).filter(|seen| seen.len() > 1));
    assert_eq!(seen[0].header("webhook-id"), seen[1].header("webhook-id"));
    assert_eq!(seen[0].body, seen[1].body);
    assert_eq!(seen[0].header("webhook-signature"), "", "without a secret nothing is signed");
}

#[test]
fn a_stream_resumes_where_it_broke_off() {
    let stage = Stage::start();
    let task = stage.http.submit("clerk", "hello [[sleep:700]]");
    let path = format!("/v1/tasks/{task}/events");
    // Live: broken off after the first entry, while the model still thinks.
    let first = stage.http.stream(&path, None, |sent| sent.id.is_some());
    let last = first.last().and_then(|sent| sent.id).unwrap();
    let rest = stage.http.stream(&path, Some(last), |_| false);
    assert_eq!(rest.last().unwrap().event, "end");
    assert_eq!(rest.last().unwrap().data["status"], "completed");
    let ids = |events: &[Sent]| events.iter().filter_map(|sent| sent.id).collect::<Vec<_>>();
    let numbers = [ids(&first), ids(&rest)].concat();
    let all = stage.http.stream(&path, None, |_| false);
    assert_eq!(numbers, ids(&all), "nothing twice, nothing left out");
    assert_eq!(numbers, (1..=numbers.len() as u32).collect::<Vec<_>>());
    let live: String =
        rest.iter().filter(|sent| sent.event == "delta").filter_map(|sent| sent.data["text"].as_str()).collect();
    // An answer comes in pieces when somebody watched as its call began; the first stream may have been too late.
    assert!(live.is_empty() || live == rest.last().unwrap().data["output"], "the pieces are the answer: {live}");
    let after = stage.http.stream(&path, numbers.last().copied(), |_| false);
    assert_eq!(after.len(), 1, "only the end is left: {after:?}");
    let bad = stage.http.send("GET", &path, &[("last-event-id", "x")], Vec::new());
    assert_eq!(bad.status, 422);
}

#[test]
fn a_caller_may_wait() {
    let stage = Stage::start();
    let ask = |wait: &str, input: &str| {
        stage.http.post(&format!("/v1/tasks?wait={wait}"), &[], &json!({"agent": "clerk", "input": input}))
    };
    let ended = ask("30", "hello [[sleep:50]]");
    assert_eq!((ended.status, &ended.json()["status"]), (200, &json!("completed")));
    let open = ask("0.05", "[[hang]]");
    assert_eq!(open.status, 202, "{}", open.json());
    assert_eq!(open.header("location"), format!("/v1/tasks/{}", id(&open.json())));
    let failed = ask("30", "[[fail:400]]");
    assert_eq!((failed.status, &failed.json()["status"]), (200, &json!("failed")));
}

#[test]
fn run_prints_the_answer_while_it_is_written() {
    let stage = Stage::start();
    let said = stage.said(&["run", "clerk", "[[say:one two three four five six]]", "--stream"]);
    assert_eq!(said, "one two three four five six\n");
    let failed = stage.run(&["run", "clerk", "[[fail:400]]", "--stream"]);
    assert!(failed.starts_with("exit code: 1\n") && failed.contains("is failed"), "{failed}");
}
