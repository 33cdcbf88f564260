//! Logs to standard error, with a bound on how often one line of code may warn: an outage makes every loop and every
//! request complain, and thousands of equal lines hide the first one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentry_config::LogFormat;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::failure::Failure;
use crate::out;

/// The time over which warnings of one line of code are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Warnings of one line of code in a window; the others are counted and told with the next one.
const MAX_IN_WINDOW: u32 = 5;
/// Lines of code that are counted at most: Agentry and its libraries have some hundred that warn.
const MAX_CALLSITES: usize = 4_096;

/// Logs to standard error by this filter. The first call in a process counts.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start(filter: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("`{filter}` is not a log filter: {error}"))
            .help("for example warn, or info,agentry_store=debug")
    })?;
    // lapin warns with the whole body of every event that nobody listens to, which is how events usually are; rmcp logs
    // messages of MCP servers, and what matters of them is logged by us.
    let filter = [("lapin", "lapin::returned_messages=off"), ("rmcp", "rmcp=off")].into_iter().fold(
        filter,
        |filter, (library, quiet)| match quiet.parse() {
            Ok(quiet) if !filter.to_string().contains(library) => filter.add_directive(quiet),
            _ => filter,
        },
    );
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.with_ansi(out::colour_err()).with_target(false).boxed(),
    };
    let throttle = Throttle { format, counts: Mutex::default() };
    // A second subscriber is refused; the first one serves.
    let _ = tracing_subscriber::registry().with(lines.with_filter(throttle)).with(filter).try_init();
    Ok(())
}

/// Logs of verbs that are not servers: what goes wrong, and what `AGENTRY_LOG` asks for.
///
/// # Errors
/// When the filter cannot be understood.
pub fn start_quiet() -> Result<(), Failure> {
    let filter = std::env::var("AGENTRY_LOG").ok().filter(|filter| !filter.is_empty());
    start(filter.as_deref().unwrap_or("warn"), LogFormat::Text)
}

/// Lets the first warnings of each line of code pass.
struct Throttle {
    format: LogFormat,
    counts: Mutex<HashMap<Identifier, Count>>,
}

struct Count {
    since: Instant,
    passed: u32,
    held: u64,
}

impl Throttle {
    /// Whether a warning of this line of code passes, and how many were held back before it.
    fn admit(&self, callsite: Identifier, now: Instant) -> (bool, u64) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MAX_CALLSITES && !counts.contains_key(&callsite) {
            return (true, 0);
        }
        let count = counts.entry(callsite).or_insert(Count { since: now, passed: 0, held: 0 });
        let mut held = 0;
        if now.duration_since(count.since) >= WINDOW {
            held = count.held;
            *count = Count { since: now, passed: 0, held: 0 };
        }
        if count.passed >= MAX_IN_WINDOW {
            count.held += 1;
            return (false, 0);
        }
        count.passed += 1;
        (true, held)
    }
}

impl<S: Subscriber> Filter<S> for Throttle {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Levels order from the gravest to the finest.
        if *metadata.level() > Level::WARN {
            return true;
        }
        let (passes, held) = self.admit(metadata.callsite(), Instant::now());
        if held > 0 {
            let (file, line) = (metadata.file().unwrap_or("?"), metadata.line().unwrap_or(0));
            let message = format!("{held} more lines like the next one were held back ({file}:{line})");
            out::complain(&match self.format {
                LogFormat::Text => format!("{message}\n"),
                LogFormat::Json => format!("{}\n", serde_json::json!({"level": "WARN", "message": message})),
            });
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use tracing::Callsite as _;

    use super::*;

    struct Here;
    static META: Metadata<'static> = tracing::metadata! {
        name: "here", target: "test", level: Level::WARN, fields: &[], callsite: &Here, kind: tracing::metadata::Kind::EVENT
    };

    impl tracing::Callsite for Here {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            &META
        }
    }

    #[test]
    fn equal_warnings_are_held_back_and_counted() {
        let (throttle, began) = (Throttle { format: LogFormat::Text, counts: Mutex::default() }, Instant::now());
        let here = || Here.metadata().callsite();
        let passed = (0..100).filter(|_| throttle.admit(here(), began).0).count();
        assert_eq!(passed, 5);
        assert_eq!(throttle.admit(here(), began + WINDOW), (true, 95), "the next window tells how many");
        assert_eq!(throttle.admit(here(), began + WINDOW), (true, 0));
    }
}
