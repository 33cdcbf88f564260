//! Scheduled: a slot started it; it runs as autonomous. The slot itself is decided by [`crate::scheduler`].

use crate::execute::ModeEnd;
use crate::run::{Run, Stop};

pub(super) async fn execute(run: &Run) -> Result<ModeEnd, Stop> {
    super::autonomous::execute(run).await
}
