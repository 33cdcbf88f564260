//! The few shapes that plots are made of.

use std::fmt::Write as _;

use super::escape;

/// A rectangle.
pub fn rect(out: &mut String, class: &str, x: f64, y: f64, wide: f64, tall: f64) {
    let _ = write!(
        out,
        "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
        wide.max(0.0),
        tall.max(0.0)
    );
}

/// Draws the part where nothing can be said.
pub fn hatched(out: &mut String, x: f64, y: f64, wide: f64, tall: f64) {
    rect(out, "hatch", x, y, wide, tall);
    let mut at = x + 8.0;
    while at < x + wide {
        let _ = write!(
            out,
            "<line class=\"hatching\" x1=\"{at:.1}\" y1=\"{y:.1}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>",
            y + tall
        );
        at += 8.0;
    }
}

/// Text.
pub fn text_at(out: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escape(text));
}

/// A line through points.
pub fn line(out: &mut String, class: &str, through: impl Iterator<Item = (f64, f64)>) {
    let _ = write!(out, "<path class=\"line {class}\" d=\"{}\"/>", path(through));
}

/// A closed shape.
pub fn area(out: &mut String, class: &str, around: impl Iterator<Item = (f64, f64)>) {
    let _ = write!(out, "<path class=\"{class}\" d=\"{}Z\"/>", path(around));
}

/// Dots.
pub fn points(out: &mut String, class: &str, at: impl Iterator<Item = (f64, f64)>) {
    let _ = write!(out, "<g class=\"dot {class}\">");
    for (x, y) in at.filter(|(x, y)| x.is_finite() && y.is_finite()) {
        let _ = write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.4\"/>");
    }
    out.push_str("</g>");
}

fn path(through: impl Iterator<Item = (f64, f64)>) -> String {
    let mut path = String::new();
    for (x, y) in through.filter(|(x, y)| x.is_finite() && y.is_finite()) {
        let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
    }
    if path.is_empty() { "M0 0".to_owned() } else { path }
}
