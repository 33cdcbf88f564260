//! `/v1/overview`: a summary of the whole deployment, also as a stream.
//!
//! For any number of callers the store is read at most once a second, for a bounded number of tasks, so that the cost does
//! not depend on the number of agents.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentry_api::{Activity, OpenTasks, Overview, decimal_usd};
use agentry_core::agent::AgentName;
use agentry_core::money::NanoUsd;
use agentry_core::task::TaskStatus;
use agentry_core::time::Timestamp;
use agentry_store::{MAX_PAGE, RecentTask};
use axum::extract::State;
use axum::response::IntoResponse;
use tokio::time::Instant;

use super::agents::FleetStatus;
use crate::problem::{ApiResult, ProblemBody};
use crate::sse::overview_stream;
use crate::state::AppState;

/// The largest age of a snapshot.
pub(crate) const FRESH: Duration = Duration::from_secs(1);
/// The window of rates.
const WINDOW: Duration = Duration::from_secs(600);
/// The most tasks that rates cover; with more, the window is shorter.
const SAMPLE: usize = 5_000;
/// Bars of a sparkline.
const BARS: usize = 12;

/// The state of the deployment at one time, shared by all callers within [`FRESH`].
pub(crate) struct OverviewSnapshot {
    taken: Instant,
    /// The reply.
    pub(crate) overview: Overview,
    /// The activity of each agent with tasks in the window.
    pub(crate) agents: HashMap<AgentName, Activity>,
    /// The status of the agents.
    pub(crate) fleet: FleetStatus,
}

/// The last snapshot. The first caller that finds it too old reads the next one while the others wait.
#[derive(Default)]
pub(crate) struct OverviewCache(tokio::sync::Mutex<Option<Arc<OverviewSnapshot>>>);

/// Returns a snapshot that is at most [`FRESH`] old.
pub(crate) async fn overview_snapshot(state: &AppState) -> ApiResult<Arc<OverviewSnapshot>> {
    let mut last = state.overview_cache.0.lock().await;
    if let Some(overview_snapshot) = last.as_ref().filter(|overview_snapshot| overview_snapshot.taken.elapsed() < FRESH)
    {
        return Ok(Arc::clone(overview_snapshot));
    }
    let overview_snapshot = Arc::new(read_snapshot(state).await?);
    *last = Some(Arc::clone(&overview_snapshot));
    Ok(overview_snapshot)
}

async fn read_snapshot(state: &AppState) -> ApiResult<OverviewSnapshot> {
    let (store, now) = (state.store(), state.now());
    let since = Timestamp(now.0.saturating_sub(i64::try_from(WINDOW.as_micros()).unwrap_or(i64::MAX)));
    let (status, counts, pulse, questions, letters, workers) = tokio::try_join!(
        FleetStatus::read(state),
        async { Ok(store.counts().await?) },
        async { Ok(store.recent_tasks(since, SAMPLE).await?) },
        async { Ok(store.clarifications(true, None, MAX_PAGE).await?.items.len()) },
        async { Ok(store.dead_letters(true, None, MAX_PAGE).await?.items.len()) },
        async { Ok(store.workers(now).await?) },
    )?;
    let covered = if pulse.len() < SAMPLE { since } else { pulse.last().map_or(since, |task| task.created_at) };
    let window = now.since(covered).max(Duration::from_millis(1));
    let mut all = Tally::default();
    let mut each: HashMap<AgentName, Tally> = HashMap::new();
    for task in &pulse {
        all.add(task, covered, window);
        each.entry(task.agent.clone()).or_default().add(task, covered, window);
    }
    let fleet = state.fleet();
    let mut agents = HashMap::new();
    let mut budget = None;
    for (name, entry) in fleet.iter() {
        *agents.entry(status.state_of(name, entry)).or_insert(0) += 1;
        let day = entry.spec.as_ref().filter(|spec| spec.enabled).and_then(|spec| spec.budget.per_day);
        if let Some(day) = day {
            budget = Some(budget.unwrap_or(NanoUsd(0)).plus(day));
        }
    }
    let overview = Overview {
        engine: state.deps.engine.into(),
        version: state.deps.version.into(),
        agents,
        tasks: OpenTasks { queued: counts.queued, running: counts.running, waiting: counts.waiting },
        window_seconds: window.as_secs_f64().round(),
        activity: all.finish(window),
        cost_usd_today: decimal_usd(status.cost_today()),
        budget_usd_day: budget.map(decimal_usd),
        questions_open: questions,
        dead_letters_open: letters,
        workers_alive: workers.iter().filter(|worker| worker.is_alive(now)).count(),
        workers: workers.len(),
    };
    let agents = each.into_iter().map(|(name, tally)| (name, tally.finish(window))).collect();
    Ok(OverviewSnapshot { taken: Instant::now(), overview, agents, fleet: status })
}

/// Counts tasks of a window.
#[derive(Default)]
struct Tally {
    activity: Activity,
    bars: [u32; BARS],
    took_us: Vec<u64>,
}

impl Tally {
    fn add(&mut self, task: &RecentTask, from: Timestamp, window: Duration) {
        let counted = &mut self.activity;
        counted.accepted += 1;
        counted.queued += u64::from(task.status == TaskStatus::Queued);
        counted.failed += u64::from(matches!(task.status, TaskStatus::Failed | TaskStatus::TimedOut));
        if let Some(end) = task.finished_at {
            counted.ended += 1;
            self.took_us.push(u64::try_from(end.since(task.created_at).as_micros()).unwrap_or(u64::MAX));
        }
        let at = task.created_at.since(from).as_micros() * BARS as u128 / window.as_micros().max(1);
        let bar = usize::try_from(at).unwrap_or(BARS).min(BARS - 1);
        self.bars[bar] += 1;
    }

    #[allow(clippy::cast_precision_loss, reason = "counts of a few thousand and microseconds of minutes are exact")]
    fn finish(mut self, window: Duration) -> Activity {
        self.took_us.sort_unstable();
        let rank = (self.took_us.len() * 95).div_ceil(100).saturating_sub(1);
        self.activity.p95_ms = self.took_us.get(rank).map(|us| *us as f64 / 1e3);
        self.activity.per_minute = self.activity.accepted as f64 * 60.0 / window.as_secs_f64();
        self.activity.spark = self.bars.to_vec();
        self.activity
    }
}

/// Returns the overview
#[utoipa::path(
    get, path = "/v1/overview", tag = "overview",
    responses(
        (status = 200, description = "The deployment, at most a second old", body = Overview),
        (status = 503, description = "The store is unavailable", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>) -> ApiResult {
    Ok(axum::Json(&overview_snapshot(&state).await?.overview).into_response())
}

/// Streams the overview
///
/// Server-sent events `overview`, each with the whole reply, on every change and at most one per second.
#[utoipa::path(
    get, path = "/v1/overview/events", tag = "overview",
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many streams", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(State(state): State<AppState>) -> ApiResult {
    let permit = state.stream_permit()?;
    Ok(overview_stream(&state, permit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_counts_rates_and_percentiles() {
        let window = Duration::from_secs(120);
        let mut tally = Tally::default();
        for n in 1..=20i64 {
            let created = Timestamp(n * 5_000_000);
            let ended = (n > 1).then(|| Timestamp(created.0 + n * 1_000));
            let status = match n {
                1 => TaskStatus::Queued,
                2 => TaskStatus::Failed,
                _ => TaskStatus::Completed,
            };
            let agent = AgentName::new("a").unwrap();
            tally.add(&RecentTask { agent, status, created_at: created, finished_at: ended }, Timestamp(0), window);
        }
        let seen = tally.finish(window);
        assert_eq!((seen.accepted, seen.ended, seen.failed, seen.queued), (20, 19, 1, 1));
        assert_eq!((seen.per_minute, seen.p95_ms), (10.0, Some(20.0)), "the 19th of 19");
        assert_eq!(seen.spark.iter().sum::<u32>(), 20);
        assert_eq!(seen.spark[0], 1, "the first ten seconds hold the task at 5 s");
    }
}
