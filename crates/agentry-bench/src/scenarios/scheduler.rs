//! 6.2 Scheduler: every slot of a window fires exactly once, never early and not a second late, also across a restart.
//!
//! The witness is the task that each slot brings: it carries the nominal moment, and when it was accepted and begun.

use std::time::Duration;

use serde_json::Value;

use super::Found;
use super::figures::{cost, latencies, metric};
use super::observe::Observation;
use crate::check::{Slot, SlotReport, check_slots};
use crate::load::{clock, histogram};
use crate::model::{Axis, Engine, Invariant, Mark, Plot, PlotKind, Series, Stage, Test, Window};
use crate::run::{Lab, RunError};
use crate::sut::{Deployment, Member, Plan, fleet};

/// Intervals of the schedules, in seconds; they come in turn.
const INTERVALS: [i64; 5] = [1, 2, 3, 5, 10];
const SCHEDULES: usize = 40;
/// Schedules on one second, for the stretch row.
const MANY: usize = 1_000;
/// After the window: time for the last slots to have ended.
const AFTER: Duration = Duration::from_secs(3);
const MICROS: i64 = 1_000_000;

/// Runs a window with a restart, then a thousand schedules on one second.
///
/// # Errors
/// When the platform does not start.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let mut test =
        lab.test("6.2-scheduler", "40 schedules of 1 to 10 s, one restart of a scheduler across slots", "instant");
    let mut seen = Vec::new();
    if lab.url.is_some() {
        let why = "needs schedules and processes of its own: leave out --url";
        seen.extend(["6.2/drift", "6.2/missed", "6.2/duplicates"].map(|id| Observation::not_run(id, why)));
        return Ok(Found { tests: vec![test], seen });
    }
    window(lab, &mut test, &mut seen).await?;
    many(lab, &mut test, &mut seen).await?;
    test.notes.push(
        "400 days over six time zones on a virtual clock are properties of the schedule arithmetic and are tested beside it, \
         not from outside a process"
            .to_owned(),
    );
    Ok(Found { tests: vec![test], seen })
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

async fn window(lab: &mut Lab, test: &mut Test, seen: &mut Vec<Observation>) -> Result<(), RunError> {
    let intervals: Vec<i64> = (0..SCHEDULES).map(|number| INTERVALS[number % INTERVALS.len()]).collect();
    let agents = intervals.iter().enumerate().map(|(number, seconds)| agent(number, *seconds)).collect();
    let mut deployment = lab.deploy(Plan { agents, members: members(), ..Plan::default() }).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (began, from) = (clock::now(), clock::wall_micros());
    let length = lab.seconds(10.0, 25.0, 720.0, 86_400.0);
    lab.progress.tick("slots before the restart");
    tokio::time::sleep(length / 2).await;
    // The restart: embedded the only process, else one of two schedulers.
    let victim = if lab.engine == Engine::Embedded { "agentry" } else { "scheduler-1" };
    let stopped = clock::now();
    deployment.kill(victim)?;
    deployment.start_again(victim).await?;
    let outage = (clock::now() - stopped) as f64 / 1e9;
    lab.progress.tick("slots after the restart");
    tokio::time::sleep(length / 2).await;
    let to = clock::wall_micros();
    test.windows.push(Window { stage: Stage::Measure, t0: lab.time(began), t1: lab.now() });
    tokio::time::sleep(AFTER).await;
    let fired = fired(&deployment, from, to).await?;
    let report = check_slots(&expected(&intervals, from, to), &fired);
    let n = report.expected;
    let mut lateness = histogram();
    let mut undisturbed = Vec::new();
    for (nominal, late) in &report.lateness {
        lateness.saturating_record(((late * 1_000.0).max(1.0)) as u64);
        // Slots of the outage of the only process wait for it: they are late by what was done to it.
        let since = (nominal - from) as f64 / 1e6 - (stopped - began) as f64 / 1e9;
        if lab.engine == Engine::Cluster || !(-1.0..outage + 1.0).contains(&since) {
            undisturbed.push([lab.time(began) + (nominal - from) as f64 / 1e6, *late]);
        }
    }
    test.metrics.extend(latencies(
        "schedule.lateness",
        &lateness,
        "start of the handler minus the nominal moment, microseconds of the platform",
    ));
    test.metrics.push(metric(
        "schedule.restart",
        "s",
        "max",
        outage,
        1,
        "kill -9 of a scheduler to its new process listening",
    ));
    for (name, count) in [
        ("missed", report.missed),
        ("duplicated", report.duplicated),
        ("early", report.early),
        ("strange", report.strange),
    ] {
        test.metrics.push(cost(
            &format!("schedule.{name}"),
            "count",
            "count",
            count as f64,
            n,
            "tasks of slots against the slots that there are",
        ));
    }
    judge(lab, test, &report, undisturbed, seen);
    Ok(())
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

fn judge(lab: &mut Lab, test: &mut Test, report: &SlotReport, late: Vec<[f64; 2]>, seen: &mut Vec<Observation>) {
    let n = report.expected;
    let worst = late.iter().map(|point| point[1]).fold(0.0, f64::max);
    let source = "start of the handler minus the nominal moment, the latest slot outside the restart";
    let mut drift =
        Observation::new("6.2/drift", worst, late.len() as u64, source).shown_by(&["schedule.lateness", "lateness"]);
    if report.early > 0 {
        drift = drift.remark(format!("{} slots were early, which is a violation", report.early));
        drift.value = Some(f64::MAX);
    }
    seen.push(drift);
    let source = "tasks of slots against every slot of the window, across a kill -9 of a scheduler";
    seen.push(Observation::new("6.2/missed", report.missed as f64, n, source));
    seen.push(Observation::new("6.2/duplicates", report.duplicated as f64, n, source));
    if let Some(trend) = crate::stats::theil_sen(&late, lab.seed) {
        let hourly = |slope: f64| slope * 3_600.0;
        let observed = Observation::new(
            "6.2/drift-slope",
            hourly(trend.slope),
            late.len() as u64,
            "Theil–Sen of lateness over time",
        );
        seen.push(observed.ci(Some([hourly(trend.ci95[0]), hourly(trend.ci95[1])])));
    }
    if lab.engine == Engine::Cluster {
        let both = (report.missed + report.duplicated) as f64;
        seen.push(Observation::new("stretch/slots", both, n, source).remark("two schedulers, one of them killed"));
    }
    lab.safety.push(Invariant {
        invariant: "I4".to_owned(),
        text: "a slot fires exactly once, never early".to_owned(),
        test: test.id.clone(),
        valid: Some(report.missed + report.duplicated + report.early + report.strange == 0),
        counts: [
            ("expected", n),
            ("missed", report.missed),
            ("duplicated", report.duplicated),
            ("early", report.early),
        ]
        .map(|(key, count)| (key.to_owned(), count))
        .into(),
        examples: report.examples.clone(),
    });
    test.plots.push(Plot {
        id: "lateness".to_owned(),
        title: "Lateness of every slot".to_owned(),
        kind: PlotKind::Scatter,
        x: Axis::time(),
        y: Axis::new("lateness", "ms"),
        series: vec![Series::measured("slots", late)],
        bands: Vec::new(),
        marks: vec![Mark { label: "1 s".to_owned(), y: 1_000.0 }],
        summary: format!("{} slots, the latest by {worst:.1} ms", report.fired),
    });
}

/// A thousand schedules of five seconds: all of them fall on the same second.
async fn many(lab: &mut Lab, test: &mut Test, seen: &mut Vec<Observation>) -> Result<(), RunError> {
    const SECONDS: i64 = 5;
    let agents = (0..MANY).map(|number| agent(number, SECONDS)).collect();
    let deployment = lab.deploy(Plan { agents, members: members(), ..Plan::default() }).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let from = clock::wall_micros();
    lab.progress.tick("1,000 schedules on one second");
    tokio::time::sleep(lab.seconds(5.0, 10.0, 60.0, 120.0)).await;
    let to = clock::wall_micros();
    tokio::time::sleep(AFTER).await;
    let fired = fired(&deployment, from, to).await?;
    let report = check_slots(&expected(&[SECONDS; MANY], from, to), &fired);
    let mut lateness = histogram();
    for (_, late) in &report.lateness {
        lateness.saturating_record(((late * 1_000.0).max(1.0)) as u64);
    }
    test.metrics.extend(latencies(
        "schedule.lateness.1000",
        &lateness,
        "start of the handler minus the nominal moment",
    ));
    test.metrics.push(cost(
        "schedule.missed.1000",
        "count",
        "count",
        report.missed as f64,
        report.expected,
        "slots without a task",
    ));
    let id = match lab.engine {
        Engine::Embedded => "stretch/lateness-embedded",
        Engine::Cluster => "stretch/lateness-cluster",
    };
    let p99 = lateness.value_at_quantile(0.99) as f64 / 1_000.0;
    let source = "p99 of lateness, 1,000 schedules on one second";
    seen.push(Observation::new(id, p99, lateness.len(), source).ci(super::figures::quantile_ci(&lateness, 0.99)));
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
