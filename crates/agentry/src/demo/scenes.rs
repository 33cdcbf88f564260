//! The scenes: the requests to the fleet through the API, and the checks of their results.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use agentry_api::{
    AgentQuery, Client, OpenItemQuery, ScheduleRequest, SubmitReply, TaskDetail, TaskQuery, TaskRequest, TaskView,
};
use agentry_core::chat::Message;
use agentry_core::fleet::AgentState;
use agentry_core::id::{ClarificationId, TaskId};
use agentry_core::journal::JournalBody;
use agentry_core::plan::PlanStep;
use agentry_core::task::{TaskSource, TaskStatus};
use reqwest::Method;
use serde_json::{Value, json};

use super::deployment::PEOPLE;
use super::{TaskSummary, expect_completed, until};
use crate::failure::Failure;
use crate::render::at;

/// The schedule of the demo.
const SCHEDULE: &str = "demo-every-second";
/// Slots that must fire.
const SLOTS: usize = 2;
/// The question of the collaborative task.
const QUESTION: &str = "Which region?";
/// The answer to it.
const ANSWER: &str = "EU";

/// Waits until every agent is healthy; returns their number.
pub async fn all_healthy(client: &Client) -> Result<usize, Failure> {
    let ask = async || Ok(client.agents(&AgentQuery::default()).all(10_000).await?);
    until(ask, |agents| {
        let healthy = agents.iter().all(|agent| agent.status == AgentState::Healthy);
        (healthy && !agents.is_empty()).then_some(agents.len())
    })
    .await
}

/// Submits a task and waits until it has completed.
async fn complete(client: &Client, request: &TaskRequest<'_>) -> Result<TaskView, Failure> {
    match client.submit_and_wait(request, 20.0).await? {
        SubmitReply::Ended(task) => expect_completed(&task).map(|()| *task),
        SubmitReply::Accepted(receipt) => Err(Failure::new(format!("task {} did not end within 20 s", receipt.id))),
    }
}

/// One task of an autonomous agent.
pub async fn autonomous(client: &Client) -> Result<TaskSummary, Failure> {
    let task = complete(client, &TaskRequest::new("triage", "refund not received")).await?;
    let team = task.output.as_ref().map_or(String::new(), |output| at(output, "/team"));
    TaskSummary::of("triage", "autonomous", format!("\"refund not received\" → routed: {team}"), &[task])
}

/// Three turns in one session; the model must have got the first two with the third.
pub async fn continuous(client: &Client) -> Result<TaskSummary, Failure> {
    let session = "demo-thread";
    let turns = ["My order is A-1042.", "It has not arrived yet.", "Which order was that?"];
    let mut tasks = Vec::new();
    for input in turns {
        let request = TaskRequest { session: Some(session.to_owned()), ..TaskRequest::new("support", input) };
        tasks.push(complete(client, &request).await?);
    }
    let id = format!("support:{session}");
    let messages = client.session(&id).await?.history.into_iter().map(|message| message.message);
    let user_text = |message| if let Message::User { content } = message { Some(content) } else { None };
    let said: Vec<String> = messages.filter_map(user_text).collect();
    if said != turns {
        return Err(Failure::new(format!("session {id} kept {said:?} of the three turns, in this order")));
    }
    if tasks[2].spent.input_tokens <= tasks[0].spent.input_tokens {
        return Err(Failure::new("the third turn was sent without the two before it"));
    }
    TaskSummary::of("support", "continuous", "3 turns in one thread → in order, all remembered".to_owned(), &tasks)
}

/// A question that was asked and answered.
pub struct QuestionSummary {
    /// Number of steps that asked it.
    pub questions: usize,
    /// Time from the first question to the acceptance of its answer.
    pub waited: Duration,
    /// The question.
    pub question: &'static str,
    /// The answer.
    pub answer: &'static str,
    /// Final status of the task.
    pub status: TaskStatus,
}

/// A plan of several agents, one of whose steps asks a person; the demo answers with a click in Slack.
pub async fn collaborative(client: &Client, slack: &Client) -> Result<(TaskSummary, QuestionSummary), Failure> {
    let input = format!("Compare delivery times of our three carriers. [[ask:{QUESTION}|{ANSWER}|US]]");
    let id = client.submit(&TaskRequest::new("research-team", input)).await?.id;
    let (questions, waited) = answer_until_ended(client, slack, id).await?;
    let TaskDetail { task, journal } = client.task_with_journal(id).await?;
    expect_completed(&task)?;
    if questions == 0 {
        return Err(Failure::new("the collaborative task ended without asking"));
    }
    let (mut steps, mut done): (Vec<PlanStep>, _) = (Vec::new(), BTreeSet::new());
    for entry in journal.unwrap_or_default() {
        match entry.body {
            JournalBody::PlanAccepted { plan, .. } => steps.extend(plan.steps),
            JournalBody::StepCompleted { step, .. } => drop(done.insert(step)),
            _ => {}
        }
    }
    if steps.is_empty() || done.len() != steps.len() {
        return Err(Failure::new(format!("{} of {} plan steps were completed", done.len(), steps.len())));
    }
    let free = steps.iter().filter(|step| step.depends_on.is_empty()).count();
    let agents: BTreeSet<_> = steps.iter().map(|step| &step.agent).collect();
    let story = format!("{} steps, {free} in parallel, {} agents → report", steps.len(), agents.len());
    let status = task.status;
    let summary = TaskSummary::of("research-team", "collaborative", story, &[task])?;
    Ok((summary, QuestionSummary { waited, questions, question: QUESTION, answer: ANSWER, status }))
}

/// Answers the questions of a task until it has ended. Returns their number, and the time until the first was answered.
async fn answer_until_ended(client: &Client, slack: &Client, id: TaskId) -> Result<(usize, Duration), Failure> {
    let (mut questions, mut waited) = (0, Duration::ZERO);
    loop {
        // A waiting task occupies no worker.
        let ask = async || Ok(client.task(id).await?.task.status);
        let status =
            until(ask, |status| (status == TaskStatus::Waiting || status.is_terminal()).then_some(status)).await?;
        if status.is_terminal() {
            return Ok((questions, waited));
        }
        let began = Instant::now();
        let open = client.clarifications(&OpenItemQuery::default()).all(100).await?;
        for question in open.iter().map(|view| &view.clarification).filter(|question| question.task == id) {
            click(slack, question.id).await?;
            if questions == 0 {
                let since_epoch = Duration::from_micros(u64::try_from(question.asked_at.0).unwrap_or(0));
                waited = (SystemTime::UNIX_EPOCH + since_epoch).elapsed().unwrap_or_else(|_| began.elapsed());
            }
            questions += 1;
        }
    }
}

/// Clicks the first option of a question in Slack, once it is posted.
async fn click(slack: &Client, question: ClarificationId) -> Result<(), Failure> {
    let question = question.to_string();
    let query = json!({"by": "bot", "channel": PEOPLE});
    let ask = async || Ok(slack.call::<Value>(Method::GET, &["sim", "messages"]).query(&query).await?);
    let ts = until(ask, |found| {
        let shows = |post: &&Value| {
            post["blocks"].as_array().is_some_and(|it| it.iter().any(|b| b["block_id"] == question.as_str()))
        };
        found["messages"].as_array()?.iter().find(shows).map(|post| at(post, "/ts"))
    })
    .await?;
    let body = json!({"channel": PEOPLE, "ts": ts, "action_id": "agentry_answer:0"});
    let call = slack.call::<Value>(Method::POST, &["sim", "clicks"]).query(&json!({"wait": true}));
    let delivery = call.json(&body).await?;
    if delivery["status"] == 200 {
        return Ok(());
    }
    Err(Failure::new(format!("a click in Slack was answered with {}", at(&delivery, "/status"))))
}

/// An answer in Slack.
pub struct MentionSummary {
    /// Time from the mention to the answer in its thread.
    pub took: Duration,
    /// Number of posts of the app in the thread.
    pub posts: usize,
}

/// Mentions the app in a channel. Slack delivers the mention three times; it must be answered once, in the thread.
pub async fn mention(slack: &Client) -> Result<MentionSummary, Failure> {
    let began = Instant::now();
    let body = json!({"text": "Where is order A-1042?", "mention": true, "channel": "C0SHOP", "copies": 3});
    let sent = slack.call::<Value>(Method::POST, &["sim", "events"]).json(&body).await?;
    let thread = json!({"by": "bot", "channel": "C0SHOP", "thread_ts": at(&sent, "/ts")});
    let messages = || slack.call::<Value>(Method::GET, &["sim", "messages"]).query(&thread);
    messages().query(&json!({"wait": 20})).await?;
    let took = began.elapsed();
    let posts = messages().await?["messages"].as_array().map_or(0, Vec::len);
    if posts != 1 {
        return Err(Failure::new(format!("a mention was answered {posts} times")));
    }
    Ok(MentionSummary { took, posts })
}

/// Creates a schedule with one slot per second.
pub async fn make_schedule(client: &Client) -> Result<(), Failure> {
    let schedule = ScheduleRequest {
        name: Some(SCHEDULE.to_owned()),
        agent: Some("health-check".to_owned()),
        interval_seconds: Some(1.0),
        input: Some("check all services".into()),
        ..ScheduleRequest::default()
    };
    client.create_schedule(&schedule).await?;
    Ok(())
}

/// Slots that fired.
pub struct SlotSummary {
    /// Their number.
    pub slots: usize,
    /// The longest time from the nominal time of a slot to the acceptance of its task.
    pub lateness: Duration,
    /// Their tasks.
    pub tasks: Vec<TaskView>,
}

/// Waits until the schedule has fired twice and its tasks have ended, then deletes it.
pub async fn slots_fired(client: &Client) -> Result<SlotSummary, Failure> {
    let query = TaskQuery { agent: Some("health-check".to_owned()), ..TaskQuery::default() };
    let slot = |task: &TaskView| match &task.source {
        TaskSource::Schedule { schedule, slot } if schedule == SCHEDULE => Some(*slot),
        _ => None,
    };
    let tasks = until(
        async || Ok(client.tasks(&query).all(100).await?),
        |mut tasks| {
            tasks.retain(|task| slot(task).is_some() && task.status.is_terminal());
            (tasks.len() >= SLOTS).then_some(tasks)
        },
    )
    .await?;
    client.delete_schedule(SCHEDULE).await?;
    tasks.iter().try_for_each(expect_completed)?;
    let slots = tasks.iter().filter_map(slot).collect::<BTreeSet<_>>().len();
    if slots != tasks.len() {
        return Err(Failure::new(format!("{} tasks came of {slots} slots", tasks.len())));
    }
    let late = |task: &TaskView| Some(task.created_at.since(slot(task)?));
    let lateness = tasks.iter().filter_map(late).max().unwrap_or_default();
    Ok(SlotSummary { slots, lateness, tasks })
}
