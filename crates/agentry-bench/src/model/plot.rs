//! What a plot shows, as data: the report draws it, the CSV lists it, the text alternative tells it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A point: x, then y.
pub type Point = [f64; 2];

/// How the data is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PlotKind {
    /// Lines over x.
    Line,
    /// Areas that add up, over x.
    Stack,
    /// Points.
    Scatter,
    /// One bar for each x.
    Bars,
    /// Latency by percentile; x is the quantile (0..1), drawn as 1/(1-q).
    Percentiles,
}

/// One plot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plot {
    /// Unique within its test; names the CSV file.
    pub id: String,
    /// What it shows.
    pub title: String,
    /// How it is drawn.
    pub kind: PlotKind,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// What is drawn.
    pub series: Vec<Series>,
    /// Intervals around a line.
    #[serde(default)]
    pub bands: Vec<Band>,
    /// Lines that mean something: a target, a tolerance.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// What to see in it, in one sentence.
    pub summary: String,
}

/// An axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Axis {
    /// What it measures.
    pub label: String,
    /// Its unit; empty for a bare number.
    #[serde(default)]
    pub unit: String,
    /// Whether it is seconds since the run's start: windows and faults are shaded then.
    #[serde(default)]
    pub time: bool,
    /// Logarithmic.
    #[serde(default)]
    pub log: bool,
    /// Names of the positions 0, 1, 2… for bars.
    #[serde(default)]
    pub names: Vec<String>,
}

/// What a series means; decides its line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// What was measured.
    #[default]
    Measured,
    /// What was computed from it: a fit, a trend.
    Fit,
    /// What it is compared with.
    Reference,
    /// Measured minus fitted, drawn in a panel below.
    Residual,
}

/// One series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// What it means.
    #[serde(default)]
    pub role: Role,
    /// Its points, by ascending x for lines.
    pub points: Vec<Point>,
    /// Samples behind it; a percentile plot hatches what they cannot support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
}

/// An interval over x: x, lower, upper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// What it is: `95 % of the fit`, `±10 %`.
    pub name: String,
    /// x, lower, upper.
    pub points: Vec<[f64; 3]>,
}

/// A line at a value of y.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// What it is: `target 100 ms`.
    pub label: String,
    /// Where.
    pub y: f64,
}

impl Plot {
    /// A plot without intervals and marks.
    pub fn new(
        id: impl Into<String>,
        title: impl Into<String>,
        kind: PlotKind,
        (x, y): (Axis, Axis),
        series: Vec<Series>,
        summary: impl Into<String>,
    ) -> Self {
        let (id, title, summary) = (id.into(), title.into(), summary.into());
        Self { id, title, kind, x, y, series, bands: Vec::new(), marks: Vec::new(), summary }
    }

    /// Adds a line at a value of y.
    pub fn mark(mut self, label: &str, y: f64) -> Self {
        self.marks.push(Mark { label: label.to_owned(), y });
        self
    }
}

impl Axis {
    /// An axis with a label and a unit.
    pub fn new(label: &str, unit: &str) -> Self {
        Self { label: label.to_owned(), unit: unit.to_owned(), time: false, log: false, names: Vec::new() }
    }

    /// A logarithmic axis.
    pub fn log(label: &str, unit: &str) -> Self {
        Self { log: true, ..Self::new(label, unit) }
    }

    /// The run's time, in seconds.
    pub fn time() -> Self {
        Self { time: true, ..Self::new("time since the run's start", "s") }
    }
}

impl Series {
    /// What was measured.
    pub fn measured(name: &str, points: Vec<Point>) -> Self {
        Self::of(name, Role::Measured, points)
    }

    /// A series with a meaning of its own.
    pub fn of(name: &str, role: Role, points: Vec<Point>) -> Self {
        Self { name: name.to_owned(), role, points, n: None }
    }
}
