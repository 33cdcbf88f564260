//! Latency histograms: fixed in size, exact to three digits, kept whole in the report so that every percentile can be
//! asked for later.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2Serializer};

use super::{Quantile, enough, number, order_ranks};
use crate::model::Point;

/// A histogram of microseconds.
pub type Hist = Histogram<u64>;

/// The largest latency, in microseconds: one hour.
const HOUR_US: u64 = 3_600_000_000;
/// Significant digits.
const DIGITS: u8 = 3;
/// Bytes of a serialised histogram at most: a full one is about 185 KB.
const MAX_BYTES: usize = 4 << 20;
/// The microseconds of a millisecond.
const US: f64 = 1_000.0;

/// A histogram that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an HdrHistogram V2 in base64: {0}")]
pub struct BadHistogram(String);

/// Returns an empty histogram: 1 µs to 1 h, three digits, about 185 KB.
pub fn histogram() -> Hist {
    // These bounds are valid; the fallback has no upper one.
    Histogram::new_with_bounds(1, HOUR_US, DIGITS).unwrap_or_else(|_| {
        Histogram::new(DIGITS).unwrap_or_else(|_| unreachable!("three digits are a valid precision"))
    })
}

/// Encodes a histogram as the report keeps it.
pub fn encode(hist: &Hist) -> Result<String, BadHistogram> {
    let mut bytes = Vec::new();
    V2Serializer::new().serialize(hist, &mut bytes).map_err(|error| BadHistogram(format!("{error:?}")))?;
    Ok(STANDARD.encode(bytes))
}

/// Reads an encoded histogram.
pub fn decode(text: &str) -> Result<Hist, BadHistogram> {
    if text.len() > MAX_BYTES {
        return Err(BadHistogram(format!("{} bytes are more than {MAX_BYTES}", text.len())));
    }
    let bytes = STANDARD.decode(text).map_err(|error| BadHistogram(error.to_string()))?;
    Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(|error| BadHistogram(format!("{error:?}")))
}

/// Returns a quantile in milliseconds with its order-statistic interval; `None` when n does not support it.
pub fn quantile_of(hist: &Hist, q: f64) -> Option<Quantile> {
    let n = hist.len();
    if !enough(n, q) {
        return None;
    }
    let at = |share: f64| number(hist.value_at_quantile(share)) / US;
    // Half a rank less: rounding must not lead to the next one.
    let at_rank = |rank: u64| at((number(rank) - 0.5) / number(n));
    let (lower, upper) = order_ranks(n, q)?;
    let high = upper.map_or(number(hist.max()) / US, at_rank);
    Some(Quantile { value: at(q), ci95: [at_rank(lower), high], n })
}

/// Returns the points of a percentile plot: quantile and milliseconds, five for each halving of what remains.
pub fn percentile_points(hist: &Hist) -> Vec<Point> {
    hist.iter_quantiles(5).map(|step| [step.quantile().min(1.0), number(step.value_iterated_to()) / US]).collect()
}

/// Formats a histogram as `HistogramPlotter` and similar tools read it: value in milliseconds, percentile, count, 1/(1-percentile).
pub fn hgrm(hist: &Hist) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
    let mut seen = 0;
    for step in hist.iter_quantiles(5) {
        seen += step.count_since_last_iteration();
        let (value, q) = (number(step.value_iterated_to()) / US, step.quantile());
        let _ = match q < 1.0 {
            true => writeln!(text, "{value:12.3} {q:14.12} {seen:10} {:16.2}", 1.0 / (1.0 - q)),
            false => writeln!(text, "{value:12.3} {q:14.12} {seen:10}"),
        };
    }
    let _ = writeln!(text, "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]", hist.mean() / US, hist.stdev() / US);
    let _ = writeln!(text, "#[Max     = {:12.3}, Total count    = {:12}]", number(hist.max()) / US, hist.len());
    let _ = writeln!(text, "#[Buckets = {:12}, SubBuckets     = {:12}]", hist.buckets(), hist.distinct_values());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: u64) -> Hist {
        let mut hist = histogram();
        (1..=n).for_each(|i| hist.record(i * 100).unwrap());
        hist
    }

    #[test]
    fn it_comes_back_as_it_was_written() {
        let hist = sample(1_000);
        assert_eq!(decode(&encode(&hist).unwrap()).unwrap(), hist);
        assert!(decode("bm90IGEgaGlzdG9ncmFt").is_err());
        assert!(decode("%").unwrap_err().to_string().contains("base64"));
    }

    #[test]
    fn quantiles_agree_with_sorted_samples_to_three_digits() {
        let hist = sample(1_000);
        let sorted: Vec<f64> = (1..=1_000).map(|i| f64::from(i) / 10.0).collect();
        for q in [0.5, 0.95, 0.99] {
            let at = |rank: u64| sorted[rank as usize - 1];
            let (got, want) = (quantile_of(&hist, q).unwrap(), at((q * 1_000.0).ceil() as u64));
            assert!((got.value - want).abs() <= 2e-3 * want, "{got:?} {want:?}");
            let upper = at(order_ranks(1_000, q).unwrap().1.unwrap());
            assert!((got.ci95[1] - upper).abs() <= 3e-3 * upper, "{got:?} {upper:?}");
        }
        assert_eq!(quantile_of(&hist, 0.999), None, "1,000 samples do not support p99.9");
        assert_eq!(quantile_of(&histogram(), 0.5), None);
        assert_eq!(quantile_of(&sample(58), 0.95), None);
        assert!((quantile_of(&sample(59), 0.95).unwrap().ci95[1] - 5.9).abs() < 1e-2, "the largest sample");
    }

    #[test]
    fn the_text_form_ends_with_all_samples() {
        let text = hgrm(&sample(1_000));
        assert!(text.lines().any(|line| line.contains("1.000000000000") && line.contains("1000")), "{text}");
        assert!(text.contains("#[Max"));
    }
}
