//! The scenes: what is asked of the fleet through the API, and what must come of it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use agentry_core::time::Timestamp;
use serde_json::{Value, json};

use super::deployment::PEOPLE;
use super::{Played, entries, expect_completed, submit, until, with_journal};
use crate::client::Client;
use crate::failure::Failure;
use crate::render::at;

/// The schedule of the demo, made through the API.
const SCHEDULE: &str = "demo-every-second";
/// Slots that must fire.
const SLOTS: usize = 2;
/// What the collaborative task asks of a person.
const QUESTION: &str = "Which region?";
/// What is answered.
const ANSWER: &str = "EU";

/// Waits until every agent is healthy; returns how many there are.
pub async fn all_healthy(client: &Client) -> Result<usize, Failure> {
    let ask = || async { client.list(&["v1", "agents"], &[], 10_000).await.map(Value::Array) };
    until(ask, |agents| {
        let agents = agents.as_array()?;
        let healthy = agents.iter().all(|agent| agent["status"] == "healthy");
        (healthy && !agents.is_empty()).then_some(agents.len())
    })
    .await
}

/// One task for a stateless agent.
pub async fn autonomous(client: &Client) -> Result<Played, Failure> {
    let task = submit(client, &json!({"agent": "triage", "input": "refund not received"})).await?;
    expect_completed(&task)?;
    let story = format!("\"refund not received\" → routed: {}", at(&task, "/output/team"));
    Played::of("triage", "autonomous", story, &[task])
}

/// Three turns in one session; the third must have been answered with the first two in front of the model.
pub async fn continuous(client: &Client) -> Result<Played, Failure> {
    let session = "demo-thread";
    let turns = ["My order is A-1042.", "It has not arrived yet.", "Which order was that?"];
    let mut tasks = Vec::new();
    for input in turns {
        let task = submit(client, &json!({"agent": "support", "session": session, "input": input})).await?;
        expect_completed(&task)?;
        tasks.push(task);
    }
    let id = format!("support:{session}");
    let kept = client.get(&["v1", "sessions", &id], &[]).await?;
    let said: Vec<String> = kept["history"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|message| message["message"]["role"] == "user")
        .map(|message| at(message, "/message/content"))
        .collect();
    if said != turns {
        return Err(Failure::new(format!("session {id} kept {said:?} of the three turns, in this order")));
    }
    let tokens = |task: &Value| task["spent"]["input_tokens"].as_u64().unwrap_or(0);
    if tokens(&tasks[2]) <= tokens(&tasks[0]) {
        return Err(Failure::new("the third turn was sent without the two before it"));
    }
    Played::of("support", "continuous", "3 turns in one thread → in order, all remembered".to_owned(), &tasks)
}

/// A question that was asked and answered.
pub struct Asked {
    /// How many of its steps asked.
    pub questions: usize,
    /// From the first question to the acceptance of its answer.
    pub waited: Duration,
    /// What was asked.
    pub question: &'static str,
    /// What was answered.
    pub answer: &'static str,
    /// How the task went on.
    pub status: String,
}

/// A plan of several agents, one of whose steps asks a person; the demo answers with a click in Slack.
pub async fn collaborative(client: &Client, slack: &Client) -> Result<(Played, Asked), Failure> {
    let input = format!("Compare delivery times of our three carriers. [[ask:{QUESTION}|{ANSWER}|US]]");
    let accepted = client.post(&["v1", "tasks"], &[], &json!({"agent": "research-team", "input": input})).await?;
    let id = at(&accepted, "/id");
    let (questions, waited) = answer_until_over(client, slack, &id).await?;
    let task = with_journal(client, &id).await?;
    expect_completed(&task)?;
    if questions == 0 {
        return Err(Failure::new("the collaborative task ended without asking"));
    }
    let steps: Vec<&Value> = entries(&task, "plan_accepted")
        .filter_map(|entry| entry["body"]["plan"]["steps"].as_array())
        .flatten()
        .collect();
    let done: BTreeSet<String> = entries(&task, "step_completed").map(|entry| at(entry, "/body/step")).collect();
    if steps.is_empty() || done.len() != steps.len() {
        return Err(Failure::new(format!("{} of {} plan steps were completed", done.len(), steps.len())));
    }
    let free = steps.iter().filter(|step| step["depends_on"].as_array().is_none_or(Vec::is_empty)).count();
    let agents: BTreeSet<String> = steps.iter().map(|step| at(step, "/agent")).collect();
    let story = format!("{} steps, {free} in parallel, {} agents → report", steps.len(), agents.len());
    let status = at(&task, "/status");
    let played = Played::of("research-team", "collaborative", story, &[task])?;
    Ok((played, Asked { waited, questions, question: QUESTION, answer: ANSWER, status }))
}

/// Answers each question of a task once it is paused, until the task has ended. Returns how many there were, and how
/// long the first was open.
async fn answer_until_over(client: &Client, slack: &Client, task: &str) -> Result<(usize, Duration), Failure> {
    let path = ["v1", "tasks", task];
    let (mut questions, mut waited) = (0, Duration::ZERO);
    loop {
        // Paused, not busy: a task holds no worker while it waits.
        let paused = |task: Value| match task["status"].as_str() {
            Some("waiting") => Some(false),
            _ => is_over(&task).then_some(true),
        };
        if until(|| client.get(&path, &[]), paused).await? {
            return Ok((questions, waited));
        }
        let began = Instant::now();
        let open = client.list(&["v1", "clarifications"], &[], 100).await?;
        for question in open.iter().filter(|question| question["task"] == task) {
            click(slack, &at(question, "/id")).await?;
            if questions == 0 {
                waited = asked_at(question).map_or(began.elapsed(), |asked| asked.elapsed().unwrap_or_default());
            }
            questions += 1;
        }
    }
}

/// Clicks the first option of a question in Slack, once it is shown there.
async fn click(slack: &Client, question: &str) -> Result<(), Failure> {
    let query = [("by", "bot".to_owned()), ("channel", PEOPLE.to_owned())];
    let ts = until(
        || slack.get(&["sim", "messages"], &query),
        |found| {
            let shows = |post: &&Value| {
                post["blocks"].as_array().is_some_and(|it| it.iter().any(|b| b["block_id"] == question))
            };
            found["messages"].as_array()?.iter().find(shows).map(|post| at(post, "/ts"))
        },
    )
    .await?;
    let body = json!({"channel": PEOPLE, "ts": ts, "action_id": "agentry_answer:0"});
    let delivery = slack.post(&["sim", "clicks"], &[("wait", "true".to_owned())], &body).await?;
    if delivery["status"] == 200 {
        return Ok(());
    }
    Err(Failure::new(format!("a click in Slack was answered with {}", at(&delivery, "/status"))))
}

/// An answer in Slack.
pub struct Mentioned {
    /// From the mention to the answer in its thread.
    pub took: Duration,
    /// The app's posts in the thread.
    pub posts: usize,
}

/// Somebody names the app in a channel; Slack tells of it three times, and it is answered once, in the thread.
pub async fn mention(slack: &Client) -> Result<Mentioned, Failure> {
    let began = Instant::now();
    let body = json!({"text": "Where is order A-1042?", "mention": true, "channel": "C0SHOP", "copies": 3});
    let sent = slack.post(&["sim", "events"], &[], &body).await?;
    let query = |more: Option<(&'static str, String)>| {
        let thread = [("by", "bot".to_owned()), ("channel", "C0SHOP".to_owned()), ("thread_ts", at(&sent, "/ts"))];
        thread.into_iter().chain(more).collect::<Vec<_>>()
    };
    slack.get(&["sim", "messages"], &query(Some(("wait", "20".to_owned())))).await?;
    let took = began.elapsed();
    let found = slack.get(&["sim", "messages"], &query(None)).await?;
    let posts = found["messages"].as_array().map_or(0, Vec::len);
    if posts != 1 {
        return Err(Failure::new(format!("a mention was answered {posts} times")));
    }
    Ok(Mentioned { took, posts })
}

fn asked_at(question: &Value) -> Option<SystemTime> {
    let asked: Timestamp = serde_json::from_value(question["asked_at"].clone()).ok()?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_micros(u64::try_from(asked.0).ok()?))
}

/// Whether a task has ended.
pub fn is_over(task: &Value) -> bool {
    matches!(task["status"].as_str(), Some("completed" | "failed" | "timed_out" | "cancelled"))
}

/// Makes a schedule with one slot a second.
pub async fn make_schedule(client: &Client) -> Result<(), Failure> {
    let schedule = json!({
        "name": SCHEDULE,
        "agent": "health-check",
        "interval_seconds": 1,
        "input": "check all services",
    });
    client.post(&["v1", "schedules"], &[], &schedule).await.map(drop)
}

/// Slots that fired.
pub struct Fired {
    /// How many.
    pub slots: usize,
    /// The longest time from a slot's nominal time to the acceptance of its task.
    pub lateness: Duration,
    /// Their tasks.
    pub tasks: Vec<Value>,
}

/// Waits until the schedule has fired twice and its tasks have ended, then removes it.
pub async fn slots_fired(client: &Client) -> Result<Fired, Failure> {
    let query = [("agent", "health-check".to_owned())];
    let ask = || async { client.list(&["v1", "tasks"], &query, 100).await.map(Value::Array) };
    let tasks = until(ask, |tasks| {
        let ours = |task: &&Value| task["source"]["schedule"] == SCHEDULE && is_over(task);
        let tasks: Vec<Value> = tasks.as_array()?.iter().filter(ours).cloned().collect();
        (tasks.len() >= SLOTS).then_some(tasks)
    })
    .await?;
    client.send(reqwest::Method::DELETE, &["v1", "schedules", SCHEDULE], None).await?;
    tasks.iter().try_for_each(expect_completed)?;
    let slots: BTreeSet<&str> = tasks.iter().filter_map(|task| task["source"]["slot"].as_str()).collect();
    if slots.len() != tasks.len() {
        return Err(Failure::new(format!("{} tasks came of {} slots", tasks.len(), slots.len())));
    }
    let late = |task: &Value| -> Option<Duration> {
        let moment = |pointer: &str| serde_json::from_value(task.pointer(pointer)?.clone()).ok();
        let (created, slot): (Timestamp, _) = (moment("/created_at")?, moment("/source/slot")?);
        Some(created.since(slot))
    };
    let lateness = tasks.iter().filter_map(late).max().unwrap_or_default();
    Ok(Fired { slots: slots.len(), lateness, tasks })
}
