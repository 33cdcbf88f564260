//! HTTP/1.1 as far as the generator needs it: requests as bytes, and answers parsed from a buffer.

use std::io::Write as _;

/// Largest number of header lines of an answer.
const MAX_HEADERS: usize = 64;

/// Builds a `GET` request.
pub fn get(host: &str, path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes()
}

/// Builds a `POST` request with a JSON body.
pub fn post(host: &str, path: &str, body: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len() + 160);
    put_post(&mut out, host, path, &[], body.as_bytes());
    out
}

/// Appends a `POST` request with a JSON body and more headers.
pub fn put_post(out: &mut Vec<u8>, host: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
    // Writing to memory does not fail.
    let _ = write!(out, "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        let _ = write!(out, "{name}: {value}\r\n");
    }
    let _ = write!(out, "content-length: {}\r\n\r\n", body.len());
    out.extend_from_slice(body);
}

/// Result of parsing a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ParseResult {
    /// The answer is not complete.
    Partial,
    /// The buffer holds no HTTP.
    Broken,
    /// A complete answer.
    Whole {
        status: u16,
        body: Body,
        /// The connection may be used again.
        keep: bool,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A part of the buffer.
    Plain(std::ops::Range<usize>),
    /// Put together from chunks.
    Chunked(Vec<u8>),
}

/// Parses the buffer, which holds one answer only: no request is sent before the answer is complete.
pub(super) fn parse(buffer: &[u8]) -> ParseResult {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(buffer) {
        Ok(httparse::Status::Complete(head)) => head,
        Ok(httparse::Status::Partial) => return ParseResult::Partial,
        Err(_) => return ParseResult::Broken,
    };
    let status = response.code.unwrap_or(0);
    let (mut length, mut chunked, mut keep) = (None, false, true);
    for header in response.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = std::str::from_utf8(header.value).ok().and_then(|text| text.trim().parse::<usize>().ok());
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = header.value.eq_ignore_ascii_case(b"chunked");
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep = !header.value.eq_ignore_ascii_case(b"close");
        }
    }
    if chunked {
        return match unchunk(&buffer[head..]) {
            Some(Ok(body)) => ParseResult::Whole { status, body: Body::Chunked(body), keep },
            Some(Err(())) => ParseResult::Broken,
            None => ParseResult::Partial,
        };
    }
    let end = head + length.unwrap_or(0);
    if buffer.len() < end {
        return ParseResult::Partial;
    }
    ParseResult::Whole { status, body: Body::Plain(head..end), keep }
}

/// Joins the chunks of a body; `None` while the last one is missing.
fn unchunk(mut rest: &[u8]) -> Option<Result<Vec<u8>, ()>> {
    let mut body = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete((start, size))) => (start, usize::try_from(size).unwrap_or(usize::MAX)),
            Ok(httparse::Status::Partial) => return None,
            Err(_) => return Some(Err(())),
        };
        // Data, then CRLF; after the last chunk only the CRLF, trailers are not asked for.
        let end = start.checked_add(size)?.checked_add(2)?;
        if rest.len() < end {
            return None;
        }
        if size == 0 {
            return Some(Ok(body));
        }
        body.extend_from_slice(&rest[start..end - 2]);
        rest = &rest[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> (u16, String, bool) {
        for cut in 0..text.len() {
            assert_eq!(parse(&text.as_bytes()[..cut]), ParseResult::Partial, "{cut} bytes of {text:?}");
        }
        match parse(text.as_bytes()) {
            ParseResult::Whole { status, body: Body::Plain(range), keep } => (status, text[range].to_owned(), keep),
            ParseResult::Whole { status, body: Body::Chunked(body), keep } => {
                (status, String::from_utf8(body).unwrap(), keep)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn answers_are_whole_only_when_all_of_them_is_here() {
        let plain = "HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(whole(plain), (202, "body".to_owned(), true));
        let chunked =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(whole(chunked), (200, "abcd".to_owned(), false));
        assert_eq!(parse(b"SSH-2.0\r\n\r\n"), ParseResult::Broken);
    }

    #[test]
    fn a_post_says_how_long_it_is() {
        let bytes = post("h", "/p", "{}");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with("content-length: 2\r\n\r\n{}"), "{text}");
    }
}
