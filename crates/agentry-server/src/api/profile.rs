//! `/debug/pprof/profile`: where this process spends its processor time, as a profile or a picture.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::IntoResponse;
use pprof::protos::Message as _;
use pprof::{ProfilerGuard, ProfilerGuardBuilder, Report};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::extract::Query;
use crate::problem::{Answer, Code, Problem};
use crate::state::AppState;

/// Samples in a second of processor time: not a round number, so that they do not fall in step with timers.
const FREQUENCY: i32 = 99;
/// Libraries whose functions must not be interrupted for a sample.
const NOT_IN: [&str; 4] = ["libc", "libgcc", "pthread", "vdso"];
/// The longest profile: proxies and clients give up on answers that take longer.
const MAX_SECONDS: u64 = 60;
/// How long a profile takes when nobody says.
const SECONDS: u64 = 30;

/// What is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// How long to look, 1 to 60; 30 by default.
    seconds: Option<u64>,
    /// `pprof` (default) for `go tool pprof` and its like, or `flamegraph` for a picture.
    format: Option<Format>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    #[default]
    Pprof,
    Flamegraph,
}

/// Takes a processor profile of this process
///
/// Ninety-nine samples for each second of processor time, of all threads. One profile at a time. An idle process has few
/// samples, or none.
#[utoipa::path(
    get, path = "/debug/pprof/profile", tag = "health", params(Wanted),
    responses(
        (status = 200, description = "The profile", body = String, content_type = "application/octet-stream"),
        (status = 422, description = "Not 1 to 60 seconds, or an unknown format"),
        (status = 409, description = "Another profile is being taken"),
    )
)]
pub(crate) async fn profile(State(state): State<AppState>, Query(wanted): Query<Wanted>) -> Answer {
    let seconds = wanted.seconds.unwrap_or(SECONDS);
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(Problem::new(Code::InvalidQuery, format!("`seconds` is {seconds}; give 1 to {MAX_SECONDS}")));
    }
    let Ok(_one) = state.profiling.try_lock() else {
        let text = "another profile is being taken, and there can be one at a time; ask again when it has ended";
        return Err(Problem::new(Code::ProfileUnderWay, text));
    };
    let guard = blocking(start).await?;
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        // A shutdown ends it early: what was seen until then is answered.
        () = state.shutdown.cancelled() => {}
    }
    let format = wanted.format.unwrap_or_default();
    let body = blocking(move || written(&guard.report().build()?, format)).await?;
    Ok((attachment(format, "profile"), body).into_response())
}

/// What a profile is, and the file that a browser puts it into.
pub(crate) fn attachment(format: Format, name: &str) -> [(HeaderName, String); 2] {
    let (kind, place) = match format {
        Format::Pprof => ("application/octet-stream", format!("attachment; filename=\"{name}.pb\"")),
        Format::Flamegraph => ("image/svg+xml", format!("inline; filename=\"{name}.svg\"")),
    };
    [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, place)]
}

fn start() -> pprof::Result<ProfilerGuard<'static>> {
    ProfilerGuardBuilder::default().frequency(FREQUENCY).blocklist(&NOT_IN).build()
}

fn written(report: &Report, format: Format) -> pprof::Result<Vec<u8>> {
    let mut body = Vec::new();
    match format {
        // A picture of nothing is an error to the library; to who asked it is an idle process.
        Format::Flamegraph if report.data.is_empty() => body.extend_from_slice(NOTHING.as_bytes()),
        Format::Flamegraph => report.flamegraph(&mut body)?,
        Format::Pprof => body = report.pprof()?.write_to_bytes().map_err(|_| pprof::Error::CreatingError)?,
    }
    Ok(body)
}

/// The picture of a process that did nothing.
const NOTHING: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"600\" height=\"40\"><text x=\"8\" y=\"24\" \
                       font-family=\"sans-serif\" font-size=\"14\">no samples: the process was idle</text></svg>\n";

/// Finding names for addresses takes long: not on the executor.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> pprof::Result<T> + Send + 'static) -> Answer<T> {
    let failed = |error: String| Problem::new(Code::Internal, format!("the profile failed: {error}"));
    let done = tokio::task::spawn_blocking(work).await.map_err(|error| failed(error.to_string()))?;
    done.map_err(|error| failed(error.to_string()))
}
