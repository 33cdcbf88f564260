//! Logging to standard error: filter, format and rate limit.

mod format;
mod steer;
mod throttle;

use std::sync::Arc;

use agentry_config::LogFormat;
use tracing_subscriber::Layer as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::failure::Failure;
use crate::traces::{SpanLayer, SpanSink};
use format::{LineFormat, NoFields};
pub use steer::LogController;
use steer::LogFilter;
use throttle::Throttle;

/// Starts logging with this filter, and sends spans to `spans`. Only the first call in a process has an effect.
pub fn start(filter: &str, format: LogFormat, spans: Option<SpanSink>) -> Result<Arc<LogController>, Failure> {
    let lines = LineFormat::new(format);
    let (filter, steering) = LogFilter::new(filter, Arc::new(Throttle::default()), lines).map_err(|bad| {
        Failure::usage(format!("`{filter}` is not a log filter: {bad}"))
            .help("for example warn, or info,agentry_store=debug")
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(lines).fmt_fields(NoFields);
    // A second subscriber is refused; the first one serves.
    let _ = tracing_subscriber::registry().with(SpanLayer::filtered(spans)).with(lines.with_filter(filter)).try_init();
    Ok(steering)
}

/// Starts logging for commands that are not servers: warnings, or the filter of `AGENTRY_LOG`.
pub fn start_quiet() -> Result<Arc<LogController>, Failure> {
    let filter = std::env::var("AGENTRY_LOG").ok().filter(|filter| !filter.is_empty());
    start(filter.as_deref().unwrap_or("warn"), LogFormat::Text, None)
}
