//! A rate limit of warnings per callsite: in an outage thousands of equal lines would hide the first one. Suppressed
//! warnings are counted, and the count is printed at the end of the window.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};

/// The window over which warnings of a callsite are counted.
pub const WINDOW: Duration = Duration::from_secs(10);
/// The most warnings of a callsite per window; more are suppressed.
const MAX_IN_WINDOW: u32 = 5;
/// The most counted callsites; Agentry and its libraries have a few hundred warnings.
const MAX_CALLSITES: usize = 4_096;
/// The longest stored text of a warning, in characters.
const MAX_TEXT: usize = 200;

/// Limits the warnings of each callsite.
#[derive(Default)]
pub struct Throttle {
    counts: Mutex<HashMap<Identifier, Count>>,
}

struct Count {
    metadata: &'static Metadata<'static>,
    since: Instant,
    passed: u32,
    suppressed: u64,
    /// The text of the first suppressed warning.
    text: String,
}

impl Count {
    fn report(self) -> Option<SuppressedWarnings> {
        let Self { metadata, suppressed, text, .. } = self;
        (suppressed > 0).then_some(SuppressedWarnings { text, count: suppressed, metadata })
    }
}

/// Suppressed warnings of a callsite.
#[derive(Debug, PartialEq, Eq)]
pub struct SuppressedWarnings {
    /// The text of the first one.
    pub text: String,
    /// Their number.
    pub count: u64,
    /// The callsite.
    pub metadata: &'static Metadata<'static>,
}

impl Throttle {
    /// Returns whether an event passes, and the suppressed warnings of the previous window. Levels below [`Level::WARN`]
    /// always pass.
    pub fn admits(&self, event: &Event<'_>) -> (bool, Option<SuppressedWarnings>) {
        let metadata = event.metadata();
        // Levels order from the gravest to the finest.
        if *metadata.level() > Level::WARN {
            return (true, None);
        }
        self.admit(metadata, Instant::now(), || message(event))
    }

    fn admit(
        &self,
        metadata: &'static Metadata<'static>,
        now: Instant,
        text: impl FnOnce() -> String,
    ) -> (bool, Option<SuppressedWarnings>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let callsite = metadata.callsite();
        if counts.len() >= MAX_CALLSITES && !counts.contains_key(&callsite) {
            return (true, None);
        }
        let fresh = || Count { metadata, since: now, passed: 0, suppressed: 0, text: String::new() };
        let count = counts.entry(callsite).or_insert_with(fresh);
        let mut before = None;
        if now.duration_since(count.since) >= WINDOW {
            before = std::mem::replace(count, fresh()).report();
        }
        if count.passed < MAX_IN_WINDOW {
            count.passed += 1;
            return (true, before);
        }
        if count.suppressed == 0 {
            count.text = text();
        }
        count.suppressed += 1;
        (false, before)
    }

    /// Takes the suppressed warnings of expired windows.
    pub fn take_expired(&self, now: Instant) -> Vec<SuppressedWarnings> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let over = counts.extract_if(|_, count| now.duration_since(count.since) >= WINDOW);
        over.filter_map(|(_, count)| count.report()).collect()
    }

    /// Takes all suppressed warnings.
    pub fn take_all(&self) -> Vec<SuppressedWarnings> {
        self.take_expired(Instant::now() + WINDOW)
    }
}

/// The message of an event.
fn message(event: &Event<'_>) -> String {
    struct MessageText(String);
    impl tracing::field::Visit for MessageText {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}").chars().take(MAX_TEXT).collect();
            }
        }
    }
    let mut text = MessageText(String::new());
    event.record(&mut text);
    text.0
}

#[cfg(test)]
mod tests {
    use tracing::Callsite;

    use super::*;

    struct Here;
    static META: Metadata<'static> = tracing::metadata! {
        name: "here", target: "test", level: Level::WARN, fields: &[], callsite: &Here, kind: tracing::metadata::Kind::EVENT
    };

    impl Callsite for Here {
        fn set_interest(&self, _: tracing::subscriber::Interest) {}

        fn metadata(&self) -> &Metadata<'_> {
            &META
        }
    }

    #[test]
    fn equal_warnings_are_held_back_and_counted() {
        let (throttle, began) = (Throttle::default(), Instant::now());
        let warn = |at| throttle.admit(&META, at, || "it broke".to_owned());
        assert_eq!((0..100).filter(|_| warn(began).0).count(), 5);
        assert_eq!(throttle.take_expired(began), [], "not yet");
        let report = || SuppressedWarnings { text: "it broke".to_owned(), count: 95, metadata: &META };
        assert_eq!(throttle.take_expired(began + WINDOW), [report()], "told although nobody warns any more");
        assert_eq!(throttle.take_expired(began + WINDOW), [], "and once");
        assert_eq!((0..100).filter(|_| warn(began + WINDOW).0).count(), 5, "the next window lets the first ones pass");
        assert_eq!(warn(began + WINDOW * 2), (true, Some(report())), "or told by the next one, if that comes first");
    }

    #[test]
    fn what_stays_rare_is_never_held_back() {
        let (throttle, began) = (Throttle::default(), Instant::now());
        for n in 0..100 {
            assert_eq!(throttle.admit(&META, began + n * WINDOW / 4, String::new), (true, None), "{n}");
        }
        assert_eq!(throttle.take_all(), []);
    }
}
