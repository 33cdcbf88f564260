//! Logs to standard error: which lines, in which form, and how often one line of code may complain.

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
use format::{Lines, NoFields};
use steer::LogFilter;
pub use steer::Steering;
use throttle::Throttle;

/// Logs to standard error by this filter, and hands spans to `spans`. The first call in a process counts.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start(filter: &str, format: LogFormat, spans: Option<SpanSink>) -> Result<Arc<Steering>, Failure> {
    let lines = Lines::new(format);
    let (filter, steering) = LogFilter::new(filter, Arc::new(Throttle::default()), lines).map_err(|bad| {
        Failure::usage(format!("`{filter}` is not a log filter: {bad}"))
            .help("for example warn, or info,agentry_store=debug")
    })?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).event_format(lines).fmt_fields(NoFields);
    // A second subscriber is refused; the first one serves.
    let _ = tracing_subscriber::registry().with(SpanLayer::filtered(spans)).with(lines.with_filter(filter)).try_init();
    Ok(steering)
}

/// Logs of verbs that are not servers: what goes wrong, and what `AGENTRY_LOG` asks for.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start_quiet() -> Result<Arc<Steering>, Failure> {
    let filter = std::env::var("AGENTRY_LOG").ok().filter(|filter| !filter.is_empty());
    start(filter.as_deref().unwrap_or("warn"), LogFormat::Text, None)
}
