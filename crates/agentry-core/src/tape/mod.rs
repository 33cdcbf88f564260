//! Tapes: recordings of the model and tool calls of a task.
//!
//! Recorded once, it answers the same questions again without a provider. A question that was not asked then is an error
//! that shows the first difference, so that a test of an agent sees what a change to it changed. No IO: who records takes
//! lines, who plays gives the text.

mod difference;
mod scrub;

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use difference::{Difference, difference};
pub use scrub::Scrubber;

/// Version of the tape format; a reader refuses others.
pub const FORMAT: u32 = 1;
/// Maximum number of entries of a tape.
pub const MAX_ENTRIES: usize = 100_000;
/// Maximum length of a value in a message.
const SHOWN: usize = 120;

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A call of a model.
    Model,
    /// A call of a tool.
    Tool,
    /// The tools that were offered to a model, where tool servers define them.
    Offer,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Model => "call of a model",
            Self::Tool => "call of a tool",
            Self::Offer => "list of tools",
        }
    }

    fn plural(self) -> &'static str {
        match self {
            Self::Model => "calls of models",
            Self::Tool => "calls of tools",
            Self::Offer => "lists of tools",
        }
    }
}

/// One line of a tape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Kind of the call.
    pub kind: Kind,
    /// The request, without the parts that differ from run to run.
    pub request: Value,
    /// The response: `{"ok": …}` or `{"error": …}`.
    pub outcome: Value,
    /// Duration, in microseconds.
    pub duration_us: u64,
}

/// The first line of a tape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`FORMAT`].
    pub agentry_tape: u32,
    /// Agent of the recorded task.
    pub agent: String,
    /// Input.
    pub input: Value,
}

/// Takes the lines of a tape, each without its newline.
pub type Lines = Box<dyn Fn(&str) + Send + Sync>;

/// Records a tape.
pub struct Recorder {
    scrubber: Scrubber,
    lines: Lines,
    count: Mutex<usize>,
}

impl Recorder {
    /// Starts a tape with this head, its secrets replaced.
    #[must_use]
    pub fn new(agent: &str, input: &Value, scrubber: Scrubber, lines: Lines) -> Self {
        let head = Head { agentry_tape: FORMAT, agent: agent.to_owned(), input: scrubber.value(input) };
        lines(&json!(head).to_string());
        Self { scrubber, lines, count: Mutex::default() }
    }

    /// Writes an entry.
    pub fn keep(&self, kind: Kind, request: &Value, outcome: &Value, duration_us: u64) {
        // Lines are written one at a time, in the order of the answers.
        let mut count = lock(&self.count);
        if *count >= MAX_ENTRIES {
            return;
        }
        *count += 1;
        let (request, outcome) = (self.scrubber.value(request), self.scrubber.value(outcome));
        (self.lines)(&json!(Entry { kind, request, outcome, duration_us }).to_string());
    }
}

/// Plays a tape.
#[derive(Debug)]
pub struct Player {
    scrubber: Scrubber,
    entries: Mutex<Vec<(Entry, bool)>>,
    mismatch: Mutex<Option<Mismatch>>,
}

/// A request that was not recorded, described by its first difference from the most similar recorded one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

/// The reason why a text is not a tape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTape {
    /// A line is invalid.
    #[error("line {line}: {reason}")]
    Line {
        /// Number of the line, from 1.
        line: usize,
        /// Reason.
        reason: String,
    },
    /// The format is of another version.
    #[error("its format is {0}, this version reads {FORMAT}; record it again")]
    Format(u32),
    /// The tape has too many entries.
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooLong,
}

impl Player {
    /// Parses a tape.
    ///
    /// # Errors
    /// See [`BadTape`].
    pub fn new(text: &str, scrubber: Scrubber) -> Result<Self, BadTape> {
        let bad = |line: usize, error: &serde_json::Error| BadTape::Line { line: line + 1, reason: error.to_string() };
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (at, first) = lines.next().unwrap_or((0, ""));
        let head: Head = serde_json::from_str(first).map_err(|error| bad(at, &error))?;
        if head.agentry_tape != FORMAT {
            return Err(BadTape::Format(head.agentry_tape));
        }
        let mut entries = Vec::new();
        for (at, line) in lines {
            if entries.len() >= MAX_ENTRIES {
                return Err(BadTape::TooLong);
            }
            let entry: Entry = serde_json::from_str(line).map_err(|error| bad(at, &error))?;
            entries.push((entry, false));
        }
        Ok(Self { scrubber, entries: Mutex::new(entries), mismatch: Mutex::default() })
    }

    /// Returns the recorded response to a request. Each entry answers once; equal requests are answered in their order.
    ///
    /// # Errors
    /// Returns the first difference from the recorded requests. The first such error is kept, see [`Player::mismatch`].
    pub fn answer(&self, kind: Kind, request: &Value) -> Result<Value, Mismatch> {
        let request = self.scrubber.value(request);
        let mut entries = lock(&self.entries);
        let mut open = entries.iter_mut().filter(|(entry, used)| entry.kind == kind && !used);
        if let Some((entry, used)) = open.find(|(entry, _)| difference(&entry.request, &request).is_none()) {
            *used = true;
            return Ok(entry.outcome.clone());
        }
        let open: Vec<&Value> = entries
            .iter()
            .filter(|(entry, used)| entry.kind == kind && !used)
            .map(|(entry, _)| &entry.request)
            .collect();
        let mismatch = Mismatch(mismatch(kind, &open, &request));
        lock(&self.mismatch).get_or_insert_with(|| mismatch.clone());
        Err(mismatch)
    }

    /// Returns the recorded list of tools that was offered to an agent's model for its `nth` call: the last one up to
    /// there. `None` if none was recorded.
    #[must_use]
    pub fn offer(&self, agent: &str, nth: u64) -> Option<Value> {
        let mut entries = lock(&self.entries);
        let of = |entry: &Entry| {
            entry.kind == Kind::Offer
                && entry.request["agent"] == agent
                && entry.request["nth"].as_u64().is_some_and(|at| at <= nth)
        };
        let (entry, used) = entries.iter_mut().rev().find(|(entry, _)| of(entry))?;
        *used = true;
        Some(entry.outcome.clone())
    }

    /// Returns the first request that was not recorded.
    #[must_use]
    pub fn mismatch(&self) -> Option<Mismatch> {
        lock(&self.mismatch).clone()
    }

    /// Returns a short description of each entry that was not requested.
    #[must_use]
    pub fn unused(&self) -> Vec<String> {
        let entries = lock(&self.entries);
        let open = entries.iter().enumerate().filter(|(_, (entry, used))| !used && entry.kind != Kind::Offer);
        // The head is line 1.
        open.map(|(at, (entry, _))| format!("line {}: {} {}", at + 2, entry.kind.words(), about(&entry.request)))
            .collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compares a request with the most similar recorded one.
fn mismatch(kind: Kind, open: &[&Value], request: &Value) -> String {
    // The longer two requests are equal, the likelier one has become the other.
    let like = |recorded: &Value| difference(recorded, request).map_or(0, |difference| difference.rank);
    match open.iter().max_by_key(|recorded| like(recorded)).and_then(|recorded| difference(recorded, request)) {
        Some(difference) => format!("a {} differs from the recording: {difference}", kind.words()),
        None => format!("the recording has no more {}; asked was the one {}", kind.plural(), about(request)),
    }
}

/// Returns a short description of a request.
fn about(request: &Value) -> String {
    let text = |key: &str| request.get(key).and_then(Value::as_str);
    match (text("agent"), text("model"), text("tool")) {
        (Some(agent), Some(model), _) => format!("by `{agent}` to {model}"),
        (_, _, Some(tool)) => format!("of `{tool}` with {}", shown(&request["arguments"])),
        _ => shown(request),
    }
}

/// Returns a value as JSON, cut.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN {
        return text;
    }
    format!("{}…", text.chars().take(SHOWN).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn tape(secret: &str, entries: &[(Kind, Value, Value)]) -> String {
        let text = Arc::new(Mutex::new(String::new()));
        let to = Arc::clone(&text);
        let lines: Lines = Box::new(move |line| lock(&to).push_str(&format!("{line}\n")));
        let scrubber = Scrubber::new(vec![("KEY".to_owned(), secret.to_owned())]);
        let recorder = Recorder::new("a", &json!(format!("use {secret}")), scrubber, lines);
        for (kind, request, outcome) in entries {
            recorder.keep(*kind, request, outcome, 5);
        }
        lock(&text).clone()
    }

    fn player(text: &str) -> Player {
        Player::new(text, Scrubber::default()).unwrap()
    }

    #[test]
    fn what_was_recorded_answers_in_any_order_and_once() {
        let ask = |n: u64| json!({"agent": "a", "model": "m", "messages": [{"content": n}]});
        let recorded =
            [(Kind::Model, ask(1), json!(1)), (Kind::Model, ask(2), json!(2)), (Kind::Model, ask(1), json!(3))];
        let player = player(&tape("", &recorded));
        assert_eq!(player.answer(Kind::Model, &ask(2)), Ok(json!(2)));
        assert_eq!(player.answer(Kind::Model, &ask(1)), Ok(json!(1)));
        assert_eq!(player.unused(), ["line 4: call of a model by `a` to m"]);
        assert_eq!(player.answer(Kind::Model, &ask(1)), Ok(json!(3)));
        let error = player.answer(Kind::Model, &ask(1)).unwrap_err();
        assert!(error.0.contains("no more calls of models"), "{error}");
        assert_eq!(player.mismatch(), Some(error));
    }

    #[test]
    fn a_question_that_was_not_asked_shows_the_first_difference() {
        let ask =
            |prompt: &str| json!({"agent": "a", "model": "m", "messages": [{"content": prompt}, {"content": "hi"}]});
        let other = json!({"agent": "b", "model": "m", "messages": []});
        let player = player(&tape("", &[(Kind::Model, other, json!(0)), (Kind::Model, ask("Be brief."), json!(1))]));
        let error = player.answer(Kind::Model, &ask("Be kind.")).unwrap_err().0;
        assert!(error.contains("/messages/0/content"), "{error}");
        assert!(error.contains("\"Be brief.\"") && error.contains("\"Be kind.\""), "{error}");
    }

    #[test]
    fn secrets_are_not_on_tape_and_play_where_they_are_not_set() {
        let ask = |key: &str| json!({"agent": "a", "model": "m", "messages": [format!("key {key}")]});
        let text = tape("s3cret-value", &[(Kind::Model, ask("s3cret-value"), json!("your s3cret-value"))]);
        assert!(!text.contains("s3cret-value") && text.contains("use ${KEY}"), "{text}");
        assert_eq!(player(&text).answer(Kind::Model, &ask("${KEY}")), Ok(json!("your ${KEY}")));
    }

    #[test]
    fn lists_of_tools_hold_until_the_next_one() {
        let offer = |nth: u64| json!({"agent": "a", "nth": nth});
        let player = player(&tape("", &[(Kind::Offer, offer(0), json!(["x"])), (Kind::Offer, offer(2), json!(["y"]))]));
        let offers: Vec<_> = (0..4).map(|nth| player.offer("a", nth).unwrap()[0].clone()).collect();
        assert_eq!(offers, ["x", "x", "y", "y"]);
        assert_eq!(player.offer("b", 0), None);
    }

    #[test]
    fn what_is_no_tape_is_refused_with_its_line() {
        let bad = |text: &str| Player::new(text, Scrubber::default()).unwrap_err().to_string();
        assert!(bad("").starts_with("line 1: "));
        assert!(bad("{\"agentry_tape\":9,\"agent\":\"a\",\"input\":1}").contains("format is 9"));
        let text = format!("{}nonsense\n", tape("", &[(Kind::Tool, json!({}), json!({}))]));
        assert!(bad(&text).starts_with("line 3: "));
    }
}
