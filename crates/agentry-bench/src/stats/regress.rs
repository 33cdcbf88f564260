//! Least squares: a line and a parabola, with intervals of their terms. R² is not reported: a straight line through pure N²
//! over 5..30 has R² = 0.958, so it shows nothing about linearity.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{CONFIDENCE, Interval, count};
use crate::model::Point;

/// y = intercept + slope·x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// y at 0.
    pub intercept: f64,
    /// y per x.
    pub slope: f64,
    /// The 95 % interval of the slope.
    pub slope_ci95: Interval,
    covariance: [[f64; 2]; 2],
    t: f64,
}

/// y = a + b·x + c·x².
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quadratic {
    /// a, b, c.
    pub terms: [f64; 3],
    /// The 95 % interval of c.
    pub curve_ci95: Interval,
}

impl Line {
    /// The line at x, with the 95 % band of its mean.
    pub fn at(&self, x: f64) -> (f64, Interval) {
        let y = self.intercept + self.slope * x;
        let [[aa, ab], [_, bb]] = self.covariance;
        let half = self.t * (aa + 2.0 * ab * x + bb * x * x).max(0.0).sqrt();
        (y, [y - half, y + half])
    }
}

/// Fits a line; `None` under three points or without spread in x.
pub fn line(points: &[Point]) -> Option<Line> {
    let (terms, covariance, t) = fit::<2>(points)?;
    let half = t * covariance[1][1].max(0.0).sqrt();
    let [intercept, slope] = terms;
    Some(Line { intercept, slope, slope_ci95: [slope - half, slope + half], covariance, t })
}

/// Fits a parabola; `None` under four points or with under three different x.
pub fn quadratic(points: &[Point]) -> Option<Quadratic> {
    let (terms, covariance, t) = fit::<3>(points)?;
    let half = t * covariance[2][2].max(0.0).sqrt();
    Some(Quadratic { terms, curve_ci95: [terms[2] - half, terms[2] + half] })
}

type Fit<const K: usize> = ([f64; K], [[f64; K]; K], f64);

/// Polynomial terms, their covariance, and Student's t for their intervals. x is scaled to 0..1 meanwhile: sums of x⁴
/// would lose the digits that decide the quadratic term.
fn fit<const K: usize>(points: &[Point]) -> Option<Fit<K>> {
    let n = points.len();
    let scale = points.iter().map(|p| p[0].abs()).fold(0.0, f64::max);
    if n <= K || scale == 0.0 {
        return None;
    }
    let powers = |x: f64| std::array::from_fn::<f64, K, _>(|k| (x / scale).powi(i32::try_from(k).unwrap_or(0)));
    let (mut normal, mut right) = ([[0.0; K]; K], [0.0; K]);
    for [x, y] in points {
        let row = powers(*x);
        for i in 0..K {
            right[i] += row[i] * y;
            for j in 0..K {
                normal[i][j] += row[i] * row[j];
            }
        }
    }
    let inverse = invert(normal)?;
    let scaled: [f64; K] = std::array::from_fn(|i| (0..K).map(|j| inverse[i][j] * right[j]).sum());
    let miss = |[x, y]: &Point| (y - powers(*x).iter().zip(scaled).map(|(p, c)| p * c).sum::<f64>()).powi(2);
    let freedom = count(n - K);
    let variance = points.iter().map(miss).sum::<f64>() / freedom;
    let unit: [f64; K] = std::array::from_fn(|k| scale.powi(i32::try_from(k).unwrap_or(0)));
    let covariance = std::array::from_fn(|i| std::array::from_fn(|j| variance * inverse[i][j] / (unit[i] * unit[j])));
    let t = StudentsT::new(0.0, 1.0, freedom).ok()?.inverse_cdf(f64::midpoint(1.0, CONFIDENCE));
    Some((std::array::from_fn(|i| scaled[i] / unit[i]), covariance, t))
}

/// Inverts a matrix by Gauss and Jordan with pivots; `None` when it is singular.
pub(super) fn invert<const K: usize>(mut m: [[f64; K]; K]) -> Option<[[f64; K]; K]> {
    let mut inverse = [[0.0; K]; K];
    for (i, row) in inverse.iter_mut().enumerate() {
        row[i] = 1.0;
    }
    let largest = m.iter().flatten().fold(0.0_f64, |most, x| most.max(x.abs()));
    for column in 0..K {
        let pivot = (column..K).max_by(|i, j| m[*i][column].abs().total_cmp(&m[*j][column].abs()))?;
        if m[pivot][column].abs() <= largest * 1e-13 {
            return None;
        }
        m.swap(column, pivot);
        inverse.swap(column, pivot);
        let head = m[column][column];
        for j in 0..K {
            m[column][j] /= head;
            inverse[column][j] /= head;
        }
        for i in (0..K).filter(|i| *i != column) {
            let factor = m[i][column];
            for j in 0..K {
                m[i][j] -= factor * m[column][j];
                inverse[i][j] -= factor * inverse[column][j];
            }
        }
    }
    Some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anscombe 1973, set I: 3.0001 + 0.5001·x, standard error of the slope 0.1179.
    #[test]
    fn anscombe() {
        let x = [10.0, 8.0, 13.0, 9.0, 11.0, 14.0, 6.0, 4.0, 12.0, 7.0, 5.0];
        let y = [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68];
        let points: Vec<Point> = x.into_iter().zip(y).map(|(x, y)| [x, y]).collect();
        let fitted = line(&points).unwrap();
        assert!((fitted.intercept - 3.0001).abs() < 1e-4 && (fitted.slope - 0.5001).abs() < 1e-4, "{fitted:?}");
        let half = (fitted.slope_ci95[1] - fitted.slope_ci95[0]) / 2.0;
        assert!((half - 2.2622 * 0.1179).abs() < 1e-4, "{half}");
        let (_, band) = fitted.at(9.0);
        assert!(((band[1] - band[0]) / 2.0 - 2.2622 * 1.2366 / 11.0_f64.sqrt()).abs() < 1e-3, "{band:?}");
    }

    #[test]
    fn a_parabola_is_found_and_a_line_stays_one() {
        let curved: Vec<Point> = (1..=30).map(f64::from).map(|x| [x, 3.0 + 2.0 * x + 0.5 * x * x]).collect();
        let fitted = quadratic(&curved).unwrap();
        for (got, want) in fitted.terms.into_iter().zip([3.0, 2.0, 0.5]) {
            assert!((got - want).abs() < 1e-8, "{fitted:?}");
        }
        assert!(fitted.curve_ci95[0] > 0.0);
        let wobble = |i: u32| if i.is_multiple_of(2) { 0.3 } else { -0.3 };
        let straight: Vec<Point> = (1..=30).map(|i| [f64::from(i), 3.0 + 2.0 * f64::from(i) + wobble(i)]).collect();
        let [low, high] = quadratic(&straight).unwrap().curve_ci95;
        assert!(low <= 0.0 && high >= 0.0);
        assert_eq!(quadratic(&[[1.0, 1.0], [2.0, 2.0], [1.0, 1.0], [2.0, 2.0]]), None, "two different x");
        assert_eq!(line(&[[1.0, 1.0], [2.0, 2.0]]), None);
    }
}
