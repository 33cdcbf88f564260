//! Evenness of work over instances.

use super::{count, mean};

/// Evenness of shares.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evenness {
    /// Largest deviation of an instance from the mean, as a share of the mean.
    pub largest: f64,
    /// Jain's index: 1 is even, 1/k is one instance that did all of it.
    pub jain: f64,
}

/// Returns the evenness of the work that each instance did; `None` when nothing was done.
pub fn evenness(done: &[f64]) -> Option<Evenness> {
    let centre = mean(done);
    if centre <= 0.0 {
        return None;
    }
    let largest = done.iter().map(|x| (x - centre).abs() / centre).fold(0.0, f64::max);
    Some(Evenness { largest, jain: jain(done) })
}

/// Returns Jain's index (1984): (Σx)² / (k Σx²); 0 when nothing was done.
fn jain(done: &[f64]) -> f64 {
    let squares: f64 = done.iter().map(|x| x * x).sum();
    if squares == 0.0 { 0.0 } else { done.iter().sum::<f64>().powi(2) / (count(done.len()) * squares) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_even_to_one_that_does_it_all() {
        assert!((jain(&[5.0; 4]) - 1.0).abs() < 1e-12);
        assert!((jain(&[9.0, 0.0, 0.0]) - 1.0 / 3.0).abs() < 1e-12);
        let even = evenness(&[20.0, 22.0, 18.0, 20.0, 20.0]).unwrap();
        assert!((even.largest - 0.1).abs() < 1e-12, "{even:?}");
        assert_eq!(evenness(&[0.0, 0.0]), None);
    }
}
