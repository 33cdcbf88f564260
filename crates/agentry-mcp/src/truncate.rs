//! Truncation of JSON texts while they are read: long strings are cut at a bound, with a note, before they are stored.
//!
//! It works on the bytes of JSON texts between newlines, whatever surrounds them (lines of stdio, fields of server-sent
//! events): a raw newline ends every JSON string, because none can contain one. It also remembers the `id` of the
//! outermost object, so that a message that is still too long can be answered.

/// Longest string that passes, in bytes of JSON.
pub(crate) const MAX_TEXT_BYTES: usize = 1024 * 1024;
/// Longest key or id that is inspected.
const MAX_KEY_BYTES: usize = 64;

#[derive(Debug)]
pub(crate) struct Truncator {
    max: usize,
    state: State,
    /// Bytes of the string so far.
    length: usize,
    /// The last character was the first half of a surrogate pair.
    half: bool,
    depth: u32,
    /// Beginning of the last string at depth 1.
    key: Vec<u8>,
    id: Id,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    Text,
    Escape,
    /// Digits of `\u` seen, and true when the first was a `d`.
    Hex(u8, bool),
    Skip,
    SkipEscape,
}

#[derive(Debug, PartialEq, Eq)]
enum Id {
    Unseen,
    Key,
    Value(Vec<u8>),
    Found(Vec<u8>),
}

impl Default for Truncator {
    fn default() -> Self {
        Self::new(MAX_TEXT_BYTES)
    }
}

impl Truncator {
    pub fn new(max: usize) -> Self {
        Self { max, state: State::Outside, length: 0, half: false, depth: 0, key: Vec::new(), id: Id::Unseen }
    }

    /// Returns the `id` of the message, as JSON.
    pub fn id(&self) -> Option<&[u8]> {
        match &self.id {
            Id::Found(id) | Id::Value(id) => Some(id.trim_ascii()).filter(|id| !id.is_empty()),
            Id::Unseen | Id::Key => None,
        }
    }

    /// Processes the next bytes and appends the remaining ones to `out`.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) {
        for &byte in input {
            if byte == b'\n' {
                out.push(byte);
                *self = Self::new(self.max);
                continue;
            }
            match self.state {
                State::Outside => self.outside(byte, out),
                State::Text => self.text(byte, out),
                State::Escape => {
                    self.keep(byte, out);
                    self.half &= byte == b'u';
                    self.state = if byte == b'u' { State::Hex(0, false) } else { State::Text };
                }
                State::Hex(seen, d) => self.hex(byte, seen, d, out),
                State::Skip if byte == b'"' => {
                    out.push(byte);
                    self.end_of_text();
                }
                State::Skip if byte == b'\\' => self.state = State::SkipEscape,
                State::Skip => {}
                State::SkipEscape => self.state = State::Skip,
            }
        }
    }

    fn outside(&mut self, byte: u8, out: &mut Vec<u8>) {
        out.push(byte);
        match byte {
            b'"' => {
                self.state = State::Text;
                (self.length, self.half) = (0, false);
                self.key.clear();
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        let ended = (byte == b',' && self.depth == 1) || (byte == b'}' && self.depth == 0);
        match &mut self.id {
            Id::Key if byte == b':' => self.id = Id::Value(Vec::new()),
            Id::Key if byte != b' ' => self.id = Id::Unseen,
            Id::Value(value) if ended => self.id = Id::Found(std::mem::take(value)),
            Id::Value(value) if value.len() < MAX_KEY_BYTES => value.push(byte),
            _ => {}
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        if byte == b'"' {
            out.push(byte);
            if let Id::Value(value) = &mut self.id {
                value.push(byte);
            }
            return self.end_of_text();
        }
        // The cut is never within a character or between the halves of a surrogate pair.
        if self.length >= self.max && byte & 0xC0 != 0x80 && !self.half {
            out.extend_from_slice(format!("\\n[cut: the first {} bytes are shown]", self.length).as_bytes());
            self.state = if byte == b'\\' { State::SkipEscape } else { State::Skip };
            return;
        }
        self.keep(byte, out);
        if byte == b'\\' {
            self.state = State::Escape;
        } else {
            self.half = false;
        }
    }

    fn hex(&mut self, byte: u8, seen: u8, d: bool, out: &mut Vec<u8>) {
        self.keep(byte, out);
        match seen {
            0 => self.state = State::Hex(1, byte.eq_ignore_ascii_case(&b'd')),
            1 => {
                self.half = d && matches!(byte, b'8' | b'9' | b'a' | b'b' | b'A' | b'B');
                self.state = State::Hex(2, d);
            }
            2 => self.state = State::Hex(3, d),
            _ => self.state = State::Text,
        }
    }

    fn keep(&mut self, byte: u8, out: &mut Vec<u8>) {
        out.push(byte);
        self.length += 1;
        if self.depth == 1 && self.key.len() < MAX_KEY_BYTES {
            self.key.push(byte);
            if let Id::Value(value) = &mut self.id {
                value.push(byte);
            }
        }
    }

    fn end_of_text(&mut self) {
        self.state = State::Outside;
        if self.id == Id::Unseen && self.depth == 1 && self.key == b"id" {
            self.id = Id::Key;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cut(max: usize, input: &str) -> (String, Option<String>) {
        let mut whole = Truncator::new(max);
        let mut out = Vec::new();
        whole.push(input.as_bytes(), &mut out);
        // The same in pieces of one byte.
        let (mut pieces, mut again) = (Truncator::new(max), Vec::new());
        input.as_bytes().chunks(1).for_each(|piece| pieces.push(piece, &mut again));
        assert_eq!(out, again);
        (String::from_utf8(out).unwrap(), whole.id().map(|id| String::from_utf8_lossy(id).into_owned()))
    }

    #[test]
    fn what_is_short_passes_as_it_is() {
        for text in [r#"{"a":"b\"\\c","n":[1,2],"é":"\u00e9"}"#, "not json \"", "data: {\"x\":\"y\"}", ""] {
            assert_eq!(cut(100, text).0, text);
        }
    }

    #[test]
    fn long_texts_are_cut_and_stay_json_wherever_the_cut_falls() {
        let texts = ["ordinary words \\ and \" quotes", "äöüß€𝄞漢字", "a\u{1F600}b\u{1F600}c", "\n\t\u{1}\u{2}"];
        for text in texts {
            for escape in [false, true] {
                let mut json = json!({"result": {"text": text.repeat(4), "n": 1}, "id": 7}).to_string();
                if escape {
                    json = ascii(&json);
                }
                // Keys are strings too: the smallest bound here lets those of the protocol pass.
                for max in 8..60 {
                    let (short, id) = cut(max, &json);
                    let value: Value = serde_json::from_str(&short).unwrap_or_else(|e| panic!("{e}: {short}"));
                    assert_eq!(value["result"]["n"], 1, "what follows is still there: {short}");
                    let kept = value["result"]["text"].as_str().unwrap();
                    let (kept, _) = kept.split_once("\n[cut: ").unwrap_or((kept, ""));
                    assert!(text.repeat(4).starts_with(kept), "{kept}");
                    assert_eq!(id.as_deref(), Some("7"));
                }
            }
        }
    }

    fn ascii(json: &str) -> String {
        let mut out = String::new();
        for c in json.chars() {
            if c.is_ascii() {
                out.push(c);
            } else {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
        }
        out
    }

    #[test]
    fn the_outermost_id_is_found_before_or_after_the_result() {
        for (text, id) in [
            (r#"{"jsonrpc":"2.0","id":3,"result":{"id":9}}"#, Some("3")),
            (r#"{"result":{"id":9,"x":[{"id":1}]},"jsonrpc":"2.0","id": "a-1" }"#, Some("\"a-1\"")),
            (r#"{"method":"id","params":{"id":9}}"#, None),
            (r#"[{"id":9}]"#, None),
        ] {
            assert_eq!(cut(100, text).1.as_deref(), id, "{text}");
        }
    }

    #[test]
    fn a_newline_ends_what_was_left_open() {
        assert_eq!(cut(4, "garbage \"\n{\"a\":\"bc\"}").0, "garbage \"\n{\"a\":\"bc\"}");
    }
}
