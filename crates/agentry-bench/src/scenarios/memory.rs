//! 4.1 Memory: Pss of the platform's processes over the number of agents, settled; and over time.

use std::time::Duration;

use super::Found;
use super::figures::{cost, metric};
use super::observe::Observation;
use crate::load::clock;
use crate::model::{Axis, Plot, PlotKind, Role, Series, Stage, Test, Window};
use crate::run::{Lab, RunError};
use crate::sut::{Member, Plan, fleet};

/// Bytes of a megabyte, as the seed counts them.
const MB: f64 = 1e6;

/// Starts the platform with growing fleets and looks at its memory.
///
/// # Errors
/// When it does not start.
pub async fn run(lab: &mut Lab) -> Result<Found, RunError> {
    let mut test = lab.test("4.1-memory", "Pss over the number of agents, idle, settled", "none");
    if lab.url.is_some() {
        let why = "needs processes of its own: leave out --url";
        let seen = ["4.1/per-agent", "4.1/per-agent-30", "stretch/agent-kib"].map(|id| Observation::not_run(id, why));
        return Ok(Found { tests: vec![test], seen: seen.to_vec() });
    }
    let settle = lab.seconds(0.5, 2.0, 10.0, 10.0);
    // Ten agents more or less drown in the noise of an allocator: the large fleet makes the slope exact.
    let sizes: &[usize] =
        lab.by(&[1, 10, 20, 30, 500], &[1, 10, 20, 30, 1_000], &[1, 10, 20, 30, 1_000], &[1, 10, 20, 30, 1_000]);
    let reps = lab.by(1, 2, 5, 5);
    let began = clock::now();
    let mut points: Vec<[f64; 2]> = Vec::new();
    for size in sizes {
        for _ in 0..reps {
            lab.progress.tick(&format!("{size} agents"));
            points.push([*size as f64, pss(lab, *size, settle).await? as f64]);
        }
    }
    test.windows.push(Window { stage: Stage::Measure, t0: lab.time(began), t1: lab.now() });
    let seen = report(lab, &mut test, &points);
    Ok(Found { tests: vec![test], seen })
}

async fn pss(lab: &mut Lab, size: usize, settle: Duration) -> Result<u64, RunError> {
    let plan = Plan { agents: fleet::mixed(size), members: vec![Member::new("api", "", "")], ..Plan::default() };
    let deployment = lab.deploy(plan).await?;
    tokio::time::sleep(settle).await;
    Ok(deployment.pss())
}

/// Slope, its standard error and the constant of a line, by least squares.
fn line(points: &[[f64; 2]]) -> Option<(f64, f64, f64)> {
    let n = points.len() as f64;
    if points.len() < 3 {
        return None;
    }
    let mean = |axis: usize| points.iter().map(|point| point[axis]).sum::<f64>() / n;
    let (x, y) = (mean(0), mean(1));
    let spread: f64 = points.iter().map(|point| (point[0] - x).powi(2)).sum();
    let both: f64 = points.iter().map(|point| (point[0] - x) * (point[1] - y)).sum();
    if spread == 0.0 {
        return None;
    }
    let slope = both / spread;
    let constant = y - slope * x;
    let residuals: f64 = points.iter().map(|point| (point[1] - constant - slope * point[0]).powi(2)).sum();
    Some((slope, (residuals / (n - 2.0) / spread).sqrt(), constant))
}

fn report(lab: &Lab, test: &mut Test, points: &[[f64; 2]]) -> Vec<Observation> {
    let n = points.len() as u64;
    let source = "least squares of Pss (smaps_rollup, all processes of the platform) over agents; 95 % of the slope";
    let Some((slope, error, constant)) = line(points) else {
        return vec![Observation::not_run("4.1/per-agent", "too few points for a slope")];
    };
    // Student's t for the few degrees of freedom that there are.
    let t = match n {
        0..=5 => 3.18,
        6..=12 => 2.31,
        _ => 2.05,
    };
    let ci = |unit: f64| Some([(slope - t * error) / unit, (slope + t * error) / unit]);
    test.metrics.push(cost("memory.per_agent", "MB", "slope", slope / MB, n, source));
    test.metrics.push(cost("memory.base", "MB", "mean", constant / MB, n, "the same line at no agents"));
    for point in points {
        let name = format!("memory.pss.{:.0}", point[0]);
        test.metrics.push(metric(&name, "MB", "mean", point[1] / MB, 1, "smaps_rollup, settled"));
    }
    test.plots.push(plot(points, slope, constant));
    let of = |id, unit: f64| {
        Observation::new(id, slope / unit, n, source).ci(ci(unit)).shown_by(&["memory.per_agent", "memory"])
    };
    let stalls = "the platform tells no executor stalls: a heartbeat task per runtime in /metrics would show them";
    let mut seen = vec![
        of("4.1/per-agent", MB),
        of("4.1/per-agent-30", MB),
        of("stretch/agent-kib", 1_024.0),
        Observation::not_run("4.1/gc", stalls),
    ];
    if lab.by(true, true, true, false) {
        seen.push(Observation::not_run("4.1/leak", "24 hours need --profile full"));
    }
    seen
}

fn plot(points: &[[f64; 2]], slope: f64, constant: f64) -> Plot {
    let mb = |point: &[f64; 2]| [point[0], point[1] / MB];
    let fitted = |x: f64| (constant + slope * x) / MB;
    let last = points.iter().map(|point| point[0]).fold(0.0, f64::max);
    let of = |name: &str, role, points| Series { role, ..Series::measured(name, points) };
    Plot {
        id: "memory".to_owned(),
        title: "Memory over the number of agents".to_owned(),
        kind: PlotKind::Scatter,
        x: Axis::new("agents", ""),
        y: Axis::new("Pss", "MB"),
        series: vec![
            of("measured", Role::Measured, points.iter().map(mb).collect()),
            of("line", Role::Fit, vec![[0.0, fitted(0.0)], [last, fitted(last)]]),
            of(
                "residual",
                Role::Residual,
                points.iter().map(|point| [point[0], point[1] / MB - fitted(point[0])]).collect(),
            ),
        ],
        bands: Vec::new(),
        marks: Vec::new(),
        summary: format!("{:.1} KiB for each agent over {:.1} MB", slope / 1_024.0, constant / MB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_with_its_error() {
        let exact: Vec<[f64; 2]> = (1..=5).map(|n| [f64::from(n), 7.0 + 3.0 * f64::from(n)]).collect();
        let (slope, error, constant) = line(&exact).unwrap();
        assert!((slope - 3.0).abs() < 1e-9 && error < 1e-6 && (constant - 7.0).abs() < 1e-9);
        assert!(line(&exact[..2]).is_none() && line(&[[1.0, 1.0]; 5]).is_none());
    }
}
