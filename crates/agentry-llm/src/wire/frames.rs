//! Framing of streams: server-sent events, one JSON object per line, and AWS's event stream with checksums. A server
//! that answers with one JSON document instead, whatever it calls it, is understood.

use std::io;

use agentry_http::with_causes;
use aws_smithy_eventstream::frame::{DecodedFrame, MessageFrameDecoder};
use aws_smithy_types::event_stream::Message;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use reqwest::Response;

use super::client::MAX_BODY_BYTES;
use super::failure::excerpt;
use super::sse::EventSplitter;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Sse,
    Lines,
    EventStream,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Frame {
    /// Event name, in framings that have one.
    pub name: String,
    /// The whole answer, from a server that does not stream.
    pub is_whole: bool,
    /// The frame reports an error.
    pub is_exception: bool,
    pub data: Bytes,
}

#[derive(Debug)]
pub(crate) enum FramingError {
    CutOff(String),
    /// The stream exceeds [`MAX_BODY_BYTES`].
    TooLarge,
    Malformed(String),
}

type Frames = BoxStream<'static, Result<Frame, FramingError>>;
type Pieces = BoxStream<'static, io::Result<Bytes>>;

impl Framing {
    pub fn accept(self) -> &'static str {
        match self {
            Self::Sse => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::EventStream => "application/vnd.amazon.eventstream",
        }
    }

    pub fn frames(self, response: Response) -> Frames {
        let pieces = bounded(response);
        match self {
            Self::Sse => split_frames(pieces, OrWhole::new(EventSplitter::default())).boxed(),
            Self::Lines => split_frames(pieces, Lines::default()).boxed(),
            Self::EventStream => split_frames(pieces, OrWhole::new(Messages::default())).boxed(),
        }
    }
}

/// Returns the body's pieces; fails once their total exceeds [`MAX_BODY_BYTES`].
fn bounded(response: Response) -> Pieces {
    let mut read = 0;
    let within = move |piece: reqwest::Result<Bytes>| {
        let piece = piece.map_err(|error| io::Error::other(with_causes(&error)))?;
        read += piece.len();
        if read > MAX_BODY_BYTES { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(piece) }
    };
    response.bytes_stream().map(within).boxed()
}

fn of_io(error: &io::Error) -> FramingError {
    match error.kind() {
        io::ErrorKind::FileTooLarge => FramingError::TooLarge,
        _ => FramingError::CutOff(error.to_string()),
    }
}

pub(super) trait FrameSplitter: Send + 'static {
    /// Returns the next complete frame; `at_end` when no more bytes follow.
    fn next_frame(&mut self, read: &mut BytesMut, at_end: bool) -> Result<Option<Frame>, FramingError>;
}

fn split_frames(
    pieces: Pieces,
    splitter: impl FrameSplitter,
) -> impl Stream<Item = Result<Frame, FramingError>> + Send {
    let state = (pieces, splitter, BytesMut::new(), false);
    stream::unfold(Some(state), |state| async move {
        let (mut pieces, mut splitter, mut read, mut at_end) = state?;
        loop {
            match splitter.next_frame(&mut read, at_end) {
                Ok(Some(frame)) => return Some((Ok(frame), Some((pieces, splitter, read, at_end)))),
                Ok(None) if at_end => return None,
                Ok(None) => {}
                Err(error) => return Some((Err(error), None)),
            }
            match pieces.next().await {
                Some(Ok(piece)) => read.extend_from_slice(&piece),
                Some(Err(error)) => return Some((Err(of_io(&error)), None)),
                None => at_end = true,
            }
        }
    })
}

/// Splits a stream, unless it begins like a JSON document: then all of it is one frame.
struct OrWhole<S> {
    splitter: S,
    begins: Begins,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Begins {
    Unknown,
    AsStream,
    AsDocument,
}

impl<S> OrWhole<S> {
    fn new(splitter: S) -> Self {
        Self { splitter, begins: Begins::Unknown }
    }
}

impl<S: FrameSplitter> FrameSplitter for OrWhole<S> {
    fn next_frame(&mut self, read: &mut BytesMut, at_end: bool) -> Result<Option<Frame>, FramingError> {
        if self.begins == Begins::Unknown {
            self.begins = match read.iter().find(|byte| !byte.is_ascii_whitespace()) {
                None if at_end => Begins::AsStream,
                None => return Ok(None),
                Some(b'{') => Begins::AsDocument,
                Some(b'<') => return Err(FramingError::Malformed(format!("it is a page: {}", excerpt(read)))),
                Some(_) => Begins::AsStream,
            };
        }
        match self.begins {
            Begins::AsDocument if at_end && !read.is_empty() => {
                Ok(Some(Frame { is_whole: true, data: read.split().freeze(), ..Frame::default() }))
            }
            Begins::AsDocument => Ok(None),
            _ => self.splitter.next_frame(read, at_end),
        }
    }
}

/// Splits lines; the last one may lack its line break.
#[derive(Default)]
struct Lines {
    /// Length of the buffer's prefix that has no line break.
    scanned: usize,
}

impl FrameSplitter for Lines {
    fn next_frame(&mut self, read: &mut BytesMut, at_end: bool) -> Result<Option<Frame>, FramingError> {
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
                return Ok(Some(Frame { data: line.freeze(), ..Frame::default() }));
            }
        }
    }
}

/// Length of a message's prelude: its length, the length of its headers, and a checksum of both.
const PRELUDE_BYTES: usize = 12;

#[derive(Default)]
struct Messages {
    decoder: MessageFrameDecoder,
    is_within: bool,
}

impl FrameSplitter for Messages {
    fn next_frame(&mut self, read: &mut BytesMut, at_end: bool) -> Result<Option<Frame>, FramingError> {
        let malformed =
            |problem: String| FramingError::Malformed(format!("a frame of the event stream is broken: {problem}"));
        if !self.is_within && read.len() >= PRELUDE_BYTES {
            // The checksum is verified before the rest of the message arrives, because a damaged length would be waited
            // for in vain.
            let (counted, mut expected) = (crc32fast::hash(&read[..8]), &read[8..PRELUDE_BYTES]);
            if counted != expected.get_u32() {
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
                Err(FramingError::CutOff("the stream ended within a frame".to_owned()))
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
        // An error without a payload has its message in a header.
        (true, Some(words)) => serde_json::json!({"message": words}).to_string().into(),
        _ => message.payload().clone(),
    };
    Frame { name: name.unwrap_or_default(), is_exception, data, is_whole: false }
}
