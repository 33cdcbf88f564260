//! The log filter, which can be changed at run time, permanently or for a time.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agentry_core::trace::TARGET;
use agentry_server::{BadLogFilter, LogControl, LogState};
use tokio::sync::Notify;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber, span};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::{EnvFilter, reload};

use super::format::LineFormat;
use super::throttle::{Throttle, WINDOW};
use crate::out;

/// The error of an invalid filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadFilter {
    /// The invalid directive.
    pub directive: String,
    /// Its column in characters, from 1.
    pub column: usize,
    /// The reason.
    pub problem: String,
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` at column {}: {}", self.directive, self.column, self.problem)
    }
}

/// Parses a filter such as `info,agentry_bus=debug`.
fn parse(text: &str) -> Result<EnvFilter, BadFilter> {
    let mut column = 1;
    for directive in text.split(',') {
        let shown = directive.trim();
        let bad = |problem: String| BadFilter { directive: shown.to_owned(), column, problem };
        if shown.is_empty() {
            return Err(bad("expected a level or MODULE=LEVEL between two commas".to_owned()));
        }
        // A word alone is a level; the library would take a misspelt one for a module.
        if !shown.contains(['=', '[', ':', '_']) && shown.parse::<LevelFilter>().is_err() {
            return Err(bad("expected off, error, warn, info, debug or trace, or MODULE=LEVEL".to_owned()));
        }
        EnvFilter::try_new(shown).map_err(|error| bad(error.to_string()))?;
        column += directive.chars().count() + 1;
    }
    let bad = |error: tracing_subscriber::filter::ParseError| BadFilter {
        directive: text.to_owned(),
        column: 1,
        problem: error.to_string(),
    };
    let filter = EnvFilter::try_new(text).map_err(bad)?;
    // lapin warns with the whole body of every event that nobody listens to, which is how events usually are; rmcp logs
    // messages of MCP servers, and what matters of them is logged by us.
    let quiet = [("lapin", "lapin::returned_messages=off"), ("rmcp", "rmcp=off")];
    Ok(quiet.into_iter().fold(filter, |filter, (library, quiet)| match quiet.parse() {
        Ok(quiet) if !text.contains(library) => filter.add_directive(quiet),
        _ => filter,
    }))
}

/// The filter of log lines: the current filter and the throttle. Spans always pass, because lines have their ids.
pub struct LogFilter<S> {
    set: reload::Layer<EnvFilter, S>,
    throttle: Arc<Throttle>,
    lines: LineFormat,
}

impl<S: Subscriber> LogFilter<S> {
    /// Returns a filter and its controller.
    pub fn new(
        text: &str,
        throttle: Arc<Throttle>,
        lines: LineFormat,
    ) -> Result<(Self, Arc<LogController>), BadFilter> {
        let filter = parse(text)?;
        let (set, handle) = reload::Layer::new(filter);
        // Fails only when the subscriber is gone, and with it all logs.
        let apply = Box::new(move |filter| drop(handle.reload(filter)));
        let steering = LogController {
            lines,
            throttle: Arc::clone(&throttle),
            apply,
            state: Mutex::new(State { permanent: text.to_owned(), temporary: None }),
            changed: Notify::new(),
        };
        Ok((Self { set, throttle, lines }, Arc::new(steering)))
    }
}

fn is_trace(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target() == TARGET
}

impl<S: Subscriber> Filter<S> for LogFilter<S> {
    fn enabled(&self, metadata: &Metadata<'_>, context: &Context<'_, S>) -> bool {
        is_trace(metadata) || Filter::enabled(&self.set, metadata, context)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if is_trace(metadata) { Interest::always() } else { Filter::callsite_enabled(&self.set, metadata) }
    }

    fn event_enabled(&self, event: &Event<'_>, context: &Context<'_, S>) -> bool {
        if !Filter::event_enabled(&self.set, event, context) {
            return false;
        }
        let (passes, suppressed) = self.throttle.admits(event);
        if let Some(suppressed) = suppressed {
            out::eprint(&self.lines.suppressed(&suppressed));
        }
        passes
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::max_level_hint(&self.set).map(|hint| hint.max(LevelFilter::INFO))
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        Filter::on_new_span(&self.set, attributes, id, context);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        Filter::on_record(&self.set, id, values, context);
    }

    fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
        Filter::on_enter(&self.set, id, context);
    }

    fn on_exit(&self, id: &span::Id, context: Context<'_, S>) {
        Filter::on_exit(&self.set, id, context);
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        Filter::on_close(&self.set, id, context);
    }
}

/// Controls the log filter of the process.
pub struct LogController {
    lines: LineFormat,
    throttle: Arc<Throttle>,
    apply: Box<dyn Fn(EnvFilter) + Send + Sync>,
    state: Mutex<State>,
    /// Notified when the filter changes.
    changed: Notify,
}

struct State {
    /// The permanent filter.
    permanent: String,
    /// The temporary filter and its end.
    temporary: Option<(String, Instant)>,
}

impl LogController {
    /// Restores the permanent filter in time, and prints suppressed warnings. Runs until dropped.
    pub async fn watch(&self) {
        loop {
            let until = self.state.lock().unwrap_or_else(PoisonError::into_inner).temporary.as_ref().map(|(_, at)| *at);
            let left = until.map_or(WINDOW, |until| until.saturating_duration_since(Instant::now()).min(WINDOW));
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                () = self.changed.notified() => {}
            }
            self.fall_back(Instant::now());
            self.print(self.throttle.take_expired(Instant::now()));
        }
    }

    /// Restores the permanent filter if the time of the temporary one is over.
    fn fall_back(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.temporary.as_ref().is_none_or(|(_, until)| now < *until) {
            return;
        }
        state.temporary = None;
        // It was valid when it was set.
        if let Ok(filter) = parse(&state.permanent) {
            (self.apply)(filter);
        }
        let permanent = state.permanent.clone();
        drop(state);
        tracing::info!(filter = permanent, "the permanent log filter is restored");
    }

    /// Prints the suppressed warnings at the end of the process.
    pub fn end(&self) {
        self.print(self.throttle.take_all());
    }

    fn print(&self, suppressed: Vec<super::throttle::SuppressedWarnings>) {
        for suppressed in suppressed {
            out::eprint(&self.lines.suppressed(&suppressed));
        }
    }
}

impl LogControl for LogController {
    fn current(&self) -> LogState {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match &state.temporary {
            Some((filter, until)) => {
                let left = until.saturating_duration_since(Instant::now());
                LogState { filter: filter.clone(), then: Some((state.permanent.clone(), left)) }
            }
            None => LogState { filter: state.permanent.clone(), then: None },
        }
    }

    fn set(&self, text: &str, time: Option<Duration>) -> Result<(), BadLogFilter> {
        let filter = parse(text).map_err(|bad| BadLogFilter(bad.to_string()))?;
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            match time {
                Some(time) => state.temporary = Some((text.to_owned(), Instant::now() + time)),
                None => *state = State { permanent: text.to_owned(), temporary: None },
            }
            (self.apply)(filter);
        }
        self.changed.notify_one();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::Registry;

    use super::*;

    #[test]
    fn a_bad_filter_is_named_with_its_place() {
        for (text, directive, column) in [
            ("infoo", "infoo", 1),
            ("info,agentry_bus=loud", "agentry_bus=loud", 6),
            ("info,,warn", "", 6),
            ("", "", 1),
            ("info, debgu", "debgu", 6),
        ] {
            let bad = parse(text).map(drop).unwrap_err();
            assert_eq!((bad.directive.as_str(), bad.column), (directive, column), "{text}: {bad}");
        }
        for text in ["warn", "info,agentry_store=debug", "off", "agentry_server::serve=trace", "debug,lapin=warn"] {
            assert!(parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_filter_for_a_time_gives_way_to_the_usual_one() {
        let lines = LineFormat::new(agentry_config::LogFormat::Text);
        let (_filter, steering) = LogFilter::<Registry>::new("warn", Arc::default(), lines).unwrap();
        let permanent = "warn".to_owned();
        steering.set("debug", Some(Duration::from_secs(60))).unwrap();
        let state = steering.current();
        assert!(state.filter == "debug" && state.then.is_some_and(|(then, _)| then == permanent));
        steering.fall_back(Instant::now());
        assert_eq!(steering.current().filter, "debug", "its time is not over");
        assert!(steering.set("debgu", None).is_err());
        assert_eq!(steering.current().filter, "debug", "a bad one changes nothing");
        steering.fall_back(Instant::now() + Duration::from_secs(60));
        assert_eq!(steering.current(), LogState { filter: permanent, then: None });
        steering.set("error", None).unwrap();
        assert_eq!(steering.current(), LogState { filter: "error".to_owned(), then: None });
    }
}
