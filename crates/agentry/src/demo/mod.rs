//! `agentry demo`: real processes of this executable, real sockets, one task for every mode, and a kill -9.
//!
//! A simulator and a server are started on free ports over a temporary folder; everything else happens through the
//! server's HTTP API, as any user of it would. Whatever ends the demo ends its processes too.

mod crash;
mod deployment;
mod engine;
mod fleet;
mod report;
mod scenes;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli;
use crate::client::Client;
use crate::failure::Failure;
use crate::out;
use crate::render::{self, Format};
use deployment::DemoDeployment;
pub use deployment::LISTENING;
use engine::DemoEngine;
use report::Report;

/// Time for the whole demo; a stuck one is ended and says where it was.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs the demo.
///
/// # Errors
/// When any part of it does not do what it should.
pub async fn demo(args: &cli::Demo) -> Result<(), Failure> {
    let mut report = Report::new(args.output == Format::Table);
    let mut deployment = DemoDeployment::new(DemoEngine::find(args).await?)?;
    let shown = show(args, &mut deployment, &mut report).await;
    let ended = deployment.end().await;
    shown.and(ended)
}

async fn show(args: &cli::Demo, deployment: &mut DemoDeployment, report: &mut Report) -> Result<(), Failure> {
    let played = tokio::select! {
        played = tokio::time::timeout(DEADLINE, play(deployment, report)) => played
            .unwrap_or_else(|_| Err(Failure::new(format!("the demo did not end within {} s", DEADLINE.as_secs())))),
        signal = crate::serve::stop_signal() => signal.and(Err(Failure::new("the demo was interrupted"))),
    };
    if let Err(failure) = played {
        deployment.show_logs();
        return Err(failure);
    }
    if args.output != Format::Table {
        render::document(args.output, &report.summary())?;
    } else {
        report.next_steps()?;
    }
    if args.keep {
        keep(args, deployment).await?;
    }
    Ok(())
}

async fn keep(args: &cli::Demo, deployment: &DemoDeployment) -> Result<(), Failure> {
    if args.output == Format::Table {
        out::line(&format!("\n  {} stays up until Ctrl-C", deployment.url()))?;
    }
    crate::serve::stop_signal().await
}

/// The scenes in order. The schedule is made first, so that its slots come while the other scenes play.
async fn play(deployment: &mut DemoDeployment, report: &mut Report) -> Result<(), Failure> {
    let started = Instant::now();
    let client = deployment.start().await?;
    report.heading(deployment.engine(), deployment.url())?;
    let agents = scenes::all_healthy(&client).await?;
    report.healthy(agents, started.elapsed())?;
    scenes::make_schedule(&client).await?;
    report.task(&scenes::autonomous(&client).await?)?;
    report.task(&scenes::continuous(&client).await?)?;
    let (together, question) = scenes::collaborative(&client, &deployment.slack()?).await?;
    report.task(&together)?;
    report.clarification(&question)?;
    report.schedule(&scenes::slots_fired(&client).await?)?;
    report.slack(&scenes::mention(&deployment.slack()?).await?)?;
    let crash = crash::kill_and_recover(deployment, &client).await?;
    report.crash(&crash)
}

/// A task as the report needs it, from the API's view of it.
struct Played {
    agent: &'static str,
    mode: &'static str,
    /// What to print between the agent and the duration.
    story: String,
    status: String,
    duration: Duration,
    llm_calls: u64,
    cost_nanos: u64,
}

impl Played {
    /// The sum of these tasks, which must all have completed.
    fn of(agent: &'static str, mode: &'static str, story: String, tasks: &[Value]) -> Result<Self, Failure> {
        for task in tasks {
            expect_completed(task)?;
        }
        let sum = |pointer: &str| tasks.iter().filter_map(|task| task.pointer(pointer)?.as_u64()).sum();
        let millis: f64 = tasks.iter().filter_map(|task| task["duration_ms"].as_f64()).sum();
        Ok(Self {
            agent,
            mode,
            story,
            status: "completed".to_owned(),
            duration: Duration::from_secs_f64(millis.max(0.0) / 1_000.0),
            llm_calls: sum("/spent/llm_calls"),
            cost_nanos: sum("/spent/cost_nanos"),
        })
    }

    fn json(&self) -> Value {
        json!({
            "agent": self.agent,
            "mode": self.mode,
            "status": self.status,
            "duration_ms": self.duration.as_secs_f64() * 1_000.0,
            "llm_calls": self.llm_calls,
            "cost_usd": usd(self.cost_nanos),
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "for display; the ledger keeps integers")]
fn usd(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

fn expect_completed(task: &Value) -> Result<(), Failure> {
    if task["status"] == "completed" {
        return Ok(());
    }
    let (id, status) = (render::at(task, "/id"), render::at(task, "/status"));
    let error = render::at(task, "/error/message");
    Err(Failure::new(format!("task {id} of {} is {status}: {error}", render::at(task, "/agent"))))
}

/// Asks again until `done` says what it found; the demo's own deadline ends it.
async fn until<T, F>(mut ask: impl FnMut() -> F, done: impl Fn(Value) -> Option<T>) -> Result<T, Failure>
where
    F: Future<Output = Result<Value, Failure>>,
{
    /// Between two questions: short enough to measure a start of tens of milliseconds.
    const PAUSE: Duration = Duration::from_millis(5);
    loop {
        if let Some(found) = done(ask().await?) {
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Submits a task and waits for its end on the server's side.
async fn submit(client: &Client, body: &Value) -> Result<Value, Failure> {
    client.post(&["v1", "tasks"], &[("wait", "20".to_owned())], body).await
}

/// A task with its journal.
async fn with_journal(client: &Client, id: &str) -> Result<Value, Failure> {
    client.get(&["v1", "tasks", id], &[("journal", "true".to_owned())]).await
}

/// Entries of a journal of this kind.
fn entries<'t>(task: &'t Value, kind: &'t str) -> impl Iterator<Item = &'t Value> {
    task["journal"].as_array().into_iter().flatten().filter(move |entry| entry["body"]["kind"] == kind)
}
