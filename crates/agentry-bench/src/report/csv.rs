//! Every plotted series as CSV: one row for each point, so that any tool can draw it again.

use std::fmt::Write as _;

use crate::model::Plot;

/// The plot as CSV: series, x, y; bands as their lower and upper bounds.
pub fn csv(plot: &Plot) -> String {
    let with = |label: &str, unit: &str| if unit.is_empty() { label.to_owned() } else { format!("{label} ({unit})") };
    let x = with(&plot.x.label, &plot.x.unit);
    let y = with(&plot.y.label, &plot.y.unit);
    let mut text = format!("series,{},{}\r\n", cell(&x), cell(&y));
    for series in &plot.series {
        for [x, y] in &series.points {
            let _ = write!(text, "{},{x},{y}\r\n", cell(&series.name));
        }
    }
    for band in &plot.bands {
        for (name, at) in [("lower", 1), ("upper", 2)] {
            for point in &band.points {
                let _ = write!(text, "{},{},{}\r\n", cell(&format!("{} {name}", band.name)), point[0], point[at]);
            }
        }
    }
    text
}

/// Quoted where RFC 4180 asks for it.
fn cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Axis, Band, PlotKind, Series};

    #[test]
    fn cells_are_quoted_and_every_point_is_there() {
        let (axes, points) = ((Axis::new("agents", ""), Axis::new("memory", "MB")), vec![[1.0, 2.5], [2.0, 3.0]]);
        let mut plot = Plot::new("p", "t", PlotKind::Line, axes, vec![Series::measured("idle, cold", points)], "");
        plot.bands.push(Band { name: "95 %".to_owned(), points: vec![[1.0, 2.0, 3.0]] });
        let expected = "series,agents,memory (MB)\r\n\"idle, cold\",1,2.5\r\n\"idle, cold\",2,3\r\n95 % lower,1,2\r\n95 % upper,1,3\r\n";
        assert_eq!(csv(&plot), expected);
    }
}
