//! `/v1/bench/reports` and `/bench/{name}`: reports of the validation suite, from a folder.

use std::path::{Path as FilePath, PathBuf};
use std::time::UNIX_EPOCH;

use agentry_api::{ReportList, ReportView};
use agentry_core::time::Timestamp;
use axum::extract::{Path, State};
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;

use crate::problem::{ApiProblem, ApiResult, Code, ProblemBody};
use crate::state::AppState;

/// The most listed reports; the newest are listed.
const MAX_REPORTS: usize = 200;
/// The largest served report, in bytes.
const MAX_BYTES: u64 = 64 << 20;
/// The file name of a report.
const PAGE: &str = "report.html";
/// The content security policy: reports use inline scripts and styles, in a sandbox without network access.
const POLICY: &str = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
     img-src data:; frame-ancestors 'none'";

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && name.chars().all(plain)
}

fn look(folder: &FilePath) -> Vec<ReportView> {
    let mut found: Vec<ReportView> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok().filter(|name| is_name(name))?;
            let written = std::fs::metadata(entry.path().join(PAGE)).ok()?.modified().ok()?;
            let micros = written.duration_since(UNIX_EPOCH).ok()?.as_micros();
            Some(ReportView { name, written_at: Timestamp(i64::try_from(micros).unwrap_or(i64::MAX)) })
        })
        .collect();
    found.sort_by_key(|report| std::cmp::Reverse(report.written_at));
    found.truncate(MAX_REPORTS);
    found
}

fn broke(error: &tokio::task::JoinError) -> ApiProblem {
    tracing::error!(%error, "reading the reports failed");
    ApiProblem::new(Code::Internal, "the reports could not be read; the log has the reason")
}

/// Lists reports of the validation suite
#[utoipa::path(
    get, path = "/v1/bench/reports", tag = "bench",
    responses((status = 200, description = "The reports in the folder", body = ReportList))
)]
pub(crate) async fn list(State(state): State<AppState>) -> ApiResult {
    let folder: PathBuf = state.deps.reports.clone();
    let shown = folder.display().to_string();
    let items = tokio::task::spawn_blocking(move || look(&folder)).await.map_err(|error| broke(&error))?;
    Ok(axum::Json(ReportList { folder: shown, items }).into_response())
}

/// Returns a report of the validation suite
#[utoipa::path(
    get, path = "/bench/{name}", tag = "bench", params(("name" = String, Path)),
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 404, description = "No such report", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn get(State(state): State<AppState>, Path(name): Path<String>) -> ApiResult {
    let shown: String = name.chars().take(80).collect();
    let none = || ApiProblem::new(Code::UnknownReport, format!("there is no report `{shown}`"));
    if !is_name(&name) {
        return Err(none());
    }
    let file = state.deps.reports.join(&name).join(PAGE);
    let size = tokio::fs::metadata(&file).await.map_err(|_| none())?.len();
    if size > MAX_BYTES {
        return Err(ApiProblem::new(Code::BodyTooLarge, format!("the report has {size} bytes; open the file itself")));
    }
    let bytes = tokio::fs::read(&file).await.map_err(|_| none())?;
    let headers: [(HeaderName, &str); 2] =
        [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    Ok((headers, bytes).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        for good in ["quick-2026-11-25", "a_b.1"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", ".git", "a/b", "a\\b", "%2e", "ü"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
