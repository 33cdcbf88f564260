//! The output of a history: its log on request, and every panic in it, even if it was caught.

#![allow(clippy::print_stdout, reason = "the test runner keeps what a test prints")]

use std::cell::Cell;
use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Runs a history. A panic in a task of its runtimes would be caught there and lost; here it is a failure.
///
/// # Panics
/// Panics if any task of the history did.
pub fn failing_on_panics<T>(run: impl FnOnce() -> T) -> T {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        usual(info);
    }));
    let before = PANICS.load(Ordering::SeqCst);
    let result = if std::env::var_os("AGENTRY_SIM_LOG").is_some() {
        let write = |line: &str| println!("{} {line}", time());
        tracing::subscriber::with_default(Lines { level: Level::DEBUG, write }, run)
    } else {
        run()
    };
    assert_eq!(PANICS.load(Ordering::SeqCst), before, "[panics] a task of the history panicked");
    result
}

/// Returns the seconds since the runtime of this life began; nothing outside of one.
fn time() -> String {
    thread_local! {
        static BEGAN: Cell<Option<(tokio::runtime::Id, tokio::time::Instant)>> = const { Cell::new(None) };
    }
    let Ok(runtime) = tokio::runtime::Handle::try_current().map(|handle| handle.id()) else { return String::new() };
    let now = tokio::time::Instant::now();
    let began = match BEGAN.get() {
        Some((known, began)) if known == runtime => began,
        _ => now,
    };
    BEGAN.set(Some((runtime, began)));
    format!("{:8.3}", now.duration_since(began).as_secs_f64())
}

/// Passes the events of Agentry up to a level to a function, each as a line of its target and fields.
pub struct Lines<F> {
    pub level: Level,
    pub write: F,
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl<F: Fn(&str) + Send + Sync + 'static> Subscriber for Lines<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with("agentry")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{} ", event.metadata().target().trim_start_matches("agentry_orchestrator::")));
        event.record(&mut line);
        (self.write)(&line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Returns the warnings and errors that are logged on this thread, a line each.
pub fn warnings_of(run: impl FnOnce()) -> Vec<String> {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&warnings);
    let write = move |line: &str| kept.lock().expect("warnings").push(line.to_owned());
    tracing::subscriber::with_default(Lines { level: Level::WARN, write }, run);
    warnings.lock().expect("warnings").clone()
}
