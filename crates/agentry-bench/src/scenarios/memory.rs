//! 4.1 Memory: Pss of the platform's processes over the number of agents, settled.

use std::time::Duration;

use super::experiment::Experiment;
use super::stalls::Stalls;
use crate::load::clock;
use crate::model::{Axis, Plot, PlotKind, Point, Role, Series};
use crate::run::RunError;
use crate::stats::{Line, line};
use crate::sut::{Member, Plan, fleet};
use crate::verdict::Observation;

/// Bytes of a megabyte, as the seed counts them.
const MB: f64 = 1e6;
const SOURCE: &str =
    "least squares of Pss (smaps_rollup, all processes of the platform) over agents; 95 % of the slope";

const SIZES: &[usize] = &[1, 10, 20, 30, 1_000];
/// The process itself grows with its first two thousand agents (buffers of the loader, pages that the allocator keeps): the
/// slope beyond them is what an agent takes.
const FLEETS: &[usize] = &[2_000, 5_000, 10_000];

/// Starts the platform with growing fleets and looks at its memory.
pub(super) async fn run(x: &mut Experiment<'_>) -> Result<(), RunError> {
    let settle = x.seconds([0.5, 6.0, 10.0, 10.0]);
    let (began, mut stalls) = (clock::now(), Stalls::default());
    // Ten agents more or less drown in the noise of an allocator: a large fleet makes the slope exact.
    let sizes: &[usize] = x.by([&[1, 10, 20, 30, 500], SIZES, SIZES, SIZES]);
    let points = measure(x, sizes, settle, &mut stalls).await?;
    report(x, "memory", &points, &[("4.1/per-agent", MB), ("4.1/per-agent-30", MB)]);
    if x.by([false, true, true, true]) {
        let points = measure(x, FLEETS, settle, &mut stalls).await?;
        report(x, "memory.fleets", &points, &[("stretch/agent-kib", 1_024.0)]);
    }
    x.measured_since(began);
    stalls.observe(x, "4.1/gc");
    if x.by([true, true, true, false]) {
        x.not_run(&["4.1/leak"], "24 hours need --profile full");
    }
    Ok(())
}

/// Agents and Pss in bytes of fleets of these sizes.
async fn measure(
    x: &mut Experiment<'_>,
    sizes: &[usize],
    settle: Duration,
    stalls: &mut Stalls,
) -> Result<Vec<Point>, RunError> {
    let mut points = Vec::new();
    for size in sizes {
        for _ in 0..x.by([1, 2, 5, 5]) {
            x.lab.progress.tick(&format!("{size} agents"));
            let members = vec![Member::new("api", "", "")];
            let deployment = x.deploy(Plan { agents: fleet::mixed(*size), members, ..Plan::default() }).await?;
            tokio::time::sleep(settle).await;
            stalls.add(&deployment).await;
            points.push([*size as f64, deployment.pss() as f64]);
        }
    }
    Ok(points)
}

/// The slope of a line through the points decides these criteria, each in its unit.
fn report(x: &mut Experiment<'_>, name: &str, points: &[Point], criteria: &[(&'static str, f64)]) {
    let n = points.len() as u64;
    let Some(fit) = line(points) else {
        return criteria.iter().for_each(|(id, _)| x.not_run(&[id], "too few points for a slope"));
    };
    let of = |what: &str| format!("{name}.{what}");
    x.cost(&of("per_agent"), ("MB", "slope"), fit.slope / MB, n, SOURCE);
    x.cost(&of("base"), ("MB", "mean"), fit.intercept / MB, n, "the same line at no agents");
    for [agents, pss] in points {
        x.figure(&of(&format!("pss.{agents:.0}")), ("MB", "mean"), pss / MB, 1, "smaps_rollup, settled");
    }
    for (id, unit) in criteria {
        let seen = Observation::new(fit.slope / unit, fit.slope_ci95.map(|bound| bound / unit), n, SOURCE);
        x.observe(id, seen.shown_by(&[&of("per_agent"), name]));
    }
    x.plot(plot(name, points, &fit));
}

fn plot(id: &str, points: &[Point], fit: &Line) -> Plot {
    let fitted = |agents: f64| fit.at(agents).0 / MB;
    let last = points.iter().map(|point| point[0]).fold(0.0, f64::max);
    let of = |value: &dyn Fn(&Point) -> f64| points.iter().map(|point| [point[0], value(point)]).collect();
    Plot::new(
        id,
        "Memory over the number of agents",
        PlotKind::Scatter,
        (Axis::new("agents", ""), Axis::new("Pss", "MB")),
        vec![
            Series::measured("measured", of(&|point| point[1] / MB)),
            Series::of("line", Role::Fit, vec![[0.0, fitted(0.0)], [last, fitted(last)]]),
            Series::of("residual", Role::Residual, of(&|point| point[1] / MB - fitted(point[0]))),
        ],
        format!("{:.1} KiB for each agent over {:.1} MB", fit.slope / 1_024.0, fit.intercept / MB),
    )
}
