//! Views over much data: a scrape, pages of the task list, the dashboard.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use agentry_lab::LabError;
use serde::Deserialize;

use super::experiment::{Experiment, of_quantile};
use super::loads::{LoadRow, Rate, Reading};
use super::state::RotatingCaller;
use super::tasks::{submit, submit_many};
use crate::load::get;
use crate::run::RunError;
use crate::stats::{RESAMPLES, bootstrap, median};
use crate::sut::{Api, Deployment, Llm, Plan, fleet};
use crate::verdict::Observation;

/// Agents of the fleet that is scraped, and those of them with traffic.
const FLEET: usize = 10_000;
const BUSY: usize = 200;
/// Longest wait for the end of submitted tasks.
const DRAIN: Duration = Duration::from_secs(240);
/// Rows of a page.
const ROWS: usize = 50;
/// Rows of the pages on the way to a deep one.
const STEP: usize = 1_000;
/// Deep pages that are asked for in turn.
const DEEP: usize = 20;
/// Agents that the dashboard shows, and fresh browser contexts that visit it.
const SHOWN: usize = 50;
const CONTEXTS: &str = "10";
/// Script that drives the browser; prints `{"paints": [milliseconds], "bytes": [count]}`.
const SCRIPT: &str = include_str!("first_paint.mjs");

/// A scrape comes to a server at rest.
const SCRAPE: LoadRow =
    LoadRow::new("views.scrape", Rate::Even(5.0), [2.0, 15.0, 30.0, 60.0]).target(50.0).decides(&[(
        "stretch/scrape-p95",
        Reading::Latency(0.95),
        "intended moment of a scrape to its last byte, 10,000 agents, 200 of them with traffic",
    )]);

/// Pages, asked for again and again: what is filtered by, and how many of a thousand tasks that leaves.
const PAGES: [(LoadRow, &str, usize); 7] = [
    (page("views.pages.first"), "", 1_000),
    (page("views.pages.agent_of_nearly_all"), "&agent=bench-noop", 998),
    (page("views.pages.agent_of_one_in_a_thousand"), "&agent=bench-rare", 1),
    (page("views.pages.completed_nearly_all"), "&status=completed", 999),
    (page("views.pages.failed_one_in_a_thousand"), "&status=failed", 1),
    (page("views.pages.failed_of_an_agent_without"), "&agent=bench-noop&status=failed", 0),
    (page("views.pages.queued_none"), "&status=queued", 0),
];

const fn page(name: &'static str) -> LoadRow {
    LoadRow::new(name, Rate::Callers(1), [1.0, 1.0, 5.0, 10.0])
}

/// Scrapes, pages, and first paints.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    scrape(x).await?;
    pages(x).await?;
    first_paint(x).await
}

async fn scrape(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let agents = fleet::mixed(FLEET);
    let busy: Vec<String> = agents.iter().take(BUSY).map(|(name, _)| name.clone()).collect();
    let deployment = x.deploy(Plan { agents, ..Plan::default() }).await?;
    let api = deployment.api()?;
    submit(api, busy.into_iter().map(|agent| (agent, "a task".to_owned())).collect()).await?;
    api.drained(DRAIN).await?;
    let scrapes =
        x.drive(&SCRAPE, &deployment, |host, _| RotatingCaller { requests: vec![get(host, "/metrics")] }).await?;
    let size = api.metrics_text().await.map_or(f64::NAN, |text| text.len() as f64 / 1e6);
    x.observe("stretch/scrape-size", Observation::exact(size, scrapes.seen.ok, "bytes of a scrape"));
    Ok(())
}

async fn pages(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let echo = |name: &str| fleet::agent_of(name, "autonomous", "simulated", "echo", "");
    let agents = vec![fleet::noop(), echo("bench-rare"), fleet::agent("bench-failing", "autonomous", "")];
    let deployment = x.deploy(Plan { agents, llm: Some(Llm::default()), ..Plan::default() }).await?;
    let thousands = x.by([5, 100, 1_000, 1_000]);
    fill(x, deployment.api()?, thousands).await?;
    let mut slowest: Option<Observation> = None;
    let mut take = |seen: Observation| {
        if slowest.as_ref().is_none_or(|slowest| seen.value > slowest.value) {
            slowest = Some(seen);
        }
    };
    for (row, filter, of_a_thousand) in PAGES {
        let path = format!("/v1/tasks?limit={ROWS}{filter}");
        let (rows, wanted) = (page_at(deployment.api()?, &path).await?.0, ROWS.min(of_a_thousand * thousands));
        if rows != wanted {
            return Err(LabError::Server(format!("{path} has {rows} rows instead of {wanted}")).into());
        }
        take(latency_of_pages(x, &row, &deployment, &[path]).await?);
    }
    let paths = deep(deployment.api()?, thousands / 10 * 9).await?;
    take(latency_of_pages(x, &page("views.pages.deep"), &deployment, &paths).await?);
    if let Some(slowest) = slowest {
        x.observe("stretch/pages-p95", slowest.remark(format!("{thousands},000 tasks")));
    }
    Ok(())
}

/// Submits tasks by the thousand, all of which end: one that fails, one of an agent that has little to do, no-op tasks.
async fn fill(x: &mut Experiment<'_>, api: &Api, thousands: usize) -> Result<(), RunError> {
    for thousand in 0..thousands {
        x.lab.progress.tick(&format!("{thousand},000 of {thousands},000 tasks"));
        submit(
            api,
            vec![("bench-rare".to_owned(), "a task".into()), ("bench-failing".to_owned(), "[[fail:400]]".into())],
        )
        .await?;
        submit_many(api, &fleet::noop().0, 998, "task").await?;
    }
    Ok(api.drained(DRAIN).await?)
}

/// Rows of a page, and where the next one begins.
async fn page_at(api: &Api, path: &str) -> Result<(usize, Option<String>), RunError> {
    let page = api.get(path).await?;
    let rows = page["items"].as_array().map_or(0, Vec::len);
    Ok((rows, page["next_cursor"].as_str().map(str::to_owned)))
}

/// Paths of pages so many thousand rows deep, by cursor.
async fn deep(api: &Api, thousands: usize) -> Result<Vec<String>, RunError> {
    let (mut cursor, mut paths) = (String::new(), Vec::new());
    for page in 0..thousands + DEEP {
        let size = if page < thousands { STEP } else { ROWS };
        let path = format!("/v1/tasks?limit={size}{cursor}");
        let Some(next) = page_at(api, &path).await?.1 else { break };
        cursor = format!("&cursor={next}");
        if page >= thousands {
            paths.push(path);
        }
    }
    Ok(paths)
}

async fn latency_of_pages(
    x: &mut Experiment<'_>,
    row: &LoadRow,
    deployment: &Deployment,
    paths: &[String],
) -> Result<Observation, RunError> {
    let caller = |host: &str, _| RotatingCaller { requests: paths.iter().map(|path| get(host, path)).collect() };
    let seen = x.drive(row, deployment, caller).await?.seen;
    let source = "one caller, intended start to the last byte; the slowest kind of page";
    Ok(of_quantile(&seen.latency, 0.95, source).shown_by(&[&format!("{}.latency", row.name)]))
}

/// Output of the script.
#[derive(Deserialize)]
struct Visits {
    /// Milliseconds from navigation to the first contentful paint.
    paints: Vec<f64>,
    /// Bytes as transferred, headers too.
    bytes: Vec<f64>,
}

/// The dashboard's first contentful paint in Chromium, where it and puppeteer-core are.
async fn first_paint(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let ids = ["stretch/paint", "stretch/paint-size"];
    let (chromium, modules) = match (chromium(), modules()) {
        (Some(chromium), Some(modules)) => (chromium, modules),
        _ => {
            x.not_run(&ids, "no Chromium, or no puppeteer-core: `cargo xtask browser` finds or installs them");
            return Ok(());
        }
    };
    let deployment = x.deploy(Plan { agents: fleet::mixed(SHOWN), ..Plan::default() }).await?;
    x.lab.progress.tick("the dashboard in a browser");
    let script = deployment.folder().join("first_paint.mjs");
    std::fs::write(&script, SCRIPT).map_err(LabError::file(&script))?;
    let mut command = tokio::process::Command::new("node");
    command.arg(&script).arg(format!("{}/", deployment.api()?.base())).args([chromium, modules]).arg(CONTEXTS);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let visits = match output {
        Ok(output) if output.status.success() => serde_json::from_slice::<Visits>(&output.stdout).ok(),
        _ => None,
    };
    let Some(visits) = visits else {
        x.not_run(&ids, "node and Chromium did not open the dashboard");
        return Ok(());
    };
    let kilobytes: Vec<f64> = visits.bytes.iter().map(|bytes| bytes / 1e3).collect();
    for (id, name, form, values) in
        [(ids[0], "views.paint", ("ms", "p50"), visits.paints), (ids[1], "views.paint.size", ("KB", "p50"), kilobytes)]
    {
        let (n, source) = (values.len() as u64, "/ on loopback, fresh browser contexts; median, bootstrap interval");
        x.cost(name, form, median(&values), n, source);
        let seen = Observation::exact(median(&values), n, source);
        x.observe(id, seen.ci(bootstrap(&values, RESAMPLES, x.lab.seed, median)).shown_by(&[name]));
    }
    Ok(())
}

fn chromium() -> Option<PathBuf> {
    named("AGENTRY_TEST_CHROMIUM", &["/usr/bin/chromium", "/usr/bin/google-chrome"])
}

/// The folder of Node's packages, with puppeteer-core in it: beside the build's output, as the test of the dashboard has it.
fn modules() -> Option<PathBuf> {
    let built = std::env::current_exe().ok()?.ancestors().nth(2)?.join("browser/node_modules");
    named("AGENTRY_TEST_NODE_MODULES", &[&built.to_string_lossy()]).filter(|path| path.join("puppeteer-core").is_dir())
}

/// A path from the environment, or where it usually is.
fn named(variable: &str, usual: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.into_iter().chain(usual.iter().map(|path| Path::new(path).to_owned())).find(|path| path.exists())
}
