//! `/debug/pprof/heap`: a heap profile of this process. It needs a binary built with the feature `heap-profile`, because a
//! profiling allocator costs performance.

use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::IntoParams;

use super::profile::{ProfileFormat, attachment};
use crate::extract::Query;
use crate::problem::ApiResult;

/// The query of a heap profile.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeapQuery {
    /// `pprof` (default, gzipped) or `flamegraph` (SVG).
    format: Option<ProfileFormat>,
}

/// Takes a heap profile of this process
///
/// Live allocations by call site, sampled once per 512 KiB. Only one profile can be taken at a time.
#[utoipa::path(
    get, path = "/debug/pprof/heap", tag = "health", params(HeapQuery),
    responses(
        (status = 200, description = "The profile", body = String, content_type = "application/octet-stream"),
        (status = 422, description = "An unknown format"),
        (status = 501, description = "This binary was built without heap profiles"),
    )
)]
pub(crate) async fn heap(Query(query): Query<HeapQuery>) -> ApiResult {
    let format = query.format.unwrap_or_default();
    let body = heap_profile(format).await?;
    Ok((attachment(format, "heap"), body).into_response())
}

#[cfg(all(feature = "heap-profile", target_os = "linux"))]
async fn heap_profile(format: ProfileFormat) -> ApiResult<Vec<u8>> {
    use crate::problem::{ApiProblem, Code};
    let off = "the allocator of this process does not profile: MALLOC_CONF turned it off";
    let control = jemalloc_pprof::PROF_CTL.as_ref().ok_or_else(|| ApiProblem::new(Code::NotBuilt, off))?;
    let failed = |error: String| ApiProblem::new(Code::Internal, format!("the profile failed: {error}"));
    // Symbolization is slow, so it runs on a blocking thread.
    let heap_profile = tokio::task::spawn_blocking(move || {
        let mut control = control.blocking_lock();
        match format {
            ProfileFormat::Pprof => control.dump_pprof(),
            ProfileFormat::Flamegraph => control.dump_flamegraph(),
        }
    });
    let heap_profile = heap_profile.await.map_err(|error| failed(error.to_string()))?;
    heap_profile.map_err(|error| failed(format!("{error:#}")))
}

#[cfg(not(all(feature = "heap-profile", target_os = "linux")))]
async fn heap_profile(_: ProfileFormat) -> ApiResult<Vec<u8>> {
    use crate::problem::{ApiProblem, Code};
    let text = "this binary was built without heap profiles: build one with `cargo build --release --features heap-profile`, \
                on Linux; it allocates with jemalloc and samples one allocation in 512 KiB";
    Err(ApiProblem::new(Code::NotBuilt, text))
}
