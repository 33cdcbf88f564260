//! Frames of AWS event streams: a prelude with its checksum, headers, a payload, and a checksum over all of it.

use bytes::{BufMut, Bytes, BytesMut};

const PRELUDE_BYTES: usize = 12;
const TRAILER_BYTES: usize = 4;
const STRING: u8 = 7;

/// Encodes one message with string headers.
pub(super) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let headers_length: usize = headers.iter().map(|(name, value)| 1 + name.len() + 1 + 2 + value.len()).sum();
    let length = PRELUDE_BYTES + headers_length + payload.len() + TRAILER_BYTES;
    let mut frame = BytesMut::with_capacity(length);
    // Names, values and payloads are made by the simulator and far below these limits.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_u32(u32::try_from(headers_length).unwrap_or(u32::MAX));
    frame.put_u32(crc32fast::hash(&frame));
    for (name, value) in headers {
        frame.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        frame.put_slice(name.as_bytes());
        frame.put_u8(STRING);
        frame.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        frame.put_slice(value.as_bytes());
    }
    frame.put_slice(payload);
    frame.put_u32(crc32fast::hash(&frame));
    frame.freeze()
}

/// Flips one bit of a frame's checksum.
pub(super) fn damaged(frame: &Bytes) -> Bytes {
    let mut bytes = frame.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use aws_smithy_eventstream::frame::read_message_from;

    use super::*;

    #[test]
    fn an_independent_decoder_reads_it() {
        let bytes = frame(&[(":event-type", "metadata"), (":message-type", "event")], b"{\"a\":1}");
        let message = read_message_from(&mut bytes.clone()).unwrap();
        let headers: Vec<_> = message
            .headers()
            .iter()
            .map(|header| (header.name().as_str().to_owned(), header.value().as_string().unwrap().as_str().to_owned()))
            .collect();
        let expected = [(":event-type", "metadata"), (":message-type", "event")];
        assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(message.payload().as_ref(), b"{\"a\":1}");
        assert!(read_message_from(&mut damaged(&bytes)).is_err());
    }
}
