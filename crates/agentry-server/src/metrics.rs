//! Metrics of requests: counters by route template and status, and a histogram of durations. Each route has its own
//! handles, so that a request needs no lookup.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the duration histogram, in seconds.
const DURATIONS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0];

/// The statuses with their own counter; others count as the last status of their class.
const STATUSES: [u16; 20] =
    [200, 201, 202, 204, 299, 399, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 499, 500, 503, 599];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResponseLabels {
    method: &'static str,
    route: &'static str,
    status: u16,
}

/// The metrics of one method of one route template.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    of: RouteLabels,
    answers: Family<ResponseLabels, Counter>,
    durations: Histogram,
}

impl RouteMetrics {
    /// Records a request.
    pub(crate) fn observe(&self, status: u16, took: Duration) {
        let class_end = (status / 100) * 100 + 99;
        let last = STATUSES[STATUSES.len() - 1];
        let status = [status, class_end].into_iter().find(|status| STATUSES.contains(status)).unwrap_or(last);
        let RouteLabels { method, route } = self.of;
        self.answers.get_or_create(&ResponseLabels { method, route, status }).inc();
        self.durations.observe(took.as_secs_f64());
    }
}

/// The metrics of all requests.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    answers: Family<ResponseLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
    in_flight: AtomicUsize,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            answers: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(DURATIONS)),
            in_flight: AtomicUsize::new(0),
        }
    }
}

/// Decrements the number of requests in flight when dropped.
pub(crate) struct InFlightGuard<'a>(&'a AtomicUsize);

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HttpMetrics {
    /// Registers the metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests answered, by route template and status";
        registry.register("agentry_http_requests", help, self.answers.clone());
        registry.register("agentry_http_request_duration_seconds", "Time to answer a request", self.durations.clone());
    }

    /// Returns the metrics of a route; called once for each when the router is built.
    pub(crate) fn route(&self, method: &'static str, route: &'static str) -> Arc<RouteMetrics> {
        let of = RouteLabels { method, route };
        let durations = self.durations.get_or_create_owned(&of);
        Arc::new(RouteMetrics { of, answers: self.answers.clone(), durations })
    }

    /// Counts a request as in flight, unless `most` are.
    pub(crate) fn enter(&self, most: usize) -> Option<InFlightGuard<'_>> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let guard = InFlightGuard(&self.in_flight);
        (before < most).then_some(guard)
    }

    /// Returns the number of requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fall_into_their_status_and_every_larger_bucket() {
        let (metrics, mut registry, mut text) = (HttpMetrics::default(), Registry::default(), String::new());
        metrics.register(&mut registry);
        let route = metrics.route("GET", "/x/{id}");
        route.observe(200, Duration::from_micros(700));
        route.observe(418, Duration::from_secs(20));
        prometheus_client::encoding::prometheus_text::encode(&mut text, &registry).unwrap();
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
