//! The frames of a stream, cut in the three ways that providers have: server-sent events, a JSON object a line, and AWS's
//! event stream with its checksums.

use std::io;

use agentry_http::with_causes;
use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_types::event_stream::Message;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use sse_stream::{Error as SseError, Sse, SseStream};

use super::client::MAX_BODY_BYTES;

/// How a stream is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events.
    Sse,
    /// A JSON object a line.
    Lines,
    /// `application/vnd.amazon.eventstream`.
    EventStream,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What kind of event, where the framing says so.
    pub name: String,
    /// Whether the framing says that it is an error.
    pub is_exception: bool,
    /// What it holds.
    pub data: Bytes,
}

/// Why there are no more frames.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The connection ended.
    CutOff(String),
    /// There was more than [`MAX_BODY_BYTES`].
    TooLarge,
    /// It is not cut as it should be.
    Malformed(String),
}

type Frames = BoxStream<'static, Result<Frame, Broken>>;
type Pieces = BoxStream<'static, io::Result<Bytes>>;

impl Framing {
    /// What to ask for.
    pub fn accept(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::EventStream => "application/vnd.amazon.eventstream",
        }
    }

    /// Whether an answer may be cut in this way: what a proxy puts in its place is a page, or JSON.
    pub fn is(self, content_type: Option<&HeaderValue>) -> bool {
        let begins = |with: &str| content_type.is_some_and(|value| value.as_bytes().starts_with(with.as_bytes()));
        match self {
            Self::Sse | Self::EventStream => begins(self.accept()),
            Self::Lines => begins("application/x-ndjson") || begins("application/json"),
        }
    }

    /// The frames of an answer.
    pub fn frames(self, response: Response) -> Frames {
        let pieces = bounded(response);
        match self {
            Self::Sse => SseStream::from_bytes_stream(pieces)
                .filter_map(|event| std::future::ready(event.map_or_else(|e| Some(Err(broken(&e))), frame_of_event)))
                .boxed(),
            Self::Lines => cut(pieces, Lines::default()).boxed(),
            Self::EventStream => cut(pieces, Messages::default()).boxed(),
        }
    }
}

/// What the content type of an answer says, for errors.
pub(crate) fn content_type(response: &Response) -> Option<&HeaderValue> {
    response.headers().get(CONTENT_TYPE)
}

/// The body's pieces, ended with an error once they are more than [`MAX_BODY_BYTES`] together.
fn bounded(response: Response) -> Pieces {
    let mut read = 0;
    let within = move |piece: reqwest::Result<Bytes>| {
        let piece = piece.map_err(|error| io::Error::other(with_causes(&error)))?;
        read += piece.len();
        if read > MAX_BODY_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(piece) }
    };
    response.bytes_stream().map(within).boxed()
}

fn frame_of_event(event: Sse) -> Option<Result<Frame, Broken>> {
    let data = event.data?;
    Some(Ok(Frame { name: event.event.unwrap_or_default(), is_exception: false, data: data.into() }))
}

fn broken(error: &SseError) -> Broken {
    match error {
        SseError::Body(cause) => match cause.downcast_ref::<io::Error>() {
            Some(cause) => of_io(cause),
            None => Broken::CutOff(cause.to_string()),
        },
        other => Broken::Malformed(other.to_string()),
    }
}

fn of_io(error: &io::Error) -> Broken {
    match error.kind() {
        io::ErrorKind::FileTooLarge => Broken::TooLarge,
        _ => Broken::CutOff(error.to_string()),
    }
}

/// Cuts a frame from the front of what was read.
trait Cut: Send + 'static {
    /// The next frame, when all of it is there; `at_end` when nothing follows.
    fn cut(&mut self, read: &mut BytesMut, at_end: bool) -> Result<Option<Frame>, Broken>;
}

fn cut(pieces: Pieces, cutter: impl Cut) -> impl Stream<Item = Result<Frame, Broken>> + Send {
    let state = (pieces, cutter, BytesMut::new(), false);
    stream::unfold(Some(state), |state| async move {
        let (mut pieces, mut cutter, mut read, mut at_end) = state?;
        loop {
            match cutter.cut(&mut read, at_end) {
                Ok(Some(frame)) => return Some((Ok(frame), Some((pieces, cutter, read, at_end)))),
                Ok(None) if at_end => return None,
                Ok(None) => {}
                Err(broken) => return Some((Err(broken), None)),
            }
            match pieces.next().await {
                Some(Ok(piece)) => read.extend_from_slice(&piece),
                Some(Err(error)) => return Some((Err(of_io(&error)), None)),
                None => at_end = true,
            }
        }
    })
}

/// Lines, the last one also without its end.
#[derive(Default)]
struct Lines {
    /// How much of what was read has no end of a line in it.
    scanned: usize,
}

impl Cut for Lines {
    fn cut(&mut self, read: &mut BytesMut, at_end: bool) -> Result<Option<Frame>, Broken> {
        loop {
            let end = read[self.scanned..].iter().position(|byte| *byte == b'\n').map(|at| self.scanned + at);
            let line = match end {
                Some(end) => {
                    let line = read.split_to(end);
                    read.advance(1);
                    line
                }
                None if at_end && !read.is_empty() => read.split(),
                None => {
                    self.scanned = read.len();
                    return Ok(None);
                }
            };
            self.scanned = 0;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(Frame { name: String::new(), is_exception: false, data: line.freeze() }));
            }
        }
    }
}

/// Bytes before the headers of a message: its length, that of its headers, and a checksum of both.
const PRELUDE_BYTES: usize = 12;

/// Messages of AWS's event stream.
#[derive(Default)]
struct Messages {
    decoder: MessageFrameDecoder,
    is_within: bool,
}

impl Cut for Messages {
    fn cut(&mut self, read: &mut BytesMut, at_end: bool) -> Result<Option<Frame>, Broken> {
        let malformed =
            |problem: String| Broken::Malformed(format!("a frame of the event stream is broken: {problem}"));
        if !self.is_within && read.len() >= PRELUDE_BYTES {
            // Looked at before the message is waited for: a broken length would be waited for in vain.
            let (counted, mut said) = (crc32fast::hash(&read[..8]), &read[8..PRELUDE_BYTES]);
            if counted != said.get_u32() {
                return Err(malformed("the checksum of its length does not fit".to_owned()));
            }
            self.is_within = true;
        }
        match self.decoder.decode_frame(&mut *read) {
            Ok(DecodedFrame::Complete(message)) => {
                self.is_within = false;
                Ok(Some(frame_of_message(&message)))
            }
            Ok(DecodedFrame::Incomplete) if at_end && (self.is_within || !read.is_empty()) => {
                Err(Broken::CutOff("the stream ended within a frame".to_owned()))
            }
            Ok(DecodedFrame::Incomplete) => Ok(None),
            Err(error) => Err(malformed(agentry_http::with_causes(&error))),
        }
    }
}

fn frame_of_message(message: &Message) -> Frame {
    let header = |name: &str| {
        let header = message.headers().iter().find(|header| header.name().as_str() == name)?;
        header.value().as_string().ok().map(|text| text.as_str().to_owned())
    };
    let is_exception = header(":message-type").is_some_and(|kind| kind != "event");
    let name = header(":event-type").or_else(|| header(":exception-type")).or_else(|| header(":error-code"));
    let data = match (message.payload().is_empty(), header(":error-message")) {
        // An error without a payload has its words in a header.
        (true, Some(words)) => serde_json::json!({"message": words}).to_string().into(),
        _ => message.payload().clone(),
    };
    Frame { name: name.unwrap_or_default(), is_exception, data }
}
