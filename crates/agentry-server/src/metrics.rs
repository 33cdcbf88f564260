//! Counting requests: by route template and status, with a histogram of durations. Handles are kept by each route: no
//! lookup per request.

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

/// The statuses that are counted apart; others fall into the last slot of their class.
const STATUSES: [u16; 20] =
    [200, 201, 202, 204, 299, 399, 400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 499, 500, 503, 599];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfRoute {
    method: &'static str,
    route: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAnswer {
    method: &'static str,
    route: &'static str,
    status: u16,
}

/// Requests of one method on one route template.
#[derive(Debug)]
pub(crate) struct RouteMetrics {
    of: OfRoute,
    answers: Family<OfAnswer, Counter>,
    durations: Histogram,
}

impl RouteMetrics {
    /// Counts one request.
    pub(crate) fn observe(&self, status: u16, took: Duration) {
        let class_end = (status / 100) * 100 + 99;
        let last = STATUSES[STATUSES.len() - 1];
        let status = [status, class_end].into_iter().find(|status| STATUSES.contains(status)).unwrap_or(last);
        let OfRoute { method, route } = self.of;
        self.answers.get_or_create(&OfAnswer { method, route, status }).inc();
        self.durations.observe(took.as_secs_f64());
    }
}

/// All requests.
#[derive(Debug)]
pub(crate) struct HttpMetrics {
    answers: Family<OfAnswer, Counter>,
    durations: Family<OfRoute, Histogram, fn() -> Histogram>,
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

/// One request in flight.
pub(crate) struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl HttpMetrics {
    /// Shows the counters in a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests answered, by route template and status";
        registry.register("agentry_http_requests", help, self.answers.clone());
        registry.register("agentry_http_request_duration_seconds", "Time to answer a request", self.durations.clone());
    }

    /// The counters of a route; called once for each when the router is built.
    pub(crate) fn route(&self, method: &'static str, route: &'static str) -> Arc<RouteMetrics> {
        let of = OfRoute { method, route };
        let durations = self.durations.get_or_create_owned(&of);
        Arc::new(RouteMetrics { of, answers: self.answers.clone(), durations })
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
