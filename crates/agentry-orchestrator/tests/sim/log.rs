//! What a history says: its log on request, and every panic in it, wherever it was caught.

#![allow(clippy::print_stdout, reason = "the test runner keeps what a test prints")]

use std::cell::Cell;
use std::fmt::{Debug, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Runs a history. A panic in a task of its runtimes is caught there and would be lost; here it is a failure.
///
/// # Panics
/// When anything did.
pub fn failing_on_panics<T>(run: impl FnOnce() -> T) -> T {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        usual(info);
    }));
    let before = PANICS.load(Ordering::SeqCst);
    let result = if std::env::var_os("AGENTRY_SIM_LOG").is_some() {
        tracing::subscriber::with_default(Printed, run)
    } else {
        run()
    };
    assert_eq!(PANICS.load(Ordering::SeqCst), before, "[panics] a task of the history panicked");
    result
}

/// Prints every event of the history, with the time of the runtime that it happened in.
struct Printed;

/// Seconds since the runtime of this life began; nothing outside of one.
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

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Printed {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG && metadata.target().starts_with("agentry")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        println!("{} {} {}", time(), event.metadata().target().trim_start_matches("agentry_orchestrator::"), line.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
