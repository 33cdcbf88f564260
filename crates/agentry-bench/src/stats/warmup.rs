//! Where the warm-up ends: MSER-5 (White 1997) drops the beginning whose removal makes the mean of the rest most certain.

use super::{count, mean};

/// Values of a batch.
const BATCH: usize = 5;

/// How many leading values to drop; `None` when the best cut lies in the second half, which means that the series is not
/// stationary, or when there are under four batches.
#[must_use]
pub fn mser5(values: &[f64]) -> Option<usize> {
    let batches: Vec<f64> = values.chunks_exact(BATCH).map(mean).collect();
    if batches.len() < 4 {
        return None;
    }
    let error = |cut: usize| {
        let rest = &batches[cut..];
        let centre = mean(rest);
        rest.iter().map(|x| (x - centre).powi(2)).sum::<f64>() / count(rest.len()).powi(2)
    };
    // The last batches alone would always look certain.
    let cut = (0..=batches.len() - 3).min_by(|i, j| error(*i).total_cmp(&error(*j)))?;
    (cut <= batches.len() / 2).then_some(cut * BATCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_before_a_level_is_dropped() {
        let wave = |i: usize| 100.0 + count(i * 7 % 5);
        let series: Vec<f64> = (0..100).map(|i| if i < 20 { 5.0 * count(i) } else { wave(i) }).collect();
        assert_eq!(mser5(&series), Some(20));
        let level: Vec<f64> = (0..100).map(wave).collect();
        assert_eq!(mser5(&level), Some(0));
    }

    #[test]
    fn a_series_that_never_levels_off_has_no_end_of_warm_up() {
        let ramp: Vec<f64> = (0..100).map(|i| count(i * i)).collect();
        assert_eq!(mser5(&ramp), None);
        assert_eq!(mser5(&[1.0; 10]), None);
    }
}
