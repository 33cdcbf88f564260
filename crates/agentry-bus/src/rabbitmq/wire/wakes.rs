//! Batches of wakes: for each the task's id, mode, priority, session and, when it is small, body.

use std::sync::Arc;

use agentry_core::agent::ExecutionMode;
use agentry_core::session::SessionId;
use agentry_core::task::{Priority, Task};

use super::reader::{Reader, WireError, put_long, put_short};
use crate::port::Wake;

/// Largest body in a wake, in bytes; a worker reads larger ones from the store.
const MAX_BODY_BYTES: usize = 8 * 1_024;
/// Bytes of a wake with a body of usual size.
const USUAL_BYTES: usize = 512;

pub(in crate::rabbitmq) fn encode(wakes: &[Wake]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + wakes.len() * USUAL_BYTES);
    out.push(super::VERSION);
    for wake in wakes {
        out.extend(wake.task.as_bytes());
        out.push(wake.mode as u8);
        out.push(wake.priority as u8);
        put_short(&mut out, wake.session.as_ref().map_or(&[], |session| session.as_str().as_bytes()));
        put_body(&mut out, wake.body.as_deref());
    }
    out
}

fn put_body(out: &mut Vec<u8>, body: Option<&Task>) {
    let json = body.and_then(|task| serde_json::to_vec(task).ok()).filter(|json| json.len() <= MAX_BODY_BYTES);
    put_long(out, json.as_deref().unwrap_or(&[]));
}

pub(in crate::rabbitmq) fn decode(bytes: &[u8]) -> Result<Vec<Wake>, WireError> {
    let mut reader = Reader(bytes);
    reader.version()?;
    let mut wakes = Vec::new();
    while !reader.is_empty() {
        wakes.push(wake(&mut reader)?);
    }
    Ok(wakes)
}

fn wake(reader: &mut Reader<'_>) -> Result<Wake, WireError> {
    let task = reader.task()?;
    let mode = ExecutionMode::from_number(reader.u8()?).ok_or(WireError::Field("mode"))?;
    let priority = match reader.u8()? {
        0 => Priority::Low,
        1 => Priority::Normal,
        2 => Priority::High,
        _ => return Err(WireError::Field("priority")),
    };
    let session = match reader.short()? {
        [] => None,
        text => {
            let text = std::str::from_utf8(text).map_err(|_| WireError::Field("session"))?;
            Some(SessionId::parse(text).ok_or(WireError::Field("session"))?)
        }
    };
    // A body that another version encoded differently is read from the store.
    let json = reader.long()?;
    let body = if json.is_empty() { None } else { serde_json::from_slice::<Task>(json).ok() };
    Ok(Wake { task, mode, session, priority, body: body.filter(|body| body.id == task).map(Arc::new) })
}

#[cfg(test)]
mod tests {
    use agentry_core::id::TaskId;

    use super::*;

    fn wakes() -> Vec<Wake> {
        let task = |input: &str| {
            let json = serde_json::json!({
                "id": TaskId::from_parts(7, 7 << 64), "agent": "a", "mode": "autonomous", "input": input,
                "source": {"kind": "api"}, "trace_id": "0000000000000000000000000000000a",
                "created_at": "2026-01-01T00:00:00Z", "timeout_ms": 1_000,
            });
            Arc::new(serde_json::from_value::<Task>(json).unwrap())
        };
        let session = SessionId::parse("support:42");
        vec![
            Wake::of(task("hello")),
            Wake::of(task(&"x".repeat(9_000))),
            Wake {
                session,
                mode: ExecutionMode::Continuous,
                priority: Priority::High,
                ..Wake::of(task("in a session"))
            },
            Wake { body: None, priority: Priority::Low, ..Wake::of(task("without its body")) },
        ]
    }

    #[test]
    fn a_batch_round_trips_without_large_bodies() {
        let (sent, bytes) = (wakes(), encode(&wakes()));
        let got = decode(&bytes).unwrap();
        assert_eq!(got.len(), sent.len());
        for (got, sent) in got.iter().zip(&sent) {
            assert_eq!(
                (got.task, got.mode, &got.session, got.priority),
                (sent.task, sent.mode, &sent.session, sent.priority)
            );
        }
        assert_eq!(got[0].body, sent[0].body);
        assert!(got[1].body.is_none(), "too large to travel");
        assert_eq!(got[2].body, sent[2].body);
        assert!(got[3].body.is_none());
        assert!(bytes.len() < 2_000);
    }

    #[test]
    fn bad_bytes_are_refused_and_never_panic() {
        let good = encode(&wakes());
        assert_eq!(decode(&[]).unwrap_err(), WireError::Short);
        assert_eq!(decode(&[2]).unwrap_err(), WireError::Version(2));
        for cut in 2..good.len() {
            // A cut between two wakes gives a shorter batch.
            if let Ok(wakes) = decode(&good[..cut]) {
                assert!(wakes.len() < 4);
            }
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let _ = decode(&bad);
        }
    }
}
