//! One way to draw: a [`Plot`] becomes inline SVG. Colours come from the page's variables, so that light, dark and paper
//! all work; series differ by dash as well as by colour; the title and description are the text alternative.

mod draw;
mod scale;

use std::fmt::Write as _;

use crate::model::{Fault, Plot, PlotKind, Point, Role, Stage, Window};
use crate::show::with_unit;
use crate::stats::number;
use draw::{area, hatched, line, points, rect, text_at};
use scale::{Scale, bounds, percentile_x};

/// Size of the drawing in its own units; the page scales it.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
/// Height of the panel of residuals, and the space above it.
const PANEL: f64 = 64.0;
const GAP: f64 = 20.0;
/// Points of a line at most; more would be closer than pixels.
const MAX_POINTS: usize = 700;
/// Bars at most; the CSV has the rest.
const MAX_BARS: usize = 60;
/// Colours that the page defines.
const COLOURS: usize = 6;

/// Shaded spans of time plots.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shade<'a> {
    /// Windows: the warm-up is shaded.
    pub windows: &'a [Window],
    /// Faults are shaded from injection to heal.
    pub faults: &'a [Fault],
}

/// The place of the data within the drawing.
struct Frame {
    x: Scale,
    y: Scale,
}

/// Draws a plot. `id` is unique within the page.
pub fn svg(plot: &Plot, id: &str, shade: Shade<'_>) -> String {
    let residuals = plot.series.iter().any(|series| series.role == Role::Residual);
    let height = HEIGHT + if residuals { PANEL + GAP } else { 0.0 };
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"{id}-t {id}-d\" class=\"plot\">\
         <title id=\"{id}-t\">{}</title><desc id=\"{id}-d\">{}</desc>",
        escape(&plot.title),
        escape(&describe(plot))
    );
    if plot.series.iter().all(|series| series.points.is_empty()) {
        text_at(&mut out, WIDTH / 2.0, HEIGHT / 2.0, "middle", "no samples");
    } else {
        let frame = frame(plot);
        if plot.x.time {
            shades(&mut out, &frame, shade);
        }
        axes(&mut out, plot, &frame);
        insufficient(&mut out, plot, &frame);
        data(&mut out, plot, &frame);
        marks(&mut out, plot, &frame);
        legend(&mut out, plot);
        if residuals {
            panel(&mut out, plot, &frame);
        }
    }
    out.push_str("</svg>");
    out
}

/// Describes the plot for a screen reader.
pub fn describe(plot: &Plot) -> String {
    let mut text = plot.summary.clone();
    for series in plot.series.iter().filter(|series| !series.points.is_empty()) {
        let y = |pick: fn(f64, f64) -> f64, from: f64| series.points.iter().map(|p| p[1]).fold(from, pick);
        let (low, high) = (y(f64::min, f64::INFINITY), y(f64::max, f64::NEG_INFINITY));
        let unit = &plot.y.unit;
        let _ = write!(
            text,
            " {}: {} to {}, {} points.",
            series.name,
            with_unit(low, unit),
            with_unit(high, unit),
            series.points.len()
        );
    }
    for mark in &plot.marks {
        let _ = write!(text, " Line: {}.", mark.label);
    }
    text
}

fn frame(plot: &Plot) -> Frame {
    let (x, mut y) = bounds(plot);
    let pixels_x = [LEFT, WIDTH - RIGHT];
    let pixels_y = [HEIGHT - BOTTOM, TOP];
    let x = match plot.kind {
        PlotKind::Percentiles => Scale::log(x, pixels_x),
        PlotKind::Bars => Scale::linear([-0.6, crate::stats::count(bars_of(plot)) - 0.4], pixels_x),
        _ if plot.x.log => Scale::log(x, pixels_x),
        _ => Scale::linear(x, pixels_x),
    };
    if matches!(plot.kind, PlotKind::Bars | PlotKind::Stack) {
        y[0] = y[0].min(0.0);
    }
    let y = if plot.y.log { Scale::log(y, pixels_y) } else { Scale::nice(y, pixels_y) };
    Frame { x, y }
}

fn x_of(plot: &Plot, x: f64, n: Option<u64>) -> f64 {
    if plot.kind == PlotKind::Percentiles { percentile_x(x, n) } else { x }
}

fn axes(out: &mut String, plot: &Plot, frame: &Frame) {
    for tick in frame.y.ticks() {
        let y = frame.y.at(tick);
        let _ =
            write!(out, "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", WIDTH - RIGHT);
        text_at(out, LEFT - 6.0, y + 4.0, "end", &crate::show::figure(tick));
    }
    let bottom = HEIGHT - BOTTOM;
    let labels: Vec<(f64, String)> = match plot.kind {
        PlotKind::Percentiles => scale::percentile_ticks(&frame.x),
        PlotKind::Bars => {
            let name = |at: usize| plot.x.names.get(at).cloned().unwrap_or_else(|| at.to_string());
            (0..bars_of(plot)).map(|at| (crate::stats::count(at), name(at))).collect()
        }
        _ => frame.x.ticks().into_iter().map(|tick| (tick, crate::show::figure(tick))).collect(),
    };
    for (value, label) in labels {
        let x = frame.x.at(value);
        let _ =
            write!(out, "<line class=\"tick\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{}\"/>", bottom + 4.0);
        let anchor = if x > WIDTH - RIGHT - 16.0 { "end" } else { "middle" };
        text_at(out, x, bottom + 17.0, anchor, &label);
    }
    let _ =
        write!(out, "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{bottom}\" y2=\"{bottom}\"/>", WIDTH - RIGHT);
    let with = |label: &str, unit: &str| if unit.is_empty() { label.to_owned() } else { format!("{label}, {unit}") };
    text_at(out, f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 8.0, "middle", &with(&plot.x.label, &plot.x.unit));
    let middle = f64::midpoint(TOP, bottom);
    let label = escape(&with(&plot.y.label, &plot.y.unit));
    let _ = write!(
        out,
        "<text x=\"14\" y=\"{middle}\" text-anchor=\"middle\" transform=\"rotate(-90 14 {middle})\">{label}</text>"
    );
}

/// Beyond this quantile there are too few samples for a figure.
fn insufficient(out: &mut String, plot: &Plot, frame: &Frame) {
    let fewest = plot.series.iter().filter_map(|series| series.n).min();
    let (PlotKind::Percentiles, Some(n)) = (plot.kind, fewest.filter(|n| *n > 0)) else { return };
    let known = 0.05_f64.powf(1.0 / number(n));
    let from = frame.x.at(percentile_x(known, None)).clamp(LEFT, WIDTH - RIGHT);
    hatched(out, from, TOP, WIDTH - RIGHT - from, HEIGHT - BOTTOM - TOP);
    if WIDTH - RIGHT - from > 90.0 {
        text_at(out, WIDTH - RIGHT - 4.0, HEIGHT - BOTTOM - 6.0, "end", "insufficient n");
    }
}

fn shades(out: &mut String, frame: &Frame, shade: Shade<'_>) {
    let tall = HEIGHT - BOTTOM - TOP;
    for window in shade.windows.iter().filter(|window| matches!(window.stage, Stage::Warmup | Stage::Setup)) {
        if let Some((x, wide)) = frame.x.span(window.t0, window.t1) {
            rect(out, "warm", x, TOP, wide, tall);
            if wide > 50.0 {
                text_at(out, x + 4.0, TOP + 12.0, "start", "warm-up");
            }
        }
    }
    for fault in shade.faults {
        let end = fault.t_heal.or(fault.t_recovered).unwrap_or(fault.t_inject + 1.0);
        if let Some((x, wide)) = frame.x.span(fault.t_inject, end) {
            rect(out, "fault", x, TOP, wide.max(2.0), tall);
            text_at(out, x + 2.0, TOP + 12.0, "start", &fault.id);
        }
    }
}

fn data(out: &mut String, plot: &Plot, frame: &Frame) {
    for band in &plot.bands {
        let upper = band.points.iter().map(|p| (frame.x.at(p[0]), frame.y.at(p[2])));
        let lower = band.points.iter().rev().map(|p| (frame.x.at(p[0]), frame.y.at(p[1])));
        area(out, "band", upper.chain(lower));
    }
    let drawn = plot.series.iter().enumerate().filter(|(_, series)| series.role != Role::Residual);
    if plot.kind == PlotKind::Stack {
        return stack(out, plot, frame);
    }
    for (at, series) in drawn {
        let class = class(at, series.role);
        let thin = thinned(&series.points);
        let place = |p: &Point| (frame.x.at(x_of(plot, p[0], series.n)), frame.y.at(p[1]));
        match (plot.kind, series.role) {
            (PlotKind::Scatter, Role::Measured) => points(out, &class, thin.iter().map(place)),
            (PlotKind::Bars, Role::Measured) => bars(out, &class, at, plot, frame),
            _ => line(out, &class, thin.iter().map(place)),
        }
    }
}

fn bars_of(plot: &Plot) -> usize {
    plot.series.iter().map(|series| series.points.len().min(MAX_BARS)).max().unwrap_or(0)
}

fn bars(out: &mut String, class: &str, at: usize, plot: &Plot, frame: &Frame) {
    let groups = crate::stats::count(plot.series.iter().filter(|s| s.role == Role::Measured).count());
    let slot = frame.x.at(1.0) - frame.x.at(0.0);
    let wide = (slot * 0.7 / groups).min(64.0);
    for (position, point) in plot.series[at].points.iter().take(MAX_BARS).enumerate() {
        let centre =
            frame.x.at(crate::stats::count(position)) + (crate::stats::count(at) - (groups - 1.0) / 2.0) * wide;
        let (top, zero) = (frame.y.at(point[1]), frame.y.at(0.0));
        rect(out, class, centre - wide / 2.0, top.min(zero), wide * 0.94, (zero - top).abs());
        text_at(out, centre, top.min(zero) - 4.0, "middle", &crate::show::figure(point[1]));
    }
}

/// Areas on top of one another; the series share their x.
fn stack(out: &mut String, plot: &Plot, frame: &Frame) {
    let Some(first) = plot.series.first() else { return };
    let stride = first.points.len().div_ceil(MAX_POINTS).max(1);
    let kept: Vec<usize> = (0..first.points.len()).step_by(stride).collect();
    let mut below = vec![0.0; kept.len()];
    for (at, series) in plot.series.iter().enumerate() {
        let value = |i: usize| series.points.get(i).map_or(0.0, |p| p[1]);
        let above: Vec<f64> = kept.iter().zip(&below).map(|(i, y)| y + value(*i)).collect();
        let place = |at: usize, y: f64| (frame.x.at(first.points[kept[at]][0]), frame.y.at(y));
        let up = above.iter().enumerate().map(|(at, y)| place(at, *y));
        let down = below.iter().enumerate().rev().map(|(at, y)| place(at, *y));
        area(out, &format!("area s{}", at % COLOURS), up.chain(down));
        below = above;
    }
}

fn marks(out: &mut String, plot: &Plot, frame: &Frame) {
    for mark in &plot.marks {
        let y = frame.y.at(mark.y);
        if !(TOP - 1.0..=HEIGHT - BOTTOM + 1.0).contains(&y) {
            // Said where it would be: a target far outside would press the data flat.
            let (at, arrow) = if y < TOP { (TOP + 13.0, '↑') } else { (HEIGHT - BOTTOM - 6.0, '↓') };
            text_at(out, WIDTH - RIGHT - 4.0, at, "end", &format!("{} {arrow}", mark.label));
            continue;
        }
        let _ =
            write!(out, "<line class=\"mark\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>", WIDTH - RIGHT);
        text_at(out, LEFT + 6.0, if y < TOP + 14.0 { y + 13.0 } else { y - 5.0 }, "start", &mark.label);
    }
}

fn legend(out: &mut String, plot: &Plot) {
    let mut x = LEFT;
    let drawn = plot.series.iter().enumerate().filter(|(_, series)| series.role != Role::Residual);
    for (at, series) in drawn {
        let class = class(at, series.role);
        match (plot.kind, series.role) {
            (PlotKind::Stack | PlotKind::Bars, Role::Measured) => {
                let kind = if plot.kind == PlotKind::Stack { format!("area s{}", at % COLOURS) } else { class };
                rect(out, &kind, x, 9.0, 18.0, 9.0);
            }
            (PlotKind::Scatter, Role::Measured) => points(out, &class, [(x + 9.0, 14.0)].into_iter()),
            _ => line(out, &class, [(x, 14.0), (x + 18.0, 14.0)].into_iter()),
        }
        text_at(out, x + 23.0, 18.0, "start", &series.name);
        x += 44.0 + 6.6 * crate::stats::count(series.name.chars().count());
    }
    for band in &plot.bands {
        rect(out, "band", x, 8.0, 18.0, 11.0);
        text_at(out, x + 23.0, 18.0, "start", &band.name);
        x += 44.0 + 6.6 * crate::stats::count(band.name.chars().count());
    }
}

/// Residuals below the plot, around their own zero.
fn panel(out: &mut String, plot: &Plot, frame: &Frame) {
    let top = HEIGHT + GAP / 2.0;
    for (at, series) in plot.series.iter().enumerate().filter(|(_, series)| series.role == Role::Residual) {
        let most = series.points.iter().map(|p| p[1].abs()).fold(f64::MIN_POSITIVE, f64::max);
        let y = Scale::linear([-most, most], [top + PANEL, top]);
        let zero = y.at(0.0);
        let _ = write!(
            out,
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{zero:.1}\" y2=\"{zero:.1}\"/>",
            WIDTH - RIGHT
        );
        text_at(out, LEFT - 6.0, top + 8.0, "end", &format!("+{}", crate::show::figure(most)));
        text_at(out, LEFT - 6.0, top + PANEL, "end", &format!("−{}", crate::show::figure(most)));
        text_at(out, LEFT + 6.0, top + 8.0, "start", &series.name);
        points(out, &class(at, Role::Measured), thinned(&series.points).iter().map(|p| (frame.x.at(p[0]), y.at(p[1]))));
    }
}

fn class(at: usize, role: Role) -> String {
    let kind = match role {
        Role::Fit => " fit",
        Role::Reference => " reference",
        Role::Measured | Role::Residual => "",
    };
    format!("s{}{kind}", at % COLOURS)
}

/// The lowest and highest point of each bucket: spikes stay visible.
fn thinned(points: &[Point]) -> Vec<Point> {
    let all: Vec<Point> = points.iter().copied().filter(|p| p.iter().all(|v| v.is_finite())).collect();
    if all.len() <= MAX_POINTS {
        return all;
    }
    let size = all.len().div_ceil(MAX_POINTS / 2);
    let mut kept = Vec::with_capacity(MAX_POINTS + 2);
    for bucket in all.chunks(size) {
        let by_y = |a: &&Point, b: &&Point| a[1].total_cmp(&b[1]);
        let (low, high) = (bucket.iter().min_by(by_y), bucket.iter().max_by(by_y));
        let mut pair: Vec<Point> = low.into_iter().chain(high).copied().collect();
        pair.sort_by(|a, b| a[0].total_cmp(&b[0]));
        pair.dedup();
        kept.extend(pair);
    }
    kept
}

/// Text within markup.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Axis, Series};

    fn plot(kind: PlotKind, points: Vec<Point>) -> Plot {
        let axes = (Axis::time(), Axis::new("latency", "ms"));
        Plot::new("p", "a < b", kind, axes, vec![Series::measured("p95", points)], "Flat.")
    }

    #[test]
    fn every_kind_draws_well_formed_markup_even_from_odd_data() {
        let data = [vec![], vec![[0.0, 0.0]], vec![[1.0, 5.0], [2.0, f64::NAN], [3.0, 7.0]], vec![[0.5, 3.0]; 5_000]];
        for kind in [PlotKind::Line, PlotKind::Stack, PlotKind::Scatter, PlotKind::Bars, PlotKind::Percentiles] {
            for points in &data {
                let drawn = svg(&plot(kind, points.clone()), "x", Shade::default());
                assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>"));
                assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{kind:?}: {drawn}");
                assert!(drawn.contains("a &lt; b"));
                assert!(drawn.len() < 60_000, "{} bytes", drawn.len());
            }
        }
    }

    #[test]
    fn thinning_keeps_the_spike() {
        let mut points: Vec<Point> = (0..100_000).map(|i| [f64::from(i), 1.0]).collect();
        points[54_321][1] = 99.0;
        let thin = thinned(&points);
        assert!(thin.len() <= MAX_POINTS + 2);
        assert!(thin.contains(&[54_321.0, 99.0]));
    }

    #[test]
    fn the_text_alternative_has_the_figures() {
        let text = describe(&plot(PlotKind::Line, vec![[0.0, 1.0], [1.0, 12.0]]));
        assert_eq!(text, "Flat. p95: 1 ms to 12 ms, 2 points.");
    }
}
