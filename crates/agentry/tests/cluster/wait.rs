//! Waiting, in a test.

use std::time::{Duration, Instant};

use tokio::time::sleep;

/// Time between two looks: each is a query or a request.
const POLL: Duration = Duration::from_millis(20);

/// Waits until `look` finds something, up to a limit.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < limit, "waited {} s in vain for {what}", limit.as_secs());
        sleep(POLL).await;
    }
}
