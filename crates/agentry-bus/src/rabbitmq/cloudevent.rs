//! Events as CloudEvents 1.0 in structured JSON, the format of foreign clients.

use std::time::{SystemTime, UNIX_EPOCH};

use agentry_core::event::Event;
use agentry_core::time::Timestamp;
use agentry_core::topic::check_topic;
use agentry_core::trace::Trace;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::Fault;

pub(super) const CONTENT_TYPE: &str = "application/cloudevents+json";
/// Largest foreign event, in bytes; larger ones are rejected.
const MAX_EVENT_BYTES: usize = 1_024 * 1_024;
/// Longest id, source or type, in bytes.
const MAX_NAME_BYTES: usize = 255;

#[derive(Serialize)]
struct OutgoingEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    traceparent: String,
    agentryhops: u8,
    data: &'a Value,
}

/// Encodes an event as a CloudEvent. Its topic is the routing key.
pub(super) fn encode(event: &Event) -> Result<Vec<u8>, Fault> {
    let outgoing = OutgoingEvent {
        specversion: "1.0",
        id: &event.id,
        source: &event.source,
        kind: &event.kind,
        time: event.time,
        datacontenttype: "application/json",
        traceparent: event.trace().traceparent(),
        agentryhops: event.hops,
        data: &event.data,
    };
    serde_json::to_vec(&outgoing).map_err(|error| Fault::new(format!("the event `{}` has no JSON: {error}", event.id)))
}

#[derive(Deserialize)]
struct IncomingEvent {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    time: Option<Timestamp>,
    traceparent: Option<String>,
    agentryhops: Option<u8>,
    data: Option<Value>,
    data_base64: Option<Value>,
}

/// A message that is no valid event, with the reason for its publisher.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct InvalidEvent(String);

/// Decodes a message that a foreign client published on `topic`.
pub(super) fn decode(topic: &str, content_type: Option<&str>, body: &[u8]) -> Result<Event, InvalidEvent> {
    let media = content_type.map(|text| text.split(';').next().unwrap_or_default().trim());
    if let Some(media) = media
        && media != CONTENT_TYPE
        && media != "application/json"
    {
        return Err(InvalidEvent(format!("content-type is `{}`: use `{CONTENT_TYPE}`", media.escape_debug())));
    }
    check_topic(topic).map_err(|error| InvalidEvent(format!("routing key: {error}")))?;
    if body.len() > MAX_EVENT_BYTES {
        return Err(InvalidEvent(format!("{} bytes: an event has at most {MAX_EVENT_BYTES}", body.len())));
    }
    let incoming: IncomingEvent =
        serde_json::from_slice(body).map_err(|error| InvalidEvent(format!("not a CloudEvent: {error}")))?;
    if incoming.specversion != "1.0" {
        return Err(InvalidEvent(format!("specversion is `{}`: use `1.0`", incoming.specversion.escape_debug())));
    }
    if incoming.data_base64.is_some() {
        return Err(InvalidEvent("`data_base64` cannot be an agent's input: send JSON in `data`".to_owned()));
    }
    for (field, text) in [("id", &incoming.id), ("source", &incoming.source), ("type", &incoming.kind)] {
        if text.is_empty() || text.len() > MAX_NAME_BYTES || text.chars().any(char::is_control) {
            return Err(InvalidEvent(format!("`{field}` has 1 to {MAX_NAME_BYTES} bytes and no control characters")));
        }
    }
    let trace = incoming.traceparent.as_deref().and_then(Trace::of_traceparent);
    let trace = trace.unwrap_or_else(|| Trace::begin(rand::random()));
    Ok(Event {
        id: incoming.id,
        source: incoming.source,
        kind: incoming.kind,
        topic: topic.to_owned(),
        time: incoming.time.unwrap_or_else(now),
        trace_id: trace.id,
        parent: trace.parent,
        hops: incoming.agentryhops.unwrap_or(0),
        data: incoming.data.unwrap_or(Value::Null),
    })
}

/// Returns the default time of an event without one.
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use agentry_core::trace::TraceId;

    use super::*;

    fn event() -> Event {
        Event {
            id: "7".to_owned(),
            source: "shop".to_owned(),
            kind: "order.placed".to_owned(),
            topic: "shop.order.placed".to_owned(),
            time: Timestamp(1_700_000_000_123_456),
            trace_id: TraceId(0xabc),
            parent: Some("0000000000000def-01".parse().unwrap()),
            hops: 3,
            data: serde_json::json!({"order": 7}),
        }
    }

    #[test]
    fn an_event_round_trips_as_a_cloudevent() {
        let body = encode(&event()).unwrap();
        let json: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(json["specversion"], "1.0");
        assert_eq!(json["type"], "order.placed");
        assert_eq!(json["time"], "2023-11-14T22:13:20.123456Z");
        assert_eq!(json["traceparent"], "00-00000000000000000000000000000abc-0000000000000def-01");
        assert_eq!(decode("shop.order.placed", Some(CONTENT_TYPE), &body).unwrap(), event());
    }

    #[test]
    fn the_least_that_a_foreign_event_needs() {
        let body = br#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"unknown members are ignored"}"#;
        let event = decode("a.b", None, body).unwrap();
        assert_eq!((event.topic.as_str(), event.hops, &event.data), ("a.b", 0, &Value::Null));
        assert!(event.trace_id.0 != 0 && event.time.0 > 0);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let with =
            |name: &str, value: &str| format!(r#"{{"specversion":"1.0","id":"1","source":"s","{name}":{value}}}"#);
        let long = format!("\"{}\"", "x".repeat(256));
        let cases = [
            ("a.b", Some("text/plain"), with("type", "\"t\""), "content-type is `text/plain`"),
            ("a..b", None, with("type", "\"t\""), "routing key"),
            ("a", None, "{".to_owned(), "not a CloudEvent"),
            ("a", None, with("other", "1"), "missing field `type`"),
            ("a", None, with("type", "\"\""), "`type` has 1 to 255 bytes"),
            ("a", None, with("type", &long), "`type` has 1 to 255 bytes"),
            ("a", None, with("type", "\"t\"").replace("1.0", "0.3"), "specversion is `0.3`"),
            ("a", None, with("type", "\"t\",\"data_base64\":\"AA==\""), "data_base64"),
            ("a", None, with("type", "\"t\",\"time\":\"yesterday\""), "not a CloudEvent"),
            ("a", None, format!("\"{}\"", "x".repeat(MAX_EVENT_BYTES)), "at most 1048576"),
        ];
        for (topic, content_type, body, expected) in cases {
            let reason = decode(topic, content_type, body.as_bytes()).unwrap_err().to_string();
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
