//! `/debug/pprof/heap`: who holds the memory of this process. Only a binary that was built for it can tell: an allocator that
//! remembers where its memory was asked for costs every user something, and few of them ever look.

use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;

use super::profile::{Format, attachment};
use crate::extract::Query;
use crate::problem::Answer;

/// What is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// `pprof` (default, gzipped) for `go tool pprof` and its like, or `flamegraph` for a picture.
    format: Option<Format>,
}

/// Takes a profile of this process's memory
///
/// What is allocated now and where it was asked for, from a sample of one allocation in each 512 KiB. One profile at a time.
#[utoipa::path(
    get, path = "/debug/pprof/heap", tag = "health", params(Wanted),
    responses(
        (status = 200, description = "The profile", body = String, content_type = "application/octet-stream"),
        (status = 422, description = "An unknown format"),
        (status = 501, description = "This binary was built without heap profiles"),
    )
)]
pub(crate) async fn heap(Query(wanted): Query<Wanted>) -> Answer {
    let format = wanted.format.unwrap_or_default();
    let body = taken(format).await?;
    Ok((attachment(format, "heap"), body).into_response())
}

#[cfg(all(feature = "heap-profile", target_os = "linux"))]
async fn taken(format: Format) -> Answer<Vec<u8>> {
    use crate::problem::{Code, Problem};
    let off = "the allocator of this process does not profile: MALLOC_CONF turned it off";
    let control = jemalloc_pprof::PROF_CTL.as_ref().ok_or_else(|| Problem::new(Code::NotBuilt, off))?;
    let failed = |error: String| Problem::new(Code::Internal, format!("the profile failed: {error}"));
    // Finding names for addresses takes long: not on the executor.
    let taken = tokio::task::spawn_blocking(move || {
        let mut control = control.blocking_lock();
        match format {
            Format::Pprof => control.dump_pprof(),
            Format::Flamegraph => control.dump_flamegraph(),
        }
    });
    let taken = taken.await.map_err(|error| failed(error.to_string()))?;
    taken.map_err(|error| failed(format!("{error:#}")))
}

#[cfg(not(all(feature = "heap-profile", target_os = "linux")))]
async fn taken(_: Format) -> Answer<Vec<u8>> {
    use crate::problem::{Code, Problem};
    let text = "this binary was built without heap profiles: build one with `cargo build --release --features heap-profile`, \
                on Linux; it allocates with jemalloc and samples one allocation in 512 KiB";
    Err(Problem::new(Code::NotBuilt, text))
}
