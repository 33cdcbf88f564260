//! The access that each route requires, by method and template.

use agentry_core::access::Scope;
use axum::http::Method;

/// The access that a route requires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteAccess {
    /// No key: probes, the files of the dashboard, signing in; and Slack, whose requests are signed.
    Open,
    /// A key with the scope read, unless the server listens on loopback only: metrics.
    Scrape,
    /// A key with this scope.
    Scope(Scope),
}

/// Probes, and the routes that a page needs before sign-in.
const OPEN: [&str; 7] = ["/health/live", "/health/ready", "/", "/ui/{file}", "/v1/me", "/v1/sign-in", "/v1/sign-out"];

/// Returns the access that a route requires.
pub(crate) fn route_access(method: &str, path: &str) -> RouteAccess {
    if OPEN.contains(&path) || path.starts_with("/slack/") {
        return RouteAccess::Open;
    }
    if path == "/metrics" {
        return RouteAccess::Scrape;
    }
    let admin = ["/v1/keys", "/v1/audit", "/v1/log", "/debug/"].iter().any(|prefix| path.starts_with(prefix));
    match method {
        _ if admin => RouteAccess::Scope(Scope::Admin),
        "GET" | "HEAD" | "any" => RouteAccess::Scope(Scope::Read),
        // Changing the fleet needs more than submitting work to it.
        "DELETE" if path == "/v1/agents/{name}" => RouteAccess::Scope(Scope::Admin),
        _ if path == "/v1/agents/{name}/activate" => RouteAccess::Scope(Scope::Admin),
        // Validates a text and changes nothing.
        _ if path == "/v1/agents/validate" => RouteAccess::Scope(Scope::Read),
        _ => RouteAccess::Scope(Scope::Run),
    }
}

/// Returns whether a request can change state.
pub(crate) fn writes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Returns whether a write is audited. Submissions are not: a task is its own record, with its source, and there may be
/// thousands per second.
pub(crate) fn audited(method: &str, path: &str) -> bool {
    let accepts = ["/v1/tasks", "/v1/tasks/batch", "/v1/events", "/v1/agents/validate"].contains(&path);
    !matches!(method, "GET" | "HEAD" | "any") && !accepts && !path.starts_with("/slack/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new route without a key must be added to this list deliberately.
    #[test]
    fn only_these_routes_are_open() {
        let open: Vec<String> = crate::routes::table()
            .iter()
            .flat_map(|route| route.methods.iter().map(|(method, _)| format!("{method} {}", route.path)))
            .filter(|route| {
                let (method, path) = route.split_once(' ').unwrap();
                route_access(method, path) == RouteAccess::Open && !path.starts_with("/slack/")
            })
            .collect();
        let expected = [
            "GET /health/live",
            "GET /health/ready",
            "GET /",
            "GET /ui/{file}",
            "GET /v1/me",
            "POST /v1/sign-in",
            "POST /v1/sign-out",
        ];
        let sorted = |mut list: Vec<String>| {
            list.sort();
            list
        };
        assert_eq!(sorted(open), sorted(expected.map(str::to_owned).to_vec()));
    }

    #[test]
    fn writes_need_more_than_reads() {
        assert_eq!(route_access("GET", "/v1/tasks"), RouteAccess::Scope(Scope::Read));
        assert_eq!(route_access("POST", "/v1/tasks"), RouteAccess::Scope(Scope::Run));
        assert_eq!(route_access("GET", "/v1/keys"), RouteAccess::Scope(Scope::Admin));
        assert_eq!(route_access("DELETE", "/v1/agents/{name}"), RouteAccess::Scope(Scope::Admin));
        assert_eq!(route_access("POST", "/v1/agents/{name}/activate"), RouteAccess::Scope(Scope::Admin));
        assert_eq!(route_access("GET", "/v1/agents/{name}"), RouteAccess::Scope(Scope::Read));
        assert_eq!(
            (route_access("GET", "/v1/log"), route_access("PUT", "/v1/log")),
            (RouteAccess::Scope(Scope::Admin), RouteAccess::Scope(Scope::Admin))
        );
        assert!(audited("PUT", "/v1/log") && !audited("GET", "/v1/log"));
        assert_eq!(route_access("DELETE", "/v1/keys/{id}"), RouteAccess::Scope(Scope::Admin));
        assert!(audited("POST", "/v1/tasks/{id}/cancel") && !audited("POST", "/v1/tasks"));
    }
}
