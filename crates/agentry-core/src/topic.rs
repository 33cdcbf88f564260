//! Topics and AMQP topic patterns: words separated by dots, `*` is one word, `#` is any number of words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest topic, in bytes (the limit of an AMQP routing key).
pub const MAX_TOPIC_BYTES: usize = 255;

/// The reason why a topic or a pattern is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// An empty text, or an empty word.
    #[error("`{0}` has an empty word: topics are words apart by dots, such as `customer.ticket.created`")]
    EmptyWord(String),
    /// A text longer than [`MAX_TOPIC_BYTES`].
    #[error("a topic has at most 255 bytes; this one has {0}")]
    TooLong(usize),
    /// A wildcard inside a word, or one in a topic.
    #[error("`{0}`: `*` and `#` stand for whole words, and only in patterns")]
    Wildcard(String),
}

/// Validates the topic of an event: words separated by dots, no wildcards.
///
/// # Errors
/// Returns the reason.
pub fn check_topic(topic: &str) -> Result<(), TopicError> {
    check_words(topic)?;
    if topic.contains(['*', '#']) {
        return Err(TopicError::Wildcard(topic.to_owned()));
    }
    Ok(())
}

fn check_words(text: &str) -> Result<(), TopicError> {
    if text.len() > MAX_TOPIC_BYTES {
        return Err(TopicError::TooLong(text.len()));
    }
    if text.split('.').any(str::is_empty) {
        return Err(TopicError::EmptyWord(text.to_owned()));
    }
    Ok(())
}

/// A pattern of topics that an agent subscribes to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicPattern(Box<str>);

impl TopicPattern {
    /// Returns a validated pattern.
    ///
    /// # Errors
    /// Returns the reason.
    pub fn new(pattern: &str) -> Result<Self, TopicError> {
        check_words(pattern)?;
        let whole = |word: &str| word == "*" || word == "#" || !word.contains(['*', '#']);
        if !pattern.split('.').all(whole) {
            return Err(TopicError::Wildcard(pattern.to_owned()));
        }
        Ok(Self(pattern.into()))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether the pattern has no wildcard, so that it matches exactly one topic.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['*', '#'])
    }

    /// Returns whether the pattern matches a topic. Takes O(words of the pattern × words of the topic).
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let words: Vec<&str> = topic.split('.').collect();
        // reach[i]: the pattern so far can have consumed exactly the first i words.
        let mut reach = vec![false; words.len() + 1];
        reach[0] = true;
        for part in self.0.split('.') {
            if part == "#" {
                let first = reach.iter().position(|&r| r).unwrap_or(reach.len());
                reach[first..].fill(true);
            } else {
                for i in (0..words.len()).rev() {
                    reach[i + 1] = reach[i] && (part == "*" || part == words[i]);
                }
                reach[0] = false;
            }
        }
        reach[words.len()]
    }
}

impl TryFrom<String> for TopicPattern {
    type Error = TopicError;

    fn try_from(text: String) -> Result<Self, TopicError> {
        Self::new(&text)
    }
}

impl From<TopicPattern> for String {
    fn from(pattern: TopicPattern) -> Self {
        pattern.0.into()
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amqp_topic_semantics() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("#", "anything.at.all", true),
            ("#.c", "c", true),
            ("#.c", "a.b.c", true),
            ("#.b.#", "a.b.c", true),
            ("#.b.#", "a.c", false),
            ("*.b.#", "b", false),
            ("a.#.#.b", "a.b", true),
            ("*.*", "a", false),
        ];
        for (pattern, topic, expected) in cases {
            assert_eq!(TopicPattern::new(pattern).unwrap().matches(topic), expected, "{pattern} on {topic}");
        }
    }

    #[test]
    fn bad_topics_are_refused() {
        for topic in ["", "a..b", ".a", "a.", "a.*", "a#"] {
            assert!(check_topic(topic).is_err(), "{topic}");
        }
        assert!(TopicPattern::new("a.b*").is_err());
        assert!(check_topic(&"x".repeat(256)).is_err());
    }
}
