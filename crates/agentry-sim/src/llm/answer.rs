//! Answers before a protocol gives them their shape.

use super::prompt::TOKEN_CHARS;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    End,
    Tools,
    Length,
    /// One of the request's stop sequences came up.
    Sequence(String),
    Refusal,
    /// The provider paused in the middle of a tool of its own.
    Pause,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToolCall {
    pub(super) name: String,
    pub(super) arguments: String,
}

impl ToolCall {
    /// Returns the arguments as JSON, for protocols that carry them so; text that is not JSON becomes a string.
    pub(super) fn input(&self) -> serde_json::Value {
        serde_json::from_str(&self.arguments).unwrap_or_else(|_| self.arguments.clone().into())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Reasoning before the answer, where a protocol shows it.
    pub(super) thinking: String,
    pub(super) text: String,
    pub(super) calls: Vec<ToolCall>,
    pub(super) stop: Stop,
}

/// A block of an answer.
pub(super) enum Block<'a> {
    Thinking(&'a str),
    Text(&'a str),
    /// A call and its number among the calls.
    Call(usize, &'a ToolCall),
}

impl Answer {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self { thinking: String::new(), text: text.into(), calls: Vec::new(), stop: Stop::End }
    }

    pub(super) fn calls(calls: Vec<ToolCall>) -> Self {
        Self { calls, stop: Stop::Tools, ..Self::text("") }
    }

    /// Cuts the text at the first stop sequence and at the token limit. Tool calls stay whole.
    pub(super) fn cut<'s>(mut self, stops: impl Iterator<Item = &'s str>, max_tokens: Option<u64>) -> Self {
        let found = stops.filter(|stop| !stop.is_empty()).filter_map(|stop| Some((self.text.find(stop)?, stop))).min();
        if let Some((at, stop)) = found {
            self.stop = Stop::Sequence(stop.to_owned());
            self.text.truncate(at);
        }
        // The limit covers reasoning too.
        let most = max_tokens.map(|most| most.saturating_sub(count(&self.thinking)));
        self.cut_to(most.unwrap_or(u64::MAX));
        self
    }

    /// Cuts the text after so many tokens.
    fn cut_to(&mut self, tokens: u64) {
        let most = usize::try_from(tokens).unwrap_or(usize::MAX).saturating_mul(TOKEN_CHARS);
        if let Some((at, _)) = self.text.char_indices().nth(most) {
            self.stop = Stop::Length;
            self.text.truncate(at);
        }
    }

    /// Cuts the answer in half, as the token limit does: in the text, or in the arguments of the last call.
    pub(super) fn halved(mut self) -> Self {
        let half = |text: &mut String| {
            let middle = text.chars().count() / 2;
            let at = text.char_indices().nth(middle).map_or(0, |(at, _)| at);
            text.truncate(at);
        };
        match self.calls.last_mut() {
            Some(call) => half(&mut call.arguments),
            None => half(&mut self.text),
        }
        self.stop = Stop::Length;
        self
    }

    /// Returns the blocks of the answer, for protocols whose answers consist of them. An answer without calls has a text,
    /// also an empty one.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let thinking = (!self.thinking.is_empty()).then_some(Block::Thinking(&self.thinking));
        let text = (!self.text.is_empty() || self.calls.is_empty()).then_some(Block::Text(&self.text));
        let calls = self.calls.iter().enumerate().map(|(index, call)| Block::Call(index, call));
        thinking.into_iter().chain(text).chain(calls)
    }

    /// Counts the tokens of the reasoning and of the rest. Each part is counted by itself, as its pieces are in a
    /// stream.
    pub(super) fn tokens(&self) -> (u64, u64) {
        let calls = self.calls.iter().map(|call| count(&call.name) + count(&call.arguments));
        (count(&self.thinking), count(&self.text) + calls.sum::<u64>())
    }
}

/// Counts the tokens of a text: characters divided by four, rounded up.
pub(super) fn count(text: &str) -> u64 {
    text.chars().count().div_ceil(TOKEN_CHARS) as u64
}

pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.char_indices().nth(TOKEN_CHARS).map_or(rest.len(), |(end, _)| end);
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_at_the_first_stop_or_the_limit() {
        let cut = |stops: &[&str], most| {
            let answer = Answer::text("one two three").cut(stops.iter().copied(), most);
            (answer.text, answer.stop)
        };
        assert_eq!(cut(&["three", " two", ""], None), ("one".into(), Stop::Sequence(" two".into())));
        assert_eq!(cut(&["four"], Some(2)), ("one two ".into(), Stop::Length));
        assert_eq!(cut(&[], Some(4)), ("one two three".into(), Stop::End));
    }

    #[test]
    fn reasoning_counts_against_the_limit() {
        let answer = Answer { thinking: "x".repeat(12), ..Answer::text("one two three") };
        let cut = |most| answer.clone().cut(std::iter::empty(), Some(most)).text;
        assert_eq!((cut(3), cut(4), cut(7)), (String::new(), "one ".into(), "one two three".into()));
    }

    #[test]
    fn half_an_answer_ends_in_its_last_part() {
        let call = ToolCall { name: "find".into(), arguments: r#"{"a":"b"}"#.into() };
        let half = Answer::calls(vec![call]).halved();
        assert_eq!((half.calls[0].arguments.as_str(), half.stop), (r#"{"a""#, Stop::Length));
        assert_eq!(Answer::text("12345").halved().text, "12");
    }

    #[test]
    fn tokens_are_four_characters_each() {
        assert_eq!(tokens("äöüäx").collect::<Vec<_>>(), ["äöüä", "x"]);
        let call = ToolCall { name: "find".into(), arguments: "{}".into() };
        assert_eq!(Answer::calls(vec![call]).tokens(), (0, 2));
    }
}
