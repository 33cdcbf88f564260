//! A bound on how often one line of code may warn: an outage makes every loop and every request complain, and thousands
//! of equal lines hide the first one. What is held back is counted, and the count is told when its time is over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};

/// The time over which warnings of one line of code are counted.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Warnings of one line of code in a window; the others are counted.
const MAX_IN_WINDOW: u32 = 5;
/// Lines of code that are counted at most: Agentry and its libraries have some hundred that warn.
const MAX_CALLSITES: usize = 4_096;
/// The longest text that is kept of a warning to name it later, in characters.
const MAX_TEXT: usize = 200;

/// Lets the first warnings of each line of code pass.
#[derive(Default)]
pub struct Throttle {
    counts: Mutex<HashMap<Identifier, Count>>,
}

struct Count {
    metadata: &'static Metadata<'static>,
    since: Instant,
    passed: u32,
    held: u64,
    /// What the first one that was held back said.
    text: String,
}

impl Count {
    fn told(self) -> Option<Held> {
        let Self { metadata, held, text, .. } = self;
        (held > 0).then_some(Held { text, count: held, metadata })
    }
}

/// Warnings that were held back.
#[derive(Debug, PartialEq, Eq)]
pub struct Held {
    /// What the first of them said.
    pub text: String,
    /// How many.
    pub count: u64,
    /// The line of code.
    pub metadata: &'static Metadata<'static>,
}

impl Throttle {
    /// Whether an event passes, and what was held back before it and not told yet. What is less grave than
    /// [`Level::WARN`] always passes.
    pub fn admits(&self, event: &Event<'_>) -> (bool, Option<Held>) {
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
    ) -> (bool, Option<Held>) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let callsite = metadata.callsite();
        if counts.len() >= MAX_CALLSITES && !counts.contains_key(&callsite) {
            return (true, None);
        }
        let fresh = || Count { metadata, since: now, passed: 0, held: 0, text: String::new() };
        let count = counts.entry(callsite).or_insert_with(fresh);
        let mut before = None;
        if now.duration_since(count.since) >= WINDOW {
            before = std::mem::replace(count, fresh()).told();
        }
        if count.passed < MAX_IN_WINDOW {
            count.passed += 1;
            return (true, before);
        }
        if count.held == 0 {
            count.text = text();
        }
        count.held += 1;
        (false, before)
    }

    /// What was held back in windows that are over, each told once. Also ends those windows.
    pub fn take_over(&self, now: Instant) -> Vec<Held> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let over = counts.extract_if(|_, count| now.duration_since(count.since) >= WINDOW);
        over.filter_map(|(_, count)| count.told()).collect()
    }

    /// Everything that was held back: the process ends.
    pub fn take_all(&self) -> Vec<Held> {
        self.take_over(Instant::now() + WINDOW)
    }
}

/// The message of an event.
fn message(event: &Event<'_>) -> String {
    struct Text(String);
    impl tracing::field::Visit for Text {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}").chars().take(MAX_TEXT).collect();
            }
        }
    }
    let mut text = Text(String::new());
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
        assert_eq!(throttle.take_over(began), [], "not yet");
        let told = || Held { text: "it broke".to_owned(), count: 95, metadata: &META };
        assert_eq!(throttle.take_over(began + WINDOW), [told()], "told although nobody warns any more");
        assert_eq!(throttle.take_over(began + WINDOW), [], "and once");
        assert_eq!((0..100).filter(|_| warn(began + WINDOW).0).count(), 5, "the next window lets the first ones pass");
        assert_eq!(warn(began + WINDOW * 2), (true, Some(told())), "or told by the next one, if that comes first");
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
