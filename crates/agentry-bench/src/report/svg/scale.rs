//! From figures to places on the paper, and where ticks go.

use crate::model::{Plot, PlotKind, Role};
use crate::stats::number;

/// Ticks wanted on an axis.
const TICKS: f64 = 5.0;
/// Ticks at most, whatever the figures.
const MAX_TICKS: usize = 40;
/// Range of a percentile plot for a run whose n is unknown: up to 99.999 %.
const DEEPEST: f64 = 100_000.0;
/// The marked quantiles, as 1/(1-q).
const PERCENTILES: [(f64, &str); 6] =
    [(1.0, "0 %"), (2.0, "50 %"), (10.0, "90 %"), (100.0, "99 %"), (1_000.0, "99.9 %"), (10_000.0, "99.99 %")];

/// One axis.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    values: [f64; 2],
    pixels: [f64; 2],
    log: bool,
}

impl Scale {
    /// Even steps.
    pub fn linear(values: [f64; 2], pixels: [f64; 2]) -> Self {
        let [low, high] = values;
        let values = if high > low { values } else { [low - 0.5, low + 0.5] };
        Self { values, pixels, log: false }
    }

    /// Even steps from a round figure to a round figure.
    pub fn nice(values: [f64; 2], pixels: [f64; 2]) -> Self {
        let scale = Self::linear(values, pixels);
        let step = scale.step();
        let [low, high] = scale.values;
        Self { values: [(low / step).floor() * step, (high / step).ceil() * step], ..scale }
    }

    /// Even factors; what is not positive is drawn at the lower end.
    pub fn log(values: [f64; 2], pixels: [f64; 2]) -> Self {
        let low = if values[0] > 0.0 { values[0] } else { (values[1] / 1_000.0).max(1e-3) };
        Self { values: [low, values[1].max(low * 10.0)], pixels, log: true }
    }

    /// The place of a figure.
    pub fn at(&self, value: f64) -> f64 {
        let [low, high] = self.values;
        let share = match self.log {
            true => (value.max(low).ln() - low.ln()) / (high.ln() - low.ln()),
            false => (value - low) / (high - low),
        };
        self.pixels[0] + share * (self.pixels[1] - self.pixels[0])
    }

    /// The visible part of a span: begin and width.
    pub fn span(&self, from: f64, to: f64) -> Option<(f64, f64)> {
        let [low, high] = self.values;
        let (from, to) = (from.max(low), to.min(high));
        (from <= to).then(|| (self.at(from), self.at(to) - self.at(from)))
    }

    /// Whether a figure is on the axis.
    pub fn holds(&self, value: f64) -> bool {
        (self.values[0]..=self.values[1]).contains(&value)
    }

    fn step(&self) -> f64 {
        let rough = (self.values[1] - self.values[0]) / TICKS;
        let power = 10.0_f64.powf(rough.log10().floor());
        let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough).unwrap_or(10.0);
        factor * power
    }

    /// Round figures along the axis.
    pub fn ticks(&self) -> Vec<f64> {
        let [low, high] = self.values;
        if self.log {
            let first = 10.0_f64.powf(low.log10().floor());
            let decades = std::iter::successors(Some(first), |tick| Some(tick * 10.0));
            let decades: Vec<f64> = decades.take_while(|tick| *tick <= high * 1.000_001).take(MAX_TICKS).collect();
            let on_axis = |tick: &f64| *tick >= low * 0.999_999 && *tick <= high * 1.000_001;
            let whole: Vec<f64> = decades.iter().copied().filter(on_axis).collect();
            // One figure on an axis says nothing of its scale.
            if whole.len() >= 3 {
                return whole;
            }
            let finer = decades.iter().flat_map(|decade| [1.0, 2.0, 5.0].map(|factor| decade * factor));
            return finer.filter(on_axis).collect();
        }
        let step = self.step();
        let first = (low / step).ceil() * step;
        let ticks =
            std::iter::successors(Some(first), |tick| Some(tick + step)).take_while(|tick| *tick <= high + step * 1e-6);
        // A sum of steps that should be zero is not quite.
        ticks.take(MAX_TICKS).map(|tick| if tick.abs() < step * 1e-6 { 0.0 } else { tick }).collect()
    }
}

/// A quantile on the axis of a percentile plot: 1/(1-q), at most what n samples can tell apart.
pub fn percentile_x(q: f64, n: Option<u64>) -> f64 {
    let most = n.map_or(DEEPEST, |n| number(n.max(2)));
    if q >= 1.0 { most } else { (1.0 / (1.0 - q)).clamp(1.0, most) }
}

/// The marked quantiles that are on the axis.
pub fn percentile_ticks(scale: &Scale) -> Vec<(f64, String)> {
    PERCENTILES.into_iter().filter(|(x, _)| scale.holds(*x)).map(|(x, label)| (x, label.to_owned())).collect()
}

/// Least and largest x and y of everything that is drawn.
pub fn bounds(plot: &Plot) -> ([f64; 2], [f64; 2]) {
    let (mut x, mut y) = (empty(), empty());
    for series in plot.series.iter().filter(|series| series.role != Role::Residual) {
        for point in series.points.iter().filter(|point| point.iter().all(|value| value.is_finite())) {
            let at = if plot.kind == PlotKind::Percentiles { percentile_x(point[0], series.n) } else { point[0] };
            widen(&mut x, at);
            widen(&mut y, point[1]);
        }
    }
    for [at, low, high] in plot.bands.iter().flat_map(|band| &band.points) {
        widen(&mut x, *at);
        widen(&mut y, *low);
        widen(&mut y, *high);
    }
    if plot.kind == PlotKind::Stack {
        let longest = plot.series.iter().map(|series| series.points.len()).max().unwrap_or(0);
        for at in 0..longest {
            widen(&mut y, plot.series.iter().filter_map(|series| series.points.get(at)).map(|point| point[1]).sum());
        }
    }
    // A target far above everything would press the data flat; its label in the table is enough then.
    for mark in &plot.marks {
        if plot.y.log || mark.y.abs() <= 4.0 * y[1].abs().max(y[0].abs()) {
            widen(&mut y, mark.y);
        }
    }
    if !plot.y.log && y[0] > 0.0 && y[0] < 0.6 * y[1] {
        y[0] = 0.0;
    }
    let or = |range: [f64; 2]| if range[0] <= range[1] { range } else { [0.0, 1.0] };
    (or(x), or(y))
}

fn empty() -> [f64; 2] {
    [f64::INFINITY, f64::NEG_INFINITY]
}

fn widen(range: &mut [f64; 2], value: f64) {
    if value.is_finite() {
        *range = [range[0].min(value), range[1].max(value)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(Scale::nice([0.0, 97.0], [0.0, 1.0]).ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(Scale::log([0.5, 2_000.0], [0.0, 1.0]).ticks(), [1.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(Scale::log([3.0, 33.0], [0.0, 1.0]).ticks(), [5.0, 10.0, 20.0]);
        assert_eq!(Scale::linear([3.0, 3.0], [0.0, 1.0]).ticks().len(), 5);
    }

    #[test]
    fn quantiles_go_out_to_what_n_tells_apart() {
        assert!((percentile_x(0.99, None) - 100.0).abs() < 1e-9);
        assert_eq!(percentile_x(1.0, Some(500)), 500.0);
        assert_eq!(percentile_x(0.999_9, Some(500)), 500.0);
    }
}
