//! Server-sent events as WHATWG's standard says (HTML, "Parsing an event stream"), with one kindness: the last event
//! counts although no empty line follows it.

use bytes::{Buf, BytesMut};

use super::frames::{Frame, FrameSplitter, FramingError};

#[derive(Default)]
pub(super) struct EventSplitter {
    name: String,
    data: Option<Vec<u8>>,
    /// The stream's first bytes were seen, and a byte order mark skipped.
    has_begun: bool,
    /// The last line ended with a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// Length of the buffer's prefix that has no end of a line.
    scanned: usize,
}

impl FrameSplitter for EventSplitter {
    fn next_frame(&mut self, read: &mut BytesMut, at_end: bool) -> Result<Option<Frame>, FramingError> {
        if !self.has_begun {
            if read.len() < BYTE_ORDER_MARK.len() && !at_end {
                return Ok(None);
            }
            self.has_begun = true;
            if read.starts_with(BYTE_ORDER_MARK) {
                read.advance(BYTE_ORDER_MARK.len());
            }
        }
        while let Some(line) = self.line(read, at_end) {
            if !line.is_empty() {
                self.field(&line);
            } else if let Some(event) = self.event() {
                return Ok(Some(event));
            }
        }
        Ok(if at_end { self.event() } else { None })
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

impl EventSplitter {
    /// Takes the next line, without its end.
    fn line(&mut self, read: &mut BytesMut, at_end: bool) -> Option<BytesMut> {
        if self.after_return && !read.is_empty() {
            self.after_return = false;
            if read[0] == b'\n' {
                read.advance(1);
            }
        }
        let end = read[self.scanned..].iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let Some(end) = end.map(|at| self.scanned + at) else {
            self.scanned = read.len();
            if !at_end || read.is_empty() {
                return None;
            }
            self.scanned = 0;
            return Some(read.split());
        };
        self.scanned = 0;
        let line = read.split_to(end);
        self.after_return = read[0] == b'\r';
        read.advance(1);
        Some(line)
    }

    /// Applies a line; comments and unknown fields, among them `id` and `retry`, change nothing here.
    fn field(&mut self, line: &[u8]) {
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"event" => self.name = String::from_utf8_lossy(value).into_owned(),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(value);
                }
                None => self.data = Some(value.to_vec()),
            },
            _ => {}
        }
    }

    /// Takes the event so far. One without data is none.
    fn event(&mut self) -> Option<Frame> {
        let name = std::mem::take(&mut self.name);
        let data = self.data.take()?;
        Some(Frame { name, data: data.into(), ..Frame::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the events of a stream that arrives in pieces of `size` bytes.
    fn events(stream: &[u8], size: usize) -> Vec<(String, String)> {
        let (mut parser, mut read, mut found) = (EventSplitter::default(), BytesMut::new(), Vec::new());
        let mut take = |read: &mut BytesMut, at_end| {
            while let Some(frame) = parser.next_frame(read, at_end).unwrap() {
                found.push((frame.name, String::from_utf8(frame.data.to_vec()).unwrap()));
            }
        };
        for piece in stream.chunks(size) {
            read.extend_from_slice(piece);
            take(&mut read, false);
        }
        take(&mut read, true);
        found
    }

    #[test]
    fn streams_are_read_as_the_standard_says_however_they_are_cut() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")]),
            ("data: a\r\rdata: b\r\n\r\ndata: c\n\n", &[("", "a"), ("", "b"), ("", "c")]),
            ("\u{feff}data: 日本語😀\n\n", &[("", "日本語😀")]),
            ("event: add\ndata: 1\ndata:2\ndata\ndata:  3\n\n", &[("add", "1\n2\n\n 3")]),
            (": ping\n\n: ping\nid: 1\nid: 2\nretry: soon\nx-meta: 1\nnonsense\n\ndata: a\n\n", &[("", "a")]),
            ("event: ping\n\ndata: a\n\n", &[("", "a")]),
            ("data: \n\ndata:\n\ndata\n\n", &[("", ""), ("", ""), ("", "")]),
            (" \n\ndata: a\n\n", &[("", "a")]),
            ("data: a\n\ndata: b\n", &[("", "a"), ("", "b")]),
            ("data: a\n\ndata: b", &[("", "a"), ("", "b")]),
            ("data: a:b: c\n\n", &[("", "a:b: c")]),
            ("", &[]),
        ];
        for (stream, expected) in cases {
            for size in [1, 2, 3, 7, 1_000] {
                let found = events(stream.as_bytes(), size);
                let found: Vec<_> = found.iter().map(|(name, data)| (name.as_str(), data.as_str())).collect();
                assert_eq!(found, *expected, "{stream:?} in pieces of {size}");
            }
        }
    }
}
