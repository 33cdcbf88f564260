//! Slack from outside: the simulator signs and sends, the server answers, and the simulator counts what it was told.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::Http;
use crate::support::{Server, agentry, empty_folder, write_agent};

/// Slack, a server, and what they share.
struct Stage {
    slack: Http,
    slack_url: String,
    /// Ends before its folder.
    server: Option<Server>,
    _simulator: Server,
    folder: TempDir,
    more: Vec<(&'static str, String)>,
}

fn write_fleet(folder: &Path) {
    let write = |name: &str, mode: &str, topics: &str, more: &str| {
        write_agent(folder, name, mode, &format!("event_subscriptions: [{topics}]\n{more}"));
    };
    write("helper", "autonomous", "slack.event.app_mention, slack.command.ask", "retry_config: {max_retries: 0}\n");
    write("chatter", "continuous", "slack.event.message", "");
    write("checker", "autonomous", "", "");
    let team = "collaborative_config: {preferred_collaborators: [checker], min_collaborators: 1, \
                allow_human_clarification: true}\n";
    write("team", "collaborative", "", team);
}

impl Stage {
    fn new(more: &[(&'static str, &str)]) -> Self {
        let folder = empty_folder();
        write_fleet(folder.path());
        let mut command = agentry(folder.path());
        command.args(["sim", "slack", "--listen", "127.0.0.1:0"]).stderr(Stdio::null());
        let simulator = Server::spawn(&mut command);
        let (slack, slack_url) = (Http::new(&simulator.url), simulator.url.clone());
        let more = more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let mut stage = Self { slack, slack_url, server: None, _simulator: simulator, folder, more };
        stage.start();
        stage
    }

    /// Starts a server over the same folder; one that runs is killed.
    fn start(&mut self) {
        self.server = None;
        let mut command = agentry(self.folder.path());
        command.args(["serve", "--sim", "--listen", "127.0.0.1:0"]).stderr(Stdio::null());
        command.env("AGENTRY_SLACK_SIGNING_SECRET", "another-secret-0,sim-signing-secret");
        command.env("AGENTRY_SLACK_BOT_TOKEN", "T0SIM=xoxb-sim");
        command.env("AGENTRY_SLACK_API_URL", format!("{}/api", self.slack_url));
        command.env("AGENTRY_SLACK_ROUTES", "C0TEAM=team");
        command.envs(self.more.iter().map(|(name, value)| (*name, value)));
        let server = Server::spawn(&mut command);
        let reply = self.slack.post("/sim/target", &[], &json!({"url": server.url}));
        assert!(reply.status < 300, "{}", reply.json());
        self.server = Some(server);
    }

    fn http(&self) -> Http {
        Http::new(&self.server.as_ref().unwrap().url)
    }

    /// Somebody does something; the finished delivery.
    fn send(&self, what: &str, body: &Value) -> Value {
        let reply = self.slack.post(&format!("/sim/{what}?wait=true"), &[], body);
        assert_eq!(reply.status, 200, "{}", reply.json());
        reply.json()
    }

    /// Somebody names the app; the post's `ts`.
    fn mention(&self, text: &str) -> String {
        let delivery = self.send("events", &json!({"text": text, "mention": true}));
        assert_eq!(delivery["status"], 200, "{delivery}");
        delivery["ts"].as_str().unwrap().to_owned()
    }

    /// The app's posts in a thread of a channel.
    fn posts(&self, channel: &str, thread: &str) -> Vec<Value> {
        let found = self.slack.get(&format!("/sim/messages?by=bot&channel={channel}&thread_ts={thread}"));
        found["messages"].as_array().unwrap().clone()
    }

    /// The app's post that contains this text, once it is there.
    fn post_with(&self, channel: &str, text: &str) -> Value {
        let path = format!("/sim/messages?by=bot&channel={channel}&contains={text}&count=1&wait=60");
        let found = self.slack.get(&path);
        found["messages"][0].clone()
    }

    fn fault(&self, method: &str, kind: &str, times: u32) {
        let body = json!({"method": method, "kind": kind, "times": times});
        let reply = self.slack.post("/sim/faults", &[], &body);
        assert!(reply.status < 300, "{}", reply.json());
    }

    fn metric(&self, name: &str) -> f64 {
        let body = self.http().send("GET", "/metrics", &[], Vec::new()).body;
        let text = String::from_utf8(body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Nothing waits to be said any more: a later mention has been answered, and its lane is in order.
    fn settle(&self, channel: &str) {
        let delivery =
            self.send("events", &json!({"text": "[[say:the-last-word]]", "mention": true, "channel": channel}));
        assert_eq!(delivery["status"], 200, "{delivery}");
        self.post_with(channel, "the-last-word");
    }
}

fn text(post: &Value) -> &str {
    post["text"].as_str().unwrap()
}

#[test]
fn a_mention_is_answered_once_in_its_thread_however_often_slack_tells_of_it() {
    let stage = Stage::new(&[]);
    let challenge = stage.send("challenge", &json!({}));
    assert_eq!(challenge["status"], 200, "{challenge}");
    let body = json!({"text": "[[say:**good** morning]]", "mention": true, "event_id": "Ev1", "copies": 5});
    let delivery = stage.send("events", &body);
    assert_eq!(delivery["status"], 200, "{delivery}");
    let ts = delivery["ts"].as_str().unwrap();
    // The same post as a message, under another event id.
    let twin = json!({"text": "[[say:**good** morning]]", "mention": true, "event_id": "Ev2",
                      "event": {"type": "message", "ts": ts}});
    assert_eq!(stage.send("events", &twin)["status"], 200);
    let post = stage.post_with("C0GENERAL", "morning");
    assert_eq!(text(&post), "*good* morning");
    stage.settle("C0GENERAL");
    assert_eq!(stage.posts("C0GENERAL", ts).len(), 1);
    let tasks = stage.http().get("/v1/tasks?agent=helper");
    let of_slack = |task: &&Value| task["source"]["event_id"] == "Ev1" || task["source"]["event_id"] == "Ev2";
    assert_eq!(tasks["items"].as_array().unwrap().iter().filter(of_slack).count(), 1, "{tasks}");
    let chatter = stage.http().get("/v1/tasks?agent=chatter");
    assert_eq!(chatter["items"], json!([]), "a mention is not for those who listen to everything");
}

#[test]
fn what_slack_did_not_sign_is_refused_and_leaves_nothing() {
    let stage = Stage::new(&[]);
    for forge in ["signature", "stale", "missing", "body"] {
        let event = json!({"text": "hello", "mention": true, "forge": forge});
        // The simulator would try again for six minutes.
        let reply = stage.slack.post("/sim/events", &[], &event).json();
        let path = format!("/sim/deliveries/{}", reply["delivery"].as_str().unwrap());
        let first = stage.slack.until("the first attempt", || {
            let delivery = stage.slack.get(&path);
            delivery["attempts"].as_array()?.first().cloned().filter(|attempt| !attempt["status"].is_null())
        });
        assert_eq!(first["status"], 401, "{forge}: {first}");
        let command = json!({"command": "/ask", "text": "hello", "forge": forge});
        assert_eq!(stage.send("commands", &command)["status"], 401, "{forge}");
    }
    let http = stage.http();
    assert_eq!(http.get("/v1/tasks")["items"], json!([]));
    let clicks = http.send("POST", "/slack/interactive", &[], b"payload=%7B%7D".to_vec());
    assert_eq!((clicks.status, clicks.json()["code"].clone()), (401, json!("slack_unverified")));
}

#[test]
fn conversations_have_threads_and_other_bots_none() {
    let stage = Stage::new(&[]);
    let send = |body: Value| stage.send("events", &body)["ts"].as_str().unwrap().to_owned();
    let first = send(json!({"text": "my name is Ada [[say:one]]"}));
    stage.post_with("C0GENERAL", "one");
    send(json!({"text": "go on [[say:two]]", "thread_ts": first}));
    stage.post_with("C0GENERAL", "two");
    let session = stage.http().get("/v1/sessions")["items"][0].clone();
    assert_eq!(session["id"], format!("chatter:T0SIM/C0GENERAL/{first}"), "{session}");
    assert_eq!(session["turns"], 2, "{session}");
    for event in [json!({"bot_id": "B9"}), json!({"subtype": "message_changed"}), json!({"user": "U0SIMBOT"})] {
        send(json!({"text": "[[say:never]]", "event": event}));
    }
    stage.settle("C0GENERAL");
    let never = stage.slack.get("/sim/messages?by=bot&contains=never");
    assert_eq!(never["messages"], json!([]));
}

#[test]
fn a_lost_answer_of_slack_makes_no_second_post() {
    let stage = Stage::new(&[]);
    stage.fault("chat.postMessage", "lose", 1);
    let ts = stage.mention("[[say:only once]]");
    stage.post_with("C0GENERAL", "only");
    // The post is there; its answer is lost. The message is tried again, and found.
    stage
        .slack
        .until("the look for the earlier post", || (stage.metric("agentry_slack_lookups_total") >= 1.0).then_some(()));
    stage.settle("C0GENERAL");
    assert_eq!(stage.posts("C0GENERAL", &ts).len(), 1);
}

#[test]
fn a_channel_that_must_wait_holds_up_no_other() {
    let stage = Stage::new(&[]);
    // More than Slack takes at once.
    let threads: Vec<String> = (0..6).map(|n| stage.mention(&format!("[[say:answer-{n}]]"))).collect();
    let elsewhere = json!({"text": "[[say:elsewhere]]", "mention": true, "channel": "C0OTHER"});
    stage.send("events", &elsewhere);
    stage.post_with("C0OTHER", "elsewhere");
    stage.fault("chat.postMessage", "ratelimit", 1);
    for (n, thread) in threads.iter().enumerate() {
        stage.post_with("C0GENERAL", &format!("answer-{n}"));
        assert_eq!(stage.posts("C0GENERAL", thread).len(), 1);
    }
    assert!(stage.metric("agentry_slack_pacing_waits_total") >= 1.0);
}

#[test]
fn a_command_is_answered_where_it_was_given_and_an_unknown_one_gets_help() {
    let stage = Stage::new(&[]);
    let delivery = stage.send("commands", &json!({"command": "/ask", "text": "[[say:forty-two]]"}));
    assert_eq!(delivery["status"], 200, "{delivery}");
    stage.post_with("C0GENERAL", "forty-two");
    let unknown = stage.send("commands", &json!({"command": "/askk", "text": "x"}));
    let said = unknown["body"].to_string();
    assert_eq!(unknown["status"], 200, "{unknown}");
    assert!(said.contains("ephemeral") && said.contains("did you mean") && said.contains("/ask"), "{said}");
}

#[test]
fn failures_and_long_answers_are_told() {
    let stage = Stage::new(&[]);
    let failed = stage.mention("[[fail:400]]");
    let post = stage.post_with("C0GENERAL", "warning");
    assert!(text(&post).contains("*helper* could not answer"), "{post}");
    assert_eq!(stage.posts("C0GENERAL", &failed).len(), 1);
    let long = stage.mention("[[long:3000]]");
    let parts = stage.slack.until("several parts", || Some(stage.posts("C0GENERAL", &long)).filter(|it| it.len() > 1));
    assert!(parts.iter().all(|part| text(part).chars().count() <= 4_000));
}

/// The question's post in the team's channel.
fn question(stage: &Stage, words: &str) -> Value {
    let delivery = stage.send("events", &json!({"text": words, "channel": "C0TEAM"}));
    assert_eq!(delivery["status"], 200, "{delivery}");
    stage.post_with("C0TEAM", "region")
}

/// The question that a post asks.
fn question_id(post: &Value) -> String {
    let actions = post["blocks"].as_array().unwrap().iter().find(|block| block["type"] == "actions").unwrap();
    actions["block_id"].as_str().unwrap().to_owned()
}

fn click(stage: &Stage, post: &Value, option: usize) -> Value {
    let action = format!("agentry_answer:{option}");
    stage.send("clicks", &json!({"channel": "C0TEAM", "ts": post["ts"], "action_id": action}))
}

#[test]
fn a_question_is_answered_by_a_click_once_and_every_surface_says_so() {
    let stage = Stage::new(&[]);
    let post = question(&stage, "Compare. [[ask:Which region?|EU|US]]");
    let http = stage.http();
    let id = question_id(&post);
    assert_eq!(click(&stage, &post, 0)["status"], 200);
    let ended = stage.post_with("C0TEAM", "answered");
    assert_eq!(ended["ts"], post["ts"], "the question's own post is changed");
    assert!(!ended["blocks"].to_string().contains("\"button\""), "{ended}");
    let all = http.get("/v1/clarifications?all=true")["items"].clone();
    let resolution = all.as_array().unwrap().iter().find(|it| it["id"] == id.as_str()).unwrap()["resolution"].clone();
    assert_eq!(resolution["answer"], "EU", "{resolution}");
    assert!(resolution["by"].as_str().unwrap().contains("Slack U0ALICE"), "{resolution}");
    let late = http.post(&format!("/v1/clarifications/{id}/answer"), &[], &json!({"answer": "US"}));
    assert_eq!(late.status, 409);
}

#[test]
fn an_answer_over_http_takes_the_buttons_away_and_a_late_click_is_told() {
    let stage = Stage::new(&[]);
    let post = question(&stage, "Compare. [[ask:Which region?|EU|US]]");
    // A late click is one on buttons that were still shown.
    let fault = json!({"method": "chat.update", "kind": "fail", "times": 1, "error": "cant_update_message"});
    assert!(stage.slack.post("/sim/faults", &[], &fault).status < 300);
    let (http, id) = (stage.http(), question_id(&post));
    let reply = http.post(&format!("/v1/clarifications/{id}/answer"), &[], &json!({"answer": "US", "by": "ada"}));
    assert_eq!(reply.status, 200, "{}", reply.json());
    assert_eq!(click(&stage, &post, 0)["status"], 200);
    let told = stage.slack.until("who clicked to be told", || {
        let found = stage.slack.get("/sim/messages?contains=that%20answer%20stands");
        found["messages"].as_array()?.first().cloned()
    });
    assert!(text(&told).contains("ada"), "{told}");
}

#[test]
fn a_dialog_takes_free_text() {
    let stage = Stage::new(&[]);
    let post = question(&stage, "Compare. [[ask:Which region?]]");
    let body = json!({"channel": "C0TEAM", "ts": post["ts"], "action_id": "agentry_open"});
    assert_eq!(stage.send("clicks", &body)["status"], 200);
    let view = stage.slack.until("the dialog", || stage.slack.get("/sim/views")["views"].as_array()?.first().cloned());
    let sent = json!({"view_id": view["id"], "values": {"answer": {"text": "the far north"}}});
    assert_eq!(stage.send("submissions", &sent)["status"], 200);
    let ended = stage.post_with("C0TEAM", "far%20north");
    assert_eq!(ended["ts"], post["ts"]);
}

/// Somebody replies in the thread of a post.
fn reply(stage: &Stage, channel: &str, thread: &Value, words: &str) {
    let delivery = stage.send("events", &json!({"text": words, "channel": channel, "thread_ts": thread}));
    assert_eq!(delivery["status"], 200, "{delivery}");
}

#[test]
fn a_reply_in_the_thread_of_a_question_answers_it() {
    let stage = Stage::new(&[]);
    let post = question(&stage, "Compare. [[ask:Which region?]]");
    reply(&stage, "C0TEAM", &post["thread_ts"], "the far north");
    let ended = stage.post_with("C0TEAM", "far%20north");
    assert_eq!(ended["ts"], post["ts"], "the question's own post is changed");
    let tasks = stage.http().get("/v1/tasks?agent=team");
    assert_eq!(tasks["items"].as_array().unwrap().len(), 1, "the reply is no question of its own: {tasks}");
    stage.http().task_in(tasks["items"][0]["id"].as_str().unwrap(), &["completed"]);
}

#[test]
fn a_question_of_a_task_from_elsewhere_is_answered_in_the_thread_of_its_post() {
    let stage = Stage::new(&[("AGENTRY_SLACK_QUESTIONS", "T0SIM/C0ASKED")]);
    let http = stage.http();
    let task = http.submit("team", "Compare. [[ask:Which region?]]");
    let post = stage.post_with("C0ASKED", "region");
    let noted = || {
        // Until its thread is noted, a reply is a message like any other.
        reply(&stage, "C0ASKED", &post["ts"], "the far north");
        let open = http.get("/v1/clarifications")["items"].as_array().unwrap().len();
        (open == 0).then_some(())
    };
    http.until("the reply to be taken", noted);
    // An early reply was a message like any other, whose answer repeats its words.
    stage.slack.until("the question's own post to be changed", || {
        let found = stage.slack.get("/sim/messages?by=bot&channel=C0ASKED&contains=far%20north");
        found["messages"].as_array().unwrap().iter().find(|message| message["ts"] == post["ts"]).map(|_| ())
    });
    http.task_in(&task, &["completed"]);
}

#[test]
fn a_long_task_shows_that_it_is_worked_on_and_its_end_takes_that_place() {
    let stage = Stage::new(&[]);
    let thread = stage.mention("[[hang]]");
    let shown = stage.slack.until("a sign of work", || stage.posts("C0GENERAL", &thread).first().cloned());
    let http = stage.http();
    let task = http.get("/v1/tasks?agent=helper")["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(http.post(&format!("/v1/tasks/{task}/cancel"), &[], &json!({})).status, 202);
    let ended = stage.post_with("C0GENERAL", "was%20stopped");
    assert_eq!(ended["ts"], shown["ts"]);
    assert_eq!(stage.posts("C0GENERAL", &thread).len(), 1);
}

#[test]
fn after_kill_9_every_mention_is_answered_once() {
    let mut stage = Stage::new(&[]);
    let mut threads = Vec::new();
    for (n, wait) in [0, 40, 120, 400, 1_500].into_iter().enumerate() {
        let thread = stage.mention(&format!("[[sleep:{wait}]] [[say:survived-{n}]]"));
        if wait == 0 {
            // Posted, and perhaps not noted.
            stage.post_with("C0GENERAL", &format!("survived-{n}"));
        }
        stage.start();
        threads.push(thread);
    }
    for (n, thread) in threads.iter().enumerate() {
        stage.post_with("C0GENERAL", &format!("survived-{n}"));
        assert_eq!(stage.posts("C0GENERAL", thread).len(), 1, "{n}");
    }
    stage.settle("C0GENERAL");
    for (n, thread) in threads.iter().enumerate() {
        let posts = stage.posts("C0GENERAL", thread);
        assert_eq!(posts.len(), 1, "{n}: {posts:?}");
        assert!(text(&posts[0]).contains(&format!("survived-{n}")), "{posts:?}");
    }
}
