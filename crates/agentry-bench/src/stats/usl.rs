//! Gunther's Universal Scalability Law: X(N) = λN / (1 + σ(N-1) + κN(N-1)), with contention σ and coherency κ.
//!
//! Fitted by Levenberg and Marquardt with σ, κ ≥ 0, started from the linearised form.

use super::quadratic;
use super::regress::invert;
use crate::model::Point;

/// Sizes without which three parameters say nothing.
const LEAST: usize = 6;
/// Steps at most; a fit takes about ten.
const STEPS: usize = 200;

/// The fitted law.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usl {
    /// Throughput of one worker.
    pub lambda: f64,
    /// Contention.
    pub sigma: f64,
    /// Coherency.
    pub kappa: f64,
}

impl Usl {
    /// Returns the throughput at N.
    pub fn at(&self, n: f64) -> f64 {
        model([self.lambda, self.sigma, self.kappa], n)
    }
}

/// Fits the law to (N, throughput); `None` under six sizes or with a throughput of 0.
pub fn usl(points: &[Point]) -> Option<Usl> {
    if points.len() < LEAST || points.iter().any(|[n, x]| *n < 1.0 || *x <= 0.0) {
        return None;
    }
    let [lambda, sigma, kappa] = solve(points, start(points));
    Some(Usl { lambda, sigma, kappa })
}

fn model([lambda, sigma, kappa]: [f64; 3], n: f64) -> f64 {
    lambda * n / (1.0 + sigma * (n - 1.0) + kappa * n * (n - 1.0))
}

/// N/X is a parabola in N whose terms give λ, σ and κ.
fn start(points: &[Point]) -> [f64; 3] {
    let inverse: Vec<Point> = points.iter().map(|[n, x]| [*n, n / x]).collect();
    let single = points.iter().map(|[n, x]| x / n).fold(0.0, f64::max);
    let fallback = [single, 0.01, 0.0001];
    let Some(fitted) = quadratic(&inverse) else { return fallback };
    let [a, b, c] = fitted.terms;
    let lambda = 1.0 / (a + b + c);
    if lambda.is_finite() && lambda > 0.0 {
        [lambda, (lambda * (b + c)).max(0.0), (lambda * c).max(0.0)]
    } else {
        fallback
    }
}

fn miss(points: &[Point], terms: [f64; 3]) -> f64 {
    points.iter().map(|[n, x]| (x - model(terms, *n)).powi(2)).sum()
}

fn solve(points: &[Point], from: [f64; 3]) -> [f64; 3] {
    let (mut terms, mut damping) = (from, 1e-3);
    let mut error = miss(points, terms);
    for _ in 0..STEPS {
        let Some(step) = step(points, terms, damping) else { break };
        let next: [f64; 3] =
            [(terms[0] + step[0]).max(f64::EPSILON), (terms[1] + step[1]).max(0.0), (terms[2] + step[2]).max(0.0)];
        let next_error = miss(points, next);
        if next_error < error {
            let improvement = (error - next_error) / error.max(f64::MIN_POSITIVE);
            (terms, error, damping) = (next, next_error, damping / 5.0);
            if improvement < 1e-12 {
                break;
            }
        } else {
            damping *= 5.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    terms
}

/// One damped Gauss-Newton step; Marquardt's scaling makes the very different sizes of λ and κ harmless.
fn step(points: &[Point], terms: [f64; 3], damping: f64) -> Option<[f64; 3]> {
    let [lambda, sigma, kappa] = terms;
    let (mut normal, mut right) = ([[0.0; 3]; 3], [0.0; 3]);
    for [n, x] in points {
        let below = 1.0 + sigma * (n - 1.0) + kappa * n * (n - 1.0);
        let slope = -lambda * n / (below * below);
        let row = [n / below, slope * (n - 1.0), slope * n * (n - 1.0)];
        for i in 0..3 {
            right[i] += row[i] * (x - lambda * n / below);
            for j in 0..3 {
                normal[i][j] += row[i] * row[j];
            }
        }
    }
    for (i, row) in normal.iter_mut().enumerate() {
        row[i] *= 1.0 + damping;
    }
    let inverse = invert(normal)?;
    let solved = std::array::from_fn(|i| (0..3).map(|j| inverse[i][j] * right[j]).sum());
    solved.iter().all(|x: &f64| x.is_finite()).then_some(solved)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SPEC SDM91 on a Sun server, the example of Gunther's "Guerrilla Capacity Planning" and of R's package `usl` 2.0,
    /// which prints γ = 89.995, α = 0.02772 and β = 0.0001043.
    #[test]
    fn spec_sdm91() {
        let n = [1.0, 18.0, 36.0, 72.0, 108.0, 144.0, 216.0];
        let x = [64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2];
        let points: Vec<Point> = n.into_iter().zip(x).map(|(n, x)| [n, x]).collect();
        let fitted = usl(&points).unwrap();
        assert!((fitted.lambda - 89.995).abs() < 0.1, "{fitted:?}");
        assert!((fitted.sigma - 0.02772).abs() < 1e-4, "{fitted:?}");
        assert!((fitted.kappa - 0.000_104_3).abs() < 1e-6, "{fitted:?}");
    }

    #[test]
    fn a_law_is_found_again() {
        let truth = [100.0, 0.05, 0.0001];
        let points: Vec<Point> = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0].map(|n| [n, model(truth, n)]).into();
        let fitted = usl(&points).unwrap();
        assert!((fitted.sigma - 0.05).abs() < 1e-6 && (fitted.kappa - 0.0001).abs() < 1e-8, "{fitted:?}");
        assert_eq!(usl(&points[..5]), None);
    }
}
