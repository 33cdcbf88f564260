//! Figures for readers: three significant digits, thousands apart, always with their unit.

/// A figure without its unit: `1,234`, `12.3`, `0.0123`.
pub fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let size = value.abs();
    if size == 0.0 {
        return "0".to_owned();
    }
    if size >= 100.0 {
        return grouped(value.round());
    }
    if size < 1e-4 {
        return format!("{value:.2e}");
    }
    let decimals = if size >= 10.0 {
        1
    } else if size >= 1.0 {
        2
    } else if size >= 0.1 {
        3
    } else {
        4
    };
    let text = format!("{value:.decimals$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if value < 0.0 {
        text.push('-');
    }
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A figure with its unit: `12.3 ms`, `4.1 %`, `7`.
pub fn with_unit(value: f64, unit: &str) -> String {
    match unit {
        "" | "count" => figure(value),
        "ratio" => format!("×{}", figure(value)),
        unit => format!("{} {unit}", figure(value)),
    }
}

/// An interval with its unit: `11.9–12.8 ms`.
pub fn interval([low, high]: [f64; 2], unit: &str) -> String {
    let dash = if low < 0.0 || high < 0.0 { " to " } else { "–" };
    let unit = if matches!(unit, "" | "count" | "ratio") { String::new() } else { format!(" {unit}") };
    format!("{}{dash}{}{unit}", figure(low), figure(high))
}

/// A share as a percentage.
pub fn percent(share: f64) -> String {
    format!("{} %", figure(share * 100.0))
}

/// A count, thousands apart.
pub fn count(n: u64) -> String {
    grouped(crate::stats::number(n))
}

/// A span of time: `45 s`, `12 min`, `4 h 10 min`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive span of days at most")]
pub fn span(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        0..=119 if seconds < 10.0 => with_unit(seconds, "s"),
        0..=119 => format!("{whole} s"),
        120..=7_199 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3_600, whole % 3_600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_three_digits_and_their_unit() {
        let table = [
            (0.0, "0"),
            (1_234_567.0, "1,234,567"),
            (-1_234.4, "-1,234"),
            (99.96, "100"),
            (12.34, "12.3"),
            (3.0, "3"),
            (0.12345, "0.123"),
            (0.00123, "0.0012"),
            (0.000_012, "1.20e-5"),
            (f64::NAN, "–"),
        ];
        for (value, text) in table {
            assert_eq!(figure(value), text);
        }
        assert_eq!(with_unit(12.0, "ms"), "12 ms");
        assert_eq!(with_unit(3.0, "count"), "3");
        assert_eq!(interval([-1.0, 2.0], "ms/h"), "-1 to 2 ms/h");
        assert_eq!(span(4.0), "4 s");
        assert_eq!(span(15_000.0), "4 h 10 min");
    }
}
