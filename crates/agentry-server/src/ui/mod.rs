//! The dashboard: static files in the binary, without a framework. They use the public API, so everything they show is
//! available to other clients too.
//!
//! A strict content security policy keeps text of agents and users from becoming code: scripts are loaded from these
//! files only, and the files render all text as text nodes.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};

/// The content security policy: pages load their own files and call their own server only, and cannot be framed.
pub(crate) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// A file of the dashboard.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    /// The entity tag: a hash of the bytes.
    tag: String,
}

macro_rules! assets {
    ($($name:literal, $kind:expr;)*) => {
        /// The files, in no order.
        static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| vec![
            $(asset($name, $kind, include_bytes!(concat!("assets/", $name))),)*
        ]);
    };
}

assets! {
    "index.html", HTML;
    "look.css", "text/css; charset=utf-8";
    "icon.svg", "image/svg+xml";
    "app.js", JS; "dom.js", JS; "api.js", JS; "parts.js", JS; "plots.js", JS;
    "fleet.js", JS; "agent.js", JS; "tasks.js", JS; "task.js", JS; "timeline.js", JS; "plan.js", JS;
    "sessions.js", JS; "session.js", JS; "schedules.js", JS; "people.js", JS; "letters.js", JS;
    "workers.js", JS; "usage.js", JS; "bench.js", JS; "access.js", JS; "signin.js", JS;
}

fn asset(name: &'static str, kind: &'static str, bytes: &'static [u8]) -> Asset {
    let hash = Sha256::digest(bytes);
    let tag = format!("\"{}\"", hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>());
    Asset { name, kind, bytes, tag }
}

fn send(asset: &'static Asset, headers: &HeaderMap) -> Response {
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let same = known.is_some_and(|known| known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == asset.tag));
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = Bytes::from_static(asset.bytes).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
        response
    };
    let headers = response.headers_mut();
    headers.extend(HeaderValue::from_str(&asset.tag).map(|tag| (header::ETAG, tag)));
    // Revalidated each time and answered with 304, so that a new binary takes effect at once.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

/// Shows the dashboard
#[utoipa::path(
    get, path = "/", tag = "dashboard",
    responses((status = 200, description = "A page", body = String, content_type = "text/html"))
)]
pub(crate) async fn index(headers: HeaderMap) -> ApiResult {
    let page =
        find("index.html").ok_or_else(|| ApiProblem::new(Code::Internal, "the dashboard is not in this binary"))?;
    Ok(send(page, &headers))
}

/// Returns a file of the dashboard
#[utoipa::path(
    get, path = "/ui/{file}", tag = "dashboard", params(("file" = String, Path)),
    responses(
        (status = 200, description = "The file", body = String, content_type = "text/javascript"),
        (status = 304, description = "Not modified"),
        (status = 404, description = "No such file", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn file(Path(name): Path<String>, headers: HeaderMap) -> ApiResult {
    let asset = find(&name).filter(|asset| asset.name != "index.html").ok_or_else(|| {
        let name: String = name.chars().take(80).collect();
        ApiProblem::new(Code::RouteNotFound, format!("the dashboard has no file `{name}`"))
    })?;
    Ok(send(asset, &headers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most bytes that all files may have together: what the first page may transfer.
    const MAX_BYTES: usize = 150_000;

    #[test]
    fn the_dashboard_is_small_and_has_no_way_for_markup_from_outside() {
        let all: usize = ASSETS.iter().map(|asset| asset.bytes.len()).sum();
        assert!(all <= MAX_BYTES, "{all} bytes");
        for asset in ASSETS.iter().filter(|asset| asset.kind == JS) {
            let text = std::str::from_utf8(asset.bytes).unwrap();
            for way in [
                "innerHTML =",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "http://",
                "https://",
            ] {
                let allowed =
                    way == "http://" && text.contains("http://www.w3.org/2000/svg") && text.matches(way).count() == 1;
                assert!(!text.contains(way) || allowed, "{} has {way}", asset.name);
            }
            for import in text.split("from \"./").skip(1) {
                let name = import.split('"').next().unwrap();
                assert!(find(name).is_some(), "{} imports {name}, which is not served", asset.name);
            }
        }
    }
}
