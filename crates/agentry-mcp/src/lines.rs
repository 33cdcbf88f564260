//! Messages of newline-delimited JSON-RPC, truncated while they are read and bounded in length.

use serde_json::{Value, json};

use crate::truncate::Truncator;

/// Longest message after truncation of its strings, in bytes.
pub(crate) const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// Buffer capacity that is kept between messages.
const KEPT_BYTES: usize = 64 * 1024;
/// JSON-RPC error code of responses in place of a server's, from the range that is free for implementations.
pub(crate) const TOO_LONG: i32 = -32_050;

#[derive(Debug, Default)]
pub(crate) struct Lines {
    truncator: Truncator,
    line: Vec<u8>,
    too_long: bool,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Line {
    /// The line is in [`Lines::line`].
    Whole,
    /// The line was too long; its id, if any.
    TooLong(Option<Value>),
}

impl Lines {
    /// Takes bytes up to the end of a line. Returns the number of bytes, and the line when it is complete.
    pub fn push(&mut self, available: &[u8]) -> (usize, Option<Line>) {
        let end = available.iter().position(|byte| *byte == b'\n');
        let piece = &available[..end.unwrap_or(available.len())];
        if self.line.capacity() > KEPT_BYTES && self.line.is_empty() {
            self.line.shrink_to(KEPT_BYTES);
        }
        self.truncator.push(piece, &mut self.line);
        if self.too_long || self.line.len() > MAX_MESSAGE_BYTES {
            self.too_long = true;
            self.line.clear();
        }
        let Some(end) = end else { return (available.len(), None) };
        let id = self.truncator.id().and_then(|id| serde_json::from_slice(id).ok());
        self.truncator = Truncator::default();
        let line = if std::mem::take(&mut self.too_long) { Line::TooLong(id) } else { Line::Whole };
        (end + 1, Some(line))
    }

    pub fn line(&self) -> &[u8] {
        self.line.trim_ascii()
    }

    pub fn next(&mut self) {
        self.line.clear();
    }
}

/// Returns the error in place of a message that was too long.
pub(crate) fn too_long(id: &Value) -> Value {
    let message = format!("the answer has more than {MAX_MESSAGE_BYTES} bytes and was not read; ask for less");
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": TOO_LONG, "message": message}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_in_pieces() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"{\"a\""), (4, None));
        assert_eq!(lines.push(b":1} \n{\"b\""), (5, Some(Line::Whole)));
        assert_eq!(lines.line(), b"{\"a\":1}");
        lines.next();
        assert_eq!(lines.push(b"{\"b\":2}\n"), (8, Some(Line::Whole)));
        assert_eq!(lines.line(), b"{\"b\":2}");
    }

    #[test]
    fn a_message_of_many_small_parts_is_given_up_with_its_id() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"{\"result\":[0"), (12, None));
        let numbers = b",1234567".repeat(1024);
        for _ in 0..2 * MAX_MESSAGE_BYTES / numbers.len() {
            lines.push(&numbers);
        }
        assert!(lines.line.capacity() <= 2 * MAX_MESSAGE_BYTES + KEPT_BYTES);
        let (_, end) = lines.push(b"],\"id\":12}\n");
        assert_eq!(end, Some(Line::TooLong(Some(json!(12)))));
        lines.next();
        assert_eq!(lines.push(b"{}\n").1, Some(Line::Whole), "the next one is read again");
    }
}
