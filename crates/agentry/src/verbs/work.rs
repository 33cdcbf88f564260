//! `tasks`, `sessions`, `events`: what is asked and what is said.

use reqwest::Method;
use serde_json::{Value, json};

use super::{LIST_LIMIT, act, json_or_text, send};
use crate::cli::{EventVerb, One, Reading, Sessions, TaskList, Tasks, Verb};
use crate::client::StreamItem;
use crate::failure::Failure;
use crate::out;
use crate::render::{self, Column, Format, at, moment, number, text};

const TASKS: &[Column] = &[
    text("id", |task| at(task, "/id")),
    text("agent", |task| at(task, "/agent")),
    text("status", |task| at(task, "/status")),
    text("created", |task| moment(task, "/created_at")),
    number("ms", |task| task["duration_ms"].as_f64().map_or("–".to_owned(), |ms| format!("{ms:.1}"))),
    number("calls", |task| at(task, "/spent/llm_calls")),
    number("cost", |task| render::dollars(task["spent"]["cost_nanos"].as_u64().unwrap_or(0))),
    text("output or error", answer),
];

/// What came of a task, for a table: its answer, or why there is none.
pub fn answer(task: &Value) -> String {
    if task["error"].is_object() { at(task, "/error/message") } else { at(task, "/output") }
}

pub async fn tasks(verb: Verb<Tasks>) -> Result<(), Failure> {
    let list = |reading| TaskList { agent: None, status: None, limit: 50, reading };
    match verb.command.unwrap_or_else(|| Tasks::List(list(verb.reading))) {
        Tasks::List(args) => task_list(&args).await,
        Tasks::Show(args) => show_task(&args).await,
        Tasks::Cancel(args) => {
            act(&args, Method::POST, &["v1", "tasks", &args.id, "cancel"], "is being cancelled").await
        }
        Tasks::Events(args) => follow(&args).await,
    }
}

async fn task_list(args: &TaskList) -> Result<(), Failure> {
    let mut query = Vec::new();
    query.extend(args.agent.clone().map(|agent| ("agent", agent)));
    query.extend(args.status.clone().map(|status| ("status", status)));
    let limit = usize::try_from(args.limit).unwrap_or(LIST_LIMIT);
    let rows = args.reading.server.client()?.list(&["v1", "tasks"], &query, limit).await?;
    render::rows(args.reading.output, &rows, TASKS, "no tasks yet: agentry run AGENT \"input\" --url URL makes one")
}

/// People get the task's fields; programs get the journal too.
async fn show_task(args: &One) -> Result<(), Failure> {
    let journal = if args.reading.output == Format::Table { "false" } else { "true" };
    let client = args.reading.server.client()?;
    let task = client.get(&["v1", "tasks", &args.id], &[("journal", journal.to_owned())]).await?;
    render::document(args.reading.output, &task)
}

async fn follow(args: &One) -> Result<(), Failure> {
    let json = args.reading.output != Format::Table;
    let client = args.reading.server.client()?;
    client
        .stream(&["v1", "tasks", &args.id, "events"], &[], |item| {
            let shown = if json { one_line_json(&item) } else { journal_line(&item) };
            out::line(&shown)?;
            Ok(item.event != "end")
        })
        .await
}

fn one_line_json(item: &StreamItem) -> String {
    json!({"event": item.event, "data": item.data}).to_string()
}

/// One entry of a journal for people: number, part of the task, what happened.
fn journal_line(item: &StreamItem) -> String {
    let body = &item.data["body"];
    let detail = match item.event.as_str() {
        "model_started" | "model_completed" => at(body, "/model").replace('–', ""),
        "tool_started" => at(body, "/call/name"),
        "step_completed" | "step_failed" => at(body, "/step"),
        "asked" => at(body, "/question"),
        "status" => return format!("       status  {}", at(&item.data, "/status")),
        "delta" => return format!("       delta   {}", at(&item.data, "/text")),
        "end" => return format!("       end     {}  {}", at(&item.data, "/status"), answer(&item.data)),
        _ => String::new(),
    };
    let line = format!("{:>5}  {:<12}  {:<16}  {detail}", at(&item.data, "/seq"), at(&item.data, "/scope"), item.event);
    line.trim_end().to_owned()
}

const SESSIONS: &[Column] = &[
    text("session", |session| at(session, "/id")),
    number("turns", |session| at(session, "/turns")),
    number("messages", |session| at(session, "/messages")),
    number("open", |session| at(session, "/open_tasks")),
    text("last used", |session| moment(session, "/updated_at")),
];

pub async fn sessions(verb: Verb<Sessions>) -> Result<(), Failure> {
    match verb.command.unwrap_or(Sessions::List(verb.reading)) {
        Sessions::List(reading) => {
            let empty = "no sessions yet: a continuous agent's first message with a session key makes one";
            super::list(&reading, &["v1", "sessions"], SESSIONS, empty).await
        }
        Sessions::Show(args) => show_session(&args.id, &args.reading).await,
        Sessions::Delete(args) => act(&args, Method::DELETE, &["v1", "sessions", &args.id], "is forgotten").await,
    }
}

const MESSAGES: &[Column] = &[
    number("#", |message| at(message, "/number")),
    text("at", |message| moment(message, "/at")),
    text("role", |message| at(message, "/message/role")),
    text("text", |message| at(message, "/message/content")),
];

/// A session with all its messages: the API gives them in pages.
async fn show_session(id: &str, reading: &Reading) -> Result<(), Failure> {
    let client = reading.server.client()?;
    let mut session = client.get(&["v1", "sessions", id], &[]).await?;
    let mut history = session["history"].as_array().cloned().unwrap_or_default();
    let mut after = session["next_after"].as_u64();
    while let Some(number) = after.filter(|_| history.len() < LIST_LIMIT) {
        let page = client.get(&["v1", "sessions", id], &[("after", number.to_string())]).await?;
        history.extend(page["history"].as_array().cloned().unwrap_or_default());
        // Numbers only grow; a page that does not is the last.
        after = page["next_after"].as_u64().filter(|next| *next > number);
    }
    if reading.output == Format::Table {
        return render::rows(Format::Table, &history, MESSAGES, "no messages yet");
    }
    session["history"] = Value::Array(history);
    session["next_after"] = json!(after);
    render::document(reading.output, &session)
}

pub async fn events(verb: EventVerb) -> Result<(), Failure> {
    match verb {
        EventVerb::Publish(args) => {
            let body = json!({"topic": args.topic, "data": json_or_text(&args.data)});
            let accepted = send(&args.server, Method::POST, &["v1", "events"], &body).await?;
            let tasks = accepted["tasks"].as_array().map_or(0, Vec::len);
            out::line(&format!("{} accepted, {tasks} tasks", at(&accepted, "/id")))
        }
        EventVerb::Tail(args) => {
            let query: Vec<_> = args.pattern.map(|pattern| ("topic", pattern)).into_iter().collect();
            args.server
                .client()?
                .stream(&["v1", "events"], &query, |item| {
                    if item.event == "missed" {
                        out::complain("warning: some events came too fast and are not shown\n");
                    } else {
                        out::line(&item.data.to_string())?;
                    }
                    Ok(true)
                })
                .await
        }
    }
}
