//! `/debug/pprof/profile`: a CPU profile of this process, as pprof or flame graph.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use pprof::protos::Message as _;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::extract::Query;
use crate::problem::{ApiProblem, ApiResult, Code};
use crate::state::AppState;

/// Samples per second of CPU time; not a round number, so that they do not coincide with timers.
const FREQUENCY_HZ: i32 = 99;
/// Libraries whose functions must not be interrupted by a sample.
const BLOCKLIST: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];
/// The longest profile, in seconds; proxies and clients time out on longer responses.
const MAX_SECONDS: u64 = 60;
/// The default duration of a profile, in seconds.
const DEFAULT_SECONDS: u64 = 30;

/// The query of a CPU profile.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProfileQuery {
    /// Duration in seconds, 1 to 60; default 30.
    seconds: Option<u64>,
    /// `pprof` (default) or `flamegraph` (SVG).
    format: Option<ProfileFormat>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Format)]
pub(crate) enum ProfileFormat {
    #[default]
    Pprof,
    Flamegraph,
}

/// Takes a CPU profile of this process
///
/// Ninety-nine samples per second of CPU time, over all threads. Only one profile can be taken at a time. An idle process
/// has few samples or none.
#[utoipa::path(
    get, path = "/debug/pprof/profile", tag = "health", params(ProfileQuery),
    responses(
        (status = 200, description = "The profile", body = String, content_type = "application/octet-stream"),
        (status = 422, description = "Not 1 to 60 seconds, or an unknown format"),
        (status = 409, description = "Another profile is being taken"),
    )
)]
pub(crate) async fn profile(State(state): State<AppState>, Query(query): Query<ProfileQuery>) -> ApiResult {
    let seconds = query.seconds.unwrap_or(DEFAULT_SECONDS);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(ApiProblem::new(Code::InvalidQuery, format!("`seconds` is {seconds}; give 1 to {MAX_SECONDS}")));
    }
    let Ok(_one) = state.profiling.try_lock() else {
        let text = "another profile is being taken, and there can be one at a time; ask again when it has ended";
        return Err(ApiProblem::new(Code::ProfileUnderWay, text));
    };
    let guard = blocking(start).await?;
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        // On shutdown the profile ends early.
        () = state.shutdown.cancelled() => {}
    }
    let format = query.format.unwrap_or_default();
    let body = blocking(move || encode(&guard.report().build()?, format)).await?;
    Ok((attachment(format, "profile"), body).into_response())
}

/// Returns the headers of a profile: media type and file name.
pub(crate) fn attachment(format: ProfileFormat, name: &str) -> [(HeaderName, String); 2] {
    let (kind, place) = match format {
        ProfileFormat::Pprof => ("application/octet-stream", format!("attachment; filename=\"{name}.pb\"")),
        ProfileFormat::Flamegraph => ("image/svg+xml", format!("inline; filename=\"{name}.svg\"")),
    };
    [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, place)]
}

fn start() -> pprof::Result<ProfilerGuard<'static>> {
    ProfilerGuardBuilder::default().frequency(FREQUENCY_HZ).blocklist(&BLOCKLIST).build()
}

fn encode(report: &Report, format: ProfileFormat) -> pprof::Result<Vec<u8>> {
    let mut body = Vec::new();
    match format {
        // The library returns an error for a flame graph without samples.
        ProfileFormat::Flamegraph if report.data.is_empty() => body.extend_from_slice(NOTHING.as_bytes()),
        ProfileFormat::Flamegraph => report.flamegraph(&mut body)?,
        ProfileFormat::Pprof => body = report.pprof()?.write_to_bytes().map_err(|_| pprof::Error::CreatingError)?,
    }
    Ok(body)
}

/// The flame graph of an idle process.
const NOTHING: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"600\" height=\"40\"><text x=\"8\" y=\"24\" \
                       font-family=\"sans-serif\" font-size=\"14\">no samples: the process was idle</text></svg>\n";

/// Runs work on a blocking thread: symbolization is slow.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> pprof::Result<T> + Send + 'static) -> ApiResult<T> {
    let failed = |error: String| ApiProblem::new(Code::Internal, format!("the profile failed: {error}"));
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.to_string()))?;
    done.map_err(|error| failed(error.to_string()))
}
