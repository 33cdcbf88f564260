//! 6.2 Scheduler: every slot of a window fires exactly once, never early and not a second late, also across a restart.
//!
//! The witness is the task that each slot brings: it carries the nominal moment, and when it was accepted and begun.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::cpu::{at_rest, observation};
use super::experiment::{Experiment, of_quantile};
use crate::check::{Slot, SlotReport, check_slots};
use crate::load::clock;
use crate::model::{Axis, Engine, Plot, PlotKind, Point, Series};
use crate::run::RunError;
use crate::stats::{Hist, histogram, theil_sen};
use crate::sut::{Api, Deployment, Member, Plan, fleet};
use crate::verdict::Observation;

/// Intervals of the schedules, in seconds; they come in turn.
const INTERVALS: [i64; 5] = [1, 2, 3, 5, 10];
const SCHEDULES: usize = 40;
/// Schedules on one second, for the stretch row.
const MANY: usize = 1_000;
/// Schedules at rest, for another one.
const RESTING: usize = 100_000;
/// After the window: time for the last slots to have ended.
const AFTER: Duration = Duration::from_secs(3);
const MICROS: i64 = 1_000_000;

/// Runs a window with a restart, then a thousand schedules on one second, then many at rest.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    window(x).await?;
    many(x).await?;
    if x.by([false, false, true, true]) {
        resting(x).await?;
    }
    x.note(
        "400 days over six time zones on a virtual clock are properties of the schedule arithmetic and are tested beside it, \
         not from outside a process",
    );
    Ok(())
}

fn agent(number: usize, seconds: i64) -> fleet::AgentFile {
    let more = format!(
        "schedule_config: {{type: interval, interval_seconds: {seconds}, task_data: {{say: tick}}, overlap: allow_all, \
         catchup_window_seconds: 3600}}\n"
    );
    fleet::agent_of(&format!("bench-tick-{number:04}"), "scheduled", "simulated", "echo", &more)
}

fn members() -> Vec<Member> {
    vec![
        Member::new("api", "api", ""),
        Member::new("scheduler-1", "scheduler", ""),
        Member::new("scheduler-2", "scheduler", ""),
        Member::new("worker-1", "worker", ""),
    ]
}

async fn window(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let intervals: Vec<i64> = (0..SCHEDULES).map(|number| INTERVALS[number % INTERVALS.len()]).collect();
    let agents = intervals.iter().enumerate().map(|(number, seconds)| agent(number, *seconds)).collect();
    let mut deployment = x.deploy(Plan { agents, members: members(), ..Plan::default() }).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (began, from) = (clock::now(), clock::wall_micros());
    let length = x.seconds([10.0, 25.0, 720.0, 86_400.0]);
    x.lab.progress.tick("slots before the restart");
    tokio::time::sleep(length / 2).await;
    // The restart: embedded the only process, else one of two schedulers.
    let victim = if x.lab.engine == Engine::Embedded { "agentry" } else { "scheduler-1" };
    let stopped = clock::now();
    deployment.lab.kill(victim)?;
    deployment.start_again(victim).await?;
    let outage = (clock::now() - stopped) as f64 / 1e9;
    x.lab.progress.tick("slots after the restart");
    tokio::time::sleep(length / 2).await;
    let to = clock::wall_micros();
    x.measured_since(began);
    tokio::time::sleep(AFTER).await;
    let fired = fired(&deployment, from, to).await?;
    let report = check_slots(&expected(&intervals, from, to), &fired);
    // Slots of the outage of the only process wait for it: they are late by what was done to it.
    let before = (stopped - began) as f64 / 1e9;
    let is_disturbed = |nominal: i64| {
        x.lab.engine == Engine::Embedded && (-1.0..outage + 1.0).contains(&((nominal - from) as f64 / 1e6 - before))
    };
    let undisturbed = report.lateness.iter().filter(|(nominal, _)| !is_disturbed(*nominal));
    let at = |nominal: i64| x.lab.time(began) + (nominal - from) as f64 / 1e6;
    let late: Vec<Point> = undisturbed.map(|(nominal, late)| [at(*nominal), *late]).collect();
    let source = "start of the handler minus the nominal moment, microseconds of the platform";
    x.latencies("schedule.lateness", &lateness(&report), source);
    x.figure("schedule.restart", ("s", "max"), outage, 1, "kill -9 of a scheduler to its new process listening");
    judge(x, &report, late);
    Ok(())
}

/// Collects the lateness of each slot's first firing, in microseconds.
fn lateness(report: &SlotReport) -> Hist {
    let mut lateness = histogram();
    report.lateness.iter().for_each(|(_, late)| lateness.saturating_record(((late * 1_000.0).max(1.0)) as u64));
    lateness
}

/// Slots of intervals that are anchored to the clock, after one moment and up to another.
fn expected(intervals: &[i64], from: i64, to: i64) -> Vec<(String, i64)> {
    let mut all = Vec::new();
    for (number, seconds) in intervals.iter().enumerate() {
        let step = seconds * MICROS;
        let mut at = (from / step + 1) * step;
        while at <= to {
            all.push((format!("bench-tick-{number:04}"), at));
            at += step;
        }
    }
    all
}

/// Tasks of slots of a window.
async fn fired(deployment: &Deployment, from: i64, to: i64) -> Result<Vec<Slot>, RunError> {
    let tasks = deployment.api()?.all("/v1/tasks?mode=scheduled").await?;
    let slot = |task: &Value| {
        let source =
            task["source"].as_object().filter(|source| source.get("kind").is_some_and(|kind| kind == "schedule"))?;
        let nominal = micros(source.get("slot")?)?;
        let started = micros(&task["started_at"])?;
        (from < nominal && nominal <= to).then(|| Slot {
            schedule: task["agent"].as_str().unwrap_or_default().to_owned(),
            nominal,
            started,
        })
    };
    Ok(tasks.iter().filter_map(slot).collect())
}

/// A moment of the API, in microseconds since the Unix epoch.
fn micros(text: &Value) -> Option<i64> {
    let stamp: jiff::Timestamp = text.as_str()?.parse().ok()?;
    Some(stamp.as_microsecond())
}

fn judge(x: &mut Experiment<'_>, report: &SlotReport, late: Vec<Point>) {
    let n = report.expected;
    let wrong = [("missed", report.missed), ("duplicated", report.duplicated), ("early", report.early)];
    x.counts("schedule", &wrong, n, "tasks of slots against the slots that there are");
    x.counts("schedule", &[("strange", report.strange)], n, "tasks of slots against the slots that there are");
    let worst = late.iter().map(|point| point[1]).fold(0.0, f64::max);
    let source = "start of the handler minus the nominal moment, the latest slot outside the restart";
    let mut drift = Observation::exact(worst, late.len() as u64, source).shown_by(&["schedule.lateness", "lateness"]);
    if report.early > 0 {
        drift = drift.remark(format!("{} slots were early, which is a violation", report.early));
        drift.value = Some(f64::MAX);
    }
    x.observe("6.2/drift", drift);
    let source = "tasks of slots against every slot of the window, across a kill -9 of a scheduler";
    x.observe("6.2/missed", Observation::exact(report.missed as f64, n, source));
    x.observe("6.2/duplicates", Observation::exact(report.duplicated as f64, n, source));
    if let Some(trend) = theil_sen(&late, x.lab.seed) {
        let hourly = |slope: f64| slope * 3_600.0;
        let (value, bounds) = (hourly(trend.slope), trend.ci95.map(hourly));
        x.observe(
            "6.2/drift-slope",
            Observation::new(value, bounds, late.len() as u64, "Theil–Sen of lateness over time"),
        );
    }
    let both = Observation::exact((report.missed + report.duplicated) as f64, n, source);
    x.observe("stretch/slots", both.remark("two schedulers, one of them killed"));
    let broken = report.missed + report.duplicated + report.early + report.strange;
    let counts = [("expected", n), wrong[0], wrong[1], wrong[2]];
    x.invariant("I4", "a slot fires exactly once, never early", broken, &counts, report.examples.clone());
    let plot = Plot::new(
        "lateness",
        "Lateness of every slot",
        PlotKind::Scatter,
        (Axis::time(), Axis::new("lateness", "ms")),
        vec![Series::measured("slots", late)],
        format!("{} slots, the latest by {worst:.1} ms", report.fired),
    );
    x.plot(plot.mark("1 s", 1_000.0));
}

/// A thousand schedules of five seconds: all of them fall on the same second.
async fn many(x: &mut Experiment<'_>) -> Result<(), RunError> {
    const SECONDS: i64 = 5;
    let agents = (0..MANY).map(|number| agent(number, SECONDS)).collect();
    let deployment = x.deploy(Plan { agents, members: members(), ..Plan::default() }).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let from = clock::wall_micros();
    x.lab.progress.tick("1,000 schedules on one second");
    tokio::time::sleep(x.seconds([5.0, 10.0, 60.0, 120.0])).await;
    let to = clock::wall_micros();
    tokio::time::sleep(AFTER).await;
    let fired = fired(&deployment, from, to).await?;
    let report = check_slots(&expected(&[SECONDS; MANY], from, to), &fired);
    let late = lateness(&report);
    x.latencies("schedule.lateness.1000", &late, "start of the handler minus the nominal moment");
    x.counts("schedule", &[("missed.1000", report.missed)], report.expected, "slots without a task");
    let seen = of_quantile(&late, 0.99, "p99 of lateness, 1,000 schedules on one second");
    x.observe_each(&["stretch/lateness-embedded", "stretch/lateness-cluster"], &seen);
    Ok(())
}

/// A hundred thousand schedules, of which about seventy are due in a minute.
async fn resting(x: &mut Experiment<'_>) -> Result<(), RunError> {
    /// Requests under way at once.
    const MAKERS: usize = 32;
    let deployment = x.deploy(Plan { agents: vec![fleet::noop()], members: members(), ..Plan::default() }).await?;
    x.lab.progress.tick("making 100,000 schedules");
    let api = deployment.api()?;
    let made = futures_util::stream::iter(0..RESTING).map(|number| make_daily(api, number));
    made.buffer_unordered(MAKERS).try_for_each(|()| std::future::ready(Ok(()))).await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    x.lab.progress.tick("100,000 schedules at rest");
    let shares = at_rest(x, "schedule.rest", [0.0, 0.0, 60.0, 300.0]).await;
    let source = "schedstat of every thread of the platform, share of one processor, 100,000 daily schedules";
    x.observe("stretch/idle-schedules", observation(&shares, 100.0, source).shown_by(&["schedule.rest"]));
    let pss = deployment.pss() as f64 / 1e6;
    x.cost("schedule.rest.pss", ("MB", "mean"), pss, RESTING as u64, "smaps_rollup");
    Ok(())
}

/// Makes a daily schedule at a minute of its own: most expressions are shared by many.
async fn make_daily(api: &Api, number: usize) -> Result<(), RunError> {
    let zone = ["UTC", "Europe/Berlin", "America/New_York"][number % 3];
    let cron = format!("{} {} * * *", number % 60, number / 60 % 24);
    let agent = fleet::noop().0;
    let schedule =
        json!({"name": format!("s{number}"), "agent": agent, "cron": cron, "timezone": zone, "input": "daily"});
    api.post("/v1/schedules", &schedule).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_anchored_to_the_clock() {
        let all = expected(&[1, 5], 12 * MICROS + 1, 20 * MICROS);
        let of =
            |name: &str| all.iter().filter(|(agent, _)| agent == name).map(|(_, at)| at / MICROS).collect::<Vec<_>>();
        assert_eq!(of("bench-tick-0000"), [13, 14, 15, 16, 17, 18, 19, 20]);
        assert_eq!(of("bench-tick-0001"), [15, 20]);
    }
}
