//! Serving, the same for both simulators.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use bytes::Bytes;
use futures_util::stream;
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Time that open connections have to end after shutdown began.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Serves `router` on `listener` until `shutdown`.
pub(crate) async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let end = async {
        shutdown.cancelled().await;
        sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        result = server.into_future() => result,
        () = end => Ok(()),
    }
}

/// Returns a response that is never sent: the server drops a head that it has not written when the body fails at once.
pub(crate) fn aborted_response() -> Response {
    let end = stream::once(std::future::ready(Err::<Bytes, _>(io::Error::from(io::ErrorKind::ConnectionAborted))));
    Body::from_stream(end).into_response()
}

/// Locks state that a panic elsewhere leaves usable, so a poisoned lock is ignored.
pub(crate) fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
