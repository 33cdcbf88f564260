//! `/v1/overview`: the whole deployment in one small answer, and as a stream that says it at most once a second.
//!
//! However many people look, the store is read once a second and a bounded number of tasks is covered, so that watching
//! ten thousand agents costs what watching ten does.

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

use super::agents::Seen;
use crate::problem::{Answer, ProblemBody};
use crate::sse::overview_stream;
use crate::state::AppState;

/// How old an answer may be.
pub(crate) const FRESH: Duration = Duration::from_secs(1);
/// How far back rates look.
const WINDOW: Duration = Duration::from_secs(600);
/// Tasks that rates are taken from at most: when more came within the window, it is shorter.
const SAMPLE: usize = 5_000;
/// Bars of a sparkline.
const BARS: usize = 12;

/// What was found at one moment, for everybody who looks within a second.
pub(crate) struct Picture {
    taken: Instant,
    /// The answer.
    pub(crate) overview: Overview,
    /// What each agent did lately; those that did nothing are absent.
    pub(crate) agents: HashMap<AgentName, Activity>,
    /// How the agents are.
    pub(crate) seen: Seen,
}

/// The last picture. Whoever finds it too old takes the next one while the others wait for it.
#[derive(Default)]
pub(crate) struct Lately(tokio::sync::Mutex<Option<Arc<Picture>>>);

/// The picture of now, at most [`FRESH`] old.
pub(crate) async fn picture(state: &AppState) -> Answer<Arc<Picture>> {
    let mut last = state.lately.0.lock().await;
    if let Some(picture) = last.as_ref().filter(|picture| picture.taken.elapsed() < FRESH) {
        return Ok(Arc::clone(picture));
    }
    let picture = Arc::new(take(state).await?);
    *last = Some(Arc::clone(&picture));
    Ok(picture)
}

async fn take(state: &AppState) -> Answer<Picture> {
    let (store, now) = (state.store(), state.now());
    let since = Timestamp(now.0.saturating_sub(i64::try_from(WINDOW.as_micros()).unwrap_or(i64::MAX)));
    let (seen, counts, pulse, questions, letters, workers) = tokio::try_join!(
        Seen::read(state),
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
        *agents.entry(seen.state_of(name, entry)).or_insert(0) += 1;
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
        cost_usd_today: decimal_usd(seen.cost_today()),
        budget_usd_day: budget.map(decimal_usd),
        questions_open: questions,
        dead_letters_open: letters,
        workers_alive: workers.iter().filter(|worker| worker.is_alive(now)).count(),
        workers: workers.len(),
    };
    let agents = each.into_iter().map(|(name, tally)| (name, tally.finish(window))).collect();
    Ok(Picture { taken: Instant::now(), overview, agents, seen })
}

/// Counting tasks.
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

/// Shows the deployment at a glance
#[utoipa::path(
    get, path = "/v1/overview", tag = "overview",
    responses(
        (status = 200, description = "The deployment, at most a second old", body = Overview),
        (status = 503, description = "The store is unavailable", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>) -> Answer {
    Ok(axum::Json(&picture(&state).await?.overview).into_response())
}

/// Streams the deployment at a glance
///
/// Server-sent events `overview`, each with the whole answer, at most one a second and none when nothing changed.
#[utoipa::path(
    get, path = "/v1/overview/events", tag = "overview",
    responses(
        (status = 200, description = "The stream", body = String, content_type = "text/event-stream"),
        (status = 503, description = "Too many streams", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(State(state): State<AppState>) -> Answer {
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
