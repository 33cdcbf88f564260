//! `tasks`, `sessions`, `events`.

use agentry_api::{
    EventRequest, ServerEvent, SessionQuery, SessionView, TailQuery, TaskDetailQuery, TaskEvent, TaskQuery, TaskView,
};
use agentry_core::journal::JournalBody;
use agentry_core::session::SessionMessage;
use serde_json::json;

use super::{LIST_LIMIT, act, json_or_text, show};
use crate::cli::{EventCommand, ReadArgs, ResourceArgs, SessionCommand, ShowArgs, TaskCommand, TaskListArgs};
use crate::failure::Failure;
use crate::out;
use crate::render::{self, OutputFormat, TableColumn, cost, moment, number, shown, text};

const TASKS: &[TableColumn<TaskView>] = &[
    text("id", |task| shown(&task.id)),
    text("agent", |task| shown(&task.agent)),
    text("status", |task| shown(&task.status)),
    text("created", |task| moment(task.created_at)),
    number("ms", |task| task.duration_ms.map_or("–".to_owned(), |ms| format!("{ms:.1}"))),
    number("calls", |task| shown(&task.spent.llm_calls)),
    number("cost", |task| cost(task.spent.cost_nanos)),
    text("output or error", answer),
];

/// Returns the output of a task, or its error.
pub fn answer(task: &TaskView) -> String {
    task.error.as_ref().map_or_else(|| shown(&task.output), |error| error.message.clone())
}

pub async fn tasks(verb: ResourceArgs<TaskCommand>) -> Result<(), Failure> {
    let list = |reading| TaskListArgs { agent: None, status: None, limit: 50, reading };
    match verb.command.unwrap_or_else(|| TaskCommand::List(list(verb.reading))) {
        TaskCommand::List(args) => task_list(args).await,
        TaskCommand::Show(args) => {
            // People get the task's fields; programs get the journal too.
            let query = TaskDetailQuery { journal: args.reading.output != OutputFormat::Table };
            show(&args.reading, args.reading.server.client()?.task(&args.id).query(&query)).await
        }
        TaskCommand::Cancel(args) => act(&args, args.server.client()?.cancel(&args.id), "is being cancelled").await,
        TaskCommand::Events(args) => follow(&args).await,
    }
}

async fn task_list(args: TaskListArgs) -> Result<(), Failure> {
    let query = TaskQuery { agent: args.agent, status: args.status, ..TaskQuery::default() };
    let limit = usize::try_from(args.limit).unwrap_or(LIST_LIMIT);
    let empty = "no tasks yet: agentry run AGENT \"input\" --url URL makes one";
    super::list(&args.reading, args.reading.server.client()?.tasks(&query), limit, TASKS, empty).await
}

async fn follow(args: &ShowArgs) -> Result<(), Failure> {
    let mut events = args.reading.server.client()?.task_events(&args.id).follow().await?;
    while let Some(event) = events.next().await? {
        out::line(&match args.reading.output {
            OutputFormat::Table => journal_line(&event),
            _ => json!({"event": event.event, "data": event.data}).to_string(),
        })?;
        if event.event == "end" {
            break;
        }
    }
    Ok(())
}

/// Returns an event of a task as a line: number, scope, kind, detail.
fn journal_line(event: &ServerEvent) -> String {
    let entry = match event.of_task() {
        Some(TaskEvent::Status(status)) => return format!("       status  {}", shown(&status)),
        Some(TaskEvent::Delta(text)) => return format!("       delta   {text}"),
        Some(TaskEvent::Restart) => return "       restart the answer begins again".to_owned(),
        Some(TaskEvent::End(task)) => return format!("       end     {}  {}", shown(&task.status), answer(&task)),
        Some(TaskEvent::Entry(entry)) => entry,
        None => return format!("{:>5}  {:<12}  {}", "–", "–", event.event),
    };
    let detail = match &entry.body {
        JournalBody::ModelStarted { model, .. } => model,
        JournalBody::ToolStarted { call, .. } => &call.name,
        JournalBody::StepCompleted { step, .. } | JournalBody::StepFailed { step, .. } => step,
        JournalBody::Asked { question, .. } => question,
        _ => "",
    };
    let line = format!("{:>5}  {:<12}  {:<16}  {detail}", entry.seq, shown(&entry.scope), event.event);
    line.trim_end().to_owned()
}

const SESSIONS: &[TableColumn<SessionView>] = &[
    text("session", |session| shown(&session.id)),
    number("turns", |session| shown(&session.turns)),
    number("messages", |session| shown(&session.messages)),
    number("open", |session| shown(&session.open_tasks)),
    text("last used", |session| moment(session.updated_at)),
];

pub async fn sessions(verb: ResourceArgs<SessionCommand>) -> Result<(), Failure> {
    match verb.command.unwrap_or(SessionCommand::List(verb.reading)) {
        SessionCommand::List(reading) => {
            let empty = "no sessions yet: a continuous agent's first message with a session key makes one";
            let call = reading.server.client()?.sessions(&SessionQuery::default());
            super::list(&reading, call, LIST_LIMIT, SESSIONS, empty).await
        }
        SessionCommand::Show(args) => show_session(&args.id, &args.reading).await,
        SessionCommand::Delete(args) => {
            act(&args, args.server.client()?.delete_session(&args.id), "is forgotten").await
        }
    }
}

const MESSAGES: &[TableColumn<SessionMessage>] = &[
    number("#", |message| shown(&message.number)),
    text("at", |message| moment(message.at)),
    text("role", |message| part(message, "role")),
    text("text", |message| part(message, "content")),
];

/// Returns a field of a message; kinds of messages have different fields.
fn part(message: &SessionMessage, field: &str) -> String {
    shown(&serde_json::to_value(&message.message).unwrap_or_default().get(field))
}

/// Prints a session with all its messages, which are read in pages.
async fn show_session(id: &str, reading: &ReadArgs) -> Result<(), Failure> {
    let client = reading.server.client()?;
    let mut session = client.session(id).await?;
    while let Some(number) = session.next_after.filter(|_| session.history.len() < LIST_LIMIT) {
        let page = client.session_after(id, number).await?;
        session.history.extend(page.history);
        // Numbers only grow; a page that does not is the last.
        session.next_after = page.next_after.filter(|next| *next > number);
    }
    if reading.output == OutputFormat::Table {
        return render::rows(&session.history, MESSAGES, "no messages yet");
    }
    let mut document = serde_json::to_value(&session).unwrap_or_default();
    // There since the first version, and `null` on the last page.
    document["next_after"] = session.next_after.into();
    render::document(reading.output, &document)
}

pub async fn events(verb: EventCommand) -> Result<(), Failure> {
    match verb {
        EventCommand::Publish(args) => {
            let (topic, data) = (args.topic, json_or_text(&args.data));
            let event = EventRequest { topic, data, id: None, source: None, kind: None };
            let accepted = args.server.client()?.publish(&event).await?;
            out::line(&format!("{} accepted, {} tasks", accepted.id, accepted.tasks.len()))
        }
        EventCommand::Tail(args) => {
            let query = TailQuery { topic: args.pattern, recent: 0 };
            let mut events = args.server.client()?.events(&query).follow().await?;
            while let Some(event) = events.next().await? {
                if event.event == "missed" {
                    out::eprint("warning: some events came too fast and are not shown\n");
                } else {
                    out::line(&event.data.to_string())?;
                }
            }
            Ok(())
        }
    }
}
