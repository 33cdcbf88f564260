//! Counting requests: by route template and status, with a histogram of durations. Plain atomics, no lookup per request.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the duration histogram, in microseconds: 0.5 ms to 10 s.
const BUCKETS_US: [u64; 11] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 10_000_000];

/// The statuses that are counted apart; others fall into the last slot of their class.
const STATUSES: [u16; 20] =
    [200, 201, 202, 204, 299, 399, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 499, 500, 503, 599];

/// Requests of one method on one route template.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    method: &'static str,
    route: &'static str,
    statuses: [AtomicU64; STATUSES.len()],
    buckets: [AtomicU64; BUCKETS_US.len() + 1],
    sum_us: AtomicU64,
}

impl RouteMetrics {
    /// Counts one request.
    pub(crate) fn observe(&self, status: u16, took: Duration) {
        let slot = STATUSES.iter().position(|s| *s == status).unwrap_or_else(|| {
            let class_end = (status / 100) * 100 + 99;
            STATUSES.iter().position(|s| *s == class_end).unwrap_or(STATUSES.len() - 1)
        });
        self.statuses[slot].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS_US.iter().position(|bound| us <= *bound).unwrap_or(BUCKETS_US.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// All requests.
#[derive(Debug, Default)]
pub(crate) struct HttpMetrics {
    routes: Mutex<Vec<Arc<RouteMetrics>>>,
    in_flight: AtomicUsize,
}

/// One request in flight.
pub(crate) struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HttpMetrics {
    /// The counters of a route; called once for each when the router is built.
    pub(crate) fn route(&self, method: &'static str, route: &'static str) -> Arc<RouteMetrics> {
        let metrics = Arc::new(RouteMetrics {
            method,
            route,
            statuses: std::array::from_fn(|_| AtomicU64::new(0)),
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            sum_us: AtomicU64::new(0),
        });
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&metrics));
        metrics
    }

    /// Counts a request in, unless `most` are in flight.
    pub(crate) fn enter(&self, most: usize) -> Option<InFlight<'_>> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let guard = InFlight(&self.in_flight);
        (before < most).then_some(guard)
    }

    /// Requests in flight now.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The counters in Prometheus' text format.
    pub(crate) fn render(&self, out: &mut String) {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        head(out, "agentry_http_requests_total", "counter", "Requests answered, by route template and status.");
        for route in &routes {
            for (status, count) in STATUSES.iter().zip(&route.statuses) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let (method, path) = (route.method, route.route);
                    let _ = writeln!(
                        out,
                        "agentry_http_requests_total{{method=\"{method}\",route=\"{path}\",status=\"{status}\"}} {count}"
                    );
                }
            }
        }
        head(out, "agentry_http_request_duration_seconds", "histogram", "Time to answer a request.");
        for route in &routes {
            route.render_durations(out);
        }
    }
}

impl RouteMetrics {
    fn render_durations(&self, out: &mut String) {
        const NAME: &str = "agentry_http_request_duration_seconds";
        let counts: Vec<u64> = self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return;
        }
        let labels = format!("method=\"{}\",route=\"{}\"", self.method, self.route);
        let mut below = 0;
        for (bound, count) in BUCKETS_US.iter().zip(&counts) {
            below += count;
            let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"{}\"}} {below}", seconds(*bound));
        }
        let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"+Inf\"}} {total}");
        let _ = writeln!(out, "{NAME}_sum{{{labels}}} {}", seconds(self.sum_us.load(Ordering::Relaxed)));
        let _ = writeln!(out, "{NAME}_count{{{labels}}} {total}");
    }
}

#[allow(clippy::cast_precision_loss, reason = "a sum of microseconds stays exact for 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// The two lines above a metric.
pub(crate) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fall_into_their_status_and_every_larger_bucket() {
        let metrics = HttpMetrics::default();
        let route = metrics.route("GET", "/x/{id}");
        route.observe(200, Duration::from_micros(700));
        route.observe(418, Duration::from_secs(20));
        let mut text = String::new();
        metrics.render(&mut text);
        for line in [
            "agentry_http_requests_total{method=\"GET\",route=\"/x/{id}\",status=\"200\"} 1",
            "agentry_http_requests_total{method=\"GET\",route=\"/x/{id}\",status=\"499\"} 1",
            "agentry_http_request_duration_seconds_bucket{method=\"GET\",route=\"/x/{id}\",le=\"0.0005\"} 0",
            "agentry_http_request_duration_seconds_bucket{method=\"GET\",route=\"/x/{id}\",le=\"0.001\"} 1",
            "agentry_http_request_duration_seconds_bucket{method=\"GET\",route=\"/x/{id}\",le=\"+Inf\"} 2",
            "agentry_http_request_duration_seconds_count{method=\"GET\",route=\"/x/{id}\"} 2",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn the_bound_on_requests_in_flight_holds_and_is_given_back() {
        let metrics = HttpMetrics::default();
        let first = metrics.enter(1);
        assert!(first.is_some() && metrics.enter(1).is_none());
        drop(first);
        assert!(metrics.enter(1).is_some());
        assert_eq!(metrics.in_flight(), 0);
    }
}
