//! `agentry demo`: processes of this executable, one task for every mode, and a kill -9.
//!
//! It starts simulators and a server on free ports, with data in a temporary folder, and uses the server through its HTTP
//! API only. Its processes end with it in every case.

mod crash;
mod deployment;
mod engine;
mod fleet;
mod report;
mod scenes;

use std::time::{Duration, Instant};

use agentry_api::{Client, TaskView};
use agentry_core::id::TaskId;
use agentry_core::money::NanoUsd;
use agentry_core::task::TaskStatus;
use serde_json::{Value, json};

use crate::cli;
use crate::failure::Failure;
use crate::out;
use crate::render::{self, OutputFormat, shown};
use deployment::DemoDeployment;
pub use deployment::LISTENING;
use engine::DemoEngine;
use report::DemoReport;

/// Deadline of the whole demo.
const DEADLINE: Duration = Duration::from_secs(30);

/// Runs the demo.
pub async fn demo(args: &cli::DemoArgs) -> Result<(), Failure> {
    let mut report = DemoReport::new(args.output == OutputFormat::Table);
    let mut deployment = DemoDeployment::new(DemoEngine::find(args).await?)?;
    let shown = show(args, &mut deployment, &mut report).await;
    let ended = deployment.end().await;
    shown.and(ended)
}

async fn show(args: &cli::DemoArgs, deployment: &mut DemoDeployment, report: &mut DemoReport) -> Result<(), Failure> {
    let played = tokio::select! {
        played = tokio::time::timeout(DEADLINE, play(deployment, report)) => played
            .unwrap_or_else(|_| Err(Failure::new(format!("the demo did not end within {} s", DEADLINE.as_secs())))),
        signal = crate::serve::stop_signal() => signal.and(Err(Failure::new("the demo was interrupted"))),
    };
    if let Err(failure) = played {
        deployment.show_logs();
        return Err(failure);
    }
    if args.output != OutputFormat::Table {
        render::document(args.output, &report.summary())?;
    } else {
        report.next_steps()?;
    }
    if args.keep {
        keep(args, deployment).await?;
    }
    Ok(())
}

async fn keep(args: &cli::DemoArgs, deployment: &DemoDeployment) -> Result<(), Failure> {
    if args.output == OutputFormat::Table {
        out::line(&format!("\n  {} stays up until Ctrl-C", deployment.url()))?;
    }
    crate::serve::stop_signal().await
}

/// Plays the scenes in order. The schedule is created first, so that its slots fire during the other scenes.
async fn play(deployment: &mut DemoDeployment, report: &mut DemoReport) -> Result<(), Failure> {
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

/// Tasks of one agent, as a line of the report.
struct TaskSummary {
    agent: &'static str,
    mode: &'static str,
    /// The text between agent and duration.
    story: String,
    duration: Duration,
    llm_calls: u32,
    cost: NanoUsd,
}

impl TaskSummary {
    /// Sums up tasks, which must all have completed.
    fn of(agent: &'static str, mode: &'static str, story: String, tasks: &[TaskView]) -> Result<Self, Failure> {
        tasks.iter().try_for_each(expect_completed)?;
        let millis: f64 = tasks.iter().filter_map(|task| task.duration_ms).sum();
        Ok(Self {
            agent,
            mode,
            story,
            duration: Duration::from_secs_f64(millis.max(0.0) / 1_000.0),
            llm_calls: tasks.iter().map(|task| task.spent.llm_calls).sum(),
            cost: tasks.iter().fold(NanoUsd(0), |sum, task| sum.plus(task.spent.cost_nanos)),
        })
    }

    fn json(&self) -> Value {
        #[allow(clippy::cast_precision_loss, reason = "for display; the ledger keeps integers")]
        let cost_usd = self.cost.0 as f64 / 1e9;
        json!({
            "agent": self.agent,
            "mode": self.mode,
            "status": TaskStatus::Completed,
            "duration_ms": self.duration.as_secs_f64() * 1_000.0,
            "llm_calls": self.llm_calls,
            "cost_usd": cost_usd,
        })
    }
}

fn expect_completed(task: &TaskView) -> Result<(), Failure> {
    if task.status == TaskStatus::Completed {
        return Ok(());
    }
    let error = shown(&task.error.as_ref().map(|error| &error.message));
    Err(Failure::new(format!("task {} of {} is {}: {error}", task.id, task.agent, task.status)))
}

/// Repeats a request until `done` returns a result; the deadline of the demo ends it.
async fn until<A, T>(ask: impl AsyncFn() -> Result<A, Failure>, done: impl Fn(A) -> Option<T>) -> Result<T, Failure> {
    /// Interval of requests: short enough to measure a start of tens of milliseconds.
    const PAUSE: Duration = Duration::from_millis(5);
    loop {
        if let Some(found) = done(ask().await?) {
            return Ok(found);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until a task has ended.
async fn until_ended(client: &Client, id: TaskId) -> Result<(), Failure> {
    until(async || Ok(client.task(id).await?.task.status), |status| status.is_terminal().then_some(())).await
}
