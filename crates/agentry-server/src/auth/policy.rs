//! What each route needs, in one place: by method and template.

use agentry_core::access::Scope;
use axum::http::Method;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: probes, the dashboard's files, signing in; and Slack, which signs its requests.
    Nothing,
    /// To read, unless the server is for this machine only: scrapers.
    Scrape,
    /// A key with this scope.
    Scope(Scope),
}

/// Probes and what a page needs before somebody has signed in.
const OPEN: [&str; 7] = ["/health/live", "/health/ready", "/", "/ui/{file}", "/v1/me", "/v1/sign-in", "/v1/sign-out"];

/// What a route needs.
pub(crate) fn need(method: &str, path: &str) -> Need {
    if OPEN.contains(&path) || path.starts_with("/slack/") {
        return Need::Nothing;
    }
    if path == "/metrics" {
        return Need::Scrape;
    }
    let admin = ["/v1/keys", "/v1/audit", "/v1/log", "/debug/"].iter().any(|prefix| path.starts_with(prefix));
    match method {
        _ if admin => Need::Scope(Scope::Admin),
        "GET" | "HEAD" | "any" => Need::Scope(Scope::Read),
        // What the deployment runs is not for everybody who may give it work.
        "DELETE" if path == "/v1/agents/{name}" => Need::Scope(Scope::Admin),
        _ if path == "/v1/agents/{name}/activate" => Need::Scope(Scope::Admin),
        // Checks a text and changes nothing.
        _ if path == "/v1/agents/validate" => Need::Scope(Scope::Read),
        _ => Need::Scope(Scope::Run),
    }
}

/// Whether a request can change something.
pub(crate) fn writes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a write goes into the audit log. What accepts work does not: the task is its own record, with its source, and
/// comes thousands of times a second.
pub(crate) fn audited(method: &str, path: &str) -> bool {
    let accepts = ["/v1/tasks", "/v1/tasks/batch", "/v1/events", "/v1/agents/validate"].contains(&path);
    !matches!(method, "GET" | "HEAD" | "any") && !accepts && !path.starts_with("/slack/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A new route must be thought about: whoever adds one that nobody has to have a key for changes this list.
    #[test]
    fn only_these_routes_are_open() {
        let open: Vec<String> = crate::routes::table()
            .iter()
            .flat_map(|route| route.methods.iter().map(|(method, _)| format!("{method} {}", route.path)))
            .filter(|route| {
                let (method, path) = route.split_once(' ').unwrap();
                need(method, path) == Need::Nothing && !path.starts_with("/slack/")
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
        assert_eq!(need("GET", "/v1/tasks"), Need::Scope(Scope::Read));
        assert_eq!(need("POST", "/v1/tasks"), Need::Scope(Scope::Run));
        assert_eq!(need("GET", "/v1/keys"), Need::Scope(Scope::Admin));
        assert_eq!(need("DELETE", "/v1/agents/{name}"), Need::Scope(Scope::Admin));
        assert_eq!(need("POST", "/v1/agents/{name}/activate"), Need::Scope(Scope::Admin));
        assert_eq!(need("GET", "/v1/agents/{name}"), Need::Scope(Scope::Read));
        assert_eq!(
            (need("GET", "/v1/log"), need("PUT", "/v1/log")),
            (Need::Scope(Scope::Admin), Need::Scope(Scope::Admin))
        );
        assert!(audited("PUT", "/v1/log") && !audited("GET", "/v1/log"));
        assert_eq!(need("DELETE", "/v1/keys/{id}"), Need::Scope(Scope::Admin));
        assert!(audited("POST", "/v1/tasks/{id}/cancel") && !audited("POST", "/v1/tasks"));
    }
}
