//! Batches of notes: the sender, then for each note its kind and subject.

use std::sync::Arc;

use agentry_core::agent::AgentName;
use agentry_core::id::TaskId;
use agentry_core::task::TaskStatus;

use super::reader::{Reader, WireError, put_long, put_short};
use crate::port::Signal;

/// A batch ends with the note that exceeds this size, in bytes: a text frame of AMQP holds 128 KiB.
const BATCH_BYTES: usize = 64 * 1_024;

/// Id of a process on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::rabbitmq) struct Process(pub [u8; 16]);

impl Process {
    pub fn random() -> Self {
        Self(rand::random())
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// A message from one process to the others.
#[derive(Debug, Clone)]
pub(in crate::rabbitmq) enum Note {
    /// A signal for listeners. Events have an exchange of their own.
    Signal(Signal),
    /// The sending process watches the task; repeated while it does.
    Watching(TaskId),
    /// The sending process no longer watches the task.
    Unwatched(TaskId),
    Missed,
}

const CANCEL: u8 = 1;
const RESOLVED: u8 = 2;
const PROGRESS: u8 = 3;
const DELTA: u8 = 4;
const SCHEDULES: u8 = 5;
const AGENT: u8 = 6;
const WATCHING: u8 = 7;
const UNWATCHED: u8 = 8;
const MISSED: u8 = 9;
const FLEET: u8 = 10;
const OUTBOX: u8 = 11;
const RESTART: u8 = 12;

/// Encodes notes into as many batches as their length takes.
pub(in crate::rabbitmq) fn encode(process: Process, notes: &[Note]) -> Vec<Vec<u8>> {
    let mut batches = Vec::new();
    let mut out = begin(process);
    for note in notes {
        put(&mut out, note);
        if out.len() >= BATCH_BYTES {
            batches.push(std::mem::replace(&mut out, begin(process)));
        }
    }
    if out.len() > begin(process).len() {
        batches.push(out);
    }
    batches
}

fn begin(process: Process) -> Vec<u8> {
    let mut out = vec![super::VERSION];
    out.extend(process.0);
    out
}

fn put(out: &mut Vec<u8>, note: &Note) {
    let about = |out: &mut Vec<u8>, kind: u8, task: &TaskId| {
        out.push(kind);
        out.extend(task.as_bytes());
    };
    match note {
        Note::Signal(Signal::Cancel(task)) => about(out, CANCEL, task),
        Note::Signal(Signal::Resolved(task)) => about(out, RESOLVED, task),
        Note::Signal(Signal::Progress { task, status }) => {
            about(out, PROGRESS, task);
            out.push(*status as u8);
        }
        Note::Signal(Signal::Delta { task, text }) => {
            about(out, DELTA, task);
            put_long(out, text.as_bytes());
        }
        Note::Signal(Signal::Restart { task }) => about(out, RESTART, task),
        Note::Signal(Signal::Schedules) => out.push(SCHEDULES),
        Note::Signal(Signal::Fleet) => out.push(FLEET),
        Note::Signal(Signal::Outbox) => out.push(OUTBOX),
        Note::Signal(Signal::Agent(name)) => {
            out.push(AGENT);
            put_short(out, name.as_str().as_bytes());
        }
        Note::Signal(Signal::Event(_)) => {}
        Note::Watching(task) => about(out, WATCHING, task),
        Note::Unwatched(task) => about(out, UNWATCHED, task),
        Note::Missed => out.push(MISSED),
    }
}

pub(in crate::rabbitmq) fn decode(bytes: &[u8]) -> Result<(Process, Vec<Note>), WireError> {
    let mut reader = Reader(bytes);
    reader.version()?;
    let process = Process(reader.array()?);
    let mut notes = Vec::new();
    while !reader.is_empty() {
        notes.push(note(&mut reader)?);
    }
    Ok((process, notes))
}

fn note(reader: &mut Reader<'_>) -> Result<Note, WireError> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| WireError::Field("text"));
    let signal = match reader.u8()? {
        CANCEL => Signal::Cancel(reader.task()?),
        RESOLVED => Signal::Resolved(reader.task()?),
        PROGRESS => {
            let task = reader.task()?;
            let status = TaskStatus::from_number(reader.u8()?).ok_or(WireError::Field("status"))?;
            Signal::Progress { task, status }
        }
        DELTA => Signal::Delta { task: reader.task()?, text: text(reader.long()?)?.into() },
        RESTART => Signal::Restart { task: reader.task()? },
        SCHEDULES => Signal::Schedules,
        FLEET => Signal::Fleet,
        OUTBOX => Signal::Outbox,
        AGENT => {
            let name = AgentName::try_from(Arc::<str>::from(text(reader.short()?)?));
            Signal::Agent(name.map_err(|_| WireError::Field("agent"))?)
        }
        WATCHING => return Ok(Note::Watching(reader.task()?)),
        UNWATCHED => return Ok(Note::Unwatched(reader.task()?)),
        MISSED => return Ok(Note::Missed),
        _ => return Err(WireError::Field("kind")),
    };
    Ok(Note::Signal(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> Vec<Note> {
        let task = TaskId::from_parts(1, 2 << 64);
        let mut notes: Vec<Note> = [
            Signal::Cancel(task),
            Signal::Resolved(task),
            Signal::Progress { task, status: TaskStatus::TimedOut },
            Signal::Delta { task, text: "grüß".into() },
            Signal::Restart { task },
            Signal::Schedules,
            Signal::Fleet,
            Signal::Outbox,
            Signal::Agent(AgentName::new("writer").unwrap()),
        ]
        .map(Note::Signal)
        .into();
        notes.extend([Note::Watching(task), Note::Unwatched(task), Note::Missed]);
        notes
    }

    #[test]
    fn notes_round_trip() {
        let process = Process([7; 16]);
        let batches = encode(process, &notes());
        let (from, got) = decode(&batches[0]).unwrap();
        assert_eq!((batches.len(), from), (1, process));
        assert_eq!(format!("{got:?}"), format!("{:?}", notes()));
        assert!(encode(process, &[]).is_empty());
    }

    #[test]
    fn many_notes_make_several_batches() {
        let delta = Signal::Delta { task: TaskId::from_parts(1, 0), text: "x".repeat(30_000).into() };
        let many = vec![Note::Signal(delta); 10];
        let batches = encode(Process([0; 16]), &many);
        assert_eq!(batches.len(), 4, "three to a batch");
        assert_eq!(batches.iter().map(|batch| decode(batch).unwrap().1.len()).sum::<usize>(), 10);
    }

    #[test]
    fn bad_bytes_are_refused_and_never_panic() {
        let good = encode(Process([0; 16]), &notes()).remove(0);
        for at in 0..good.len() {
            let _ = decode(&good[..at]);
            let mut bad = good.clone();
            bad[at] ^= 0xff;
            let _ = decode(&bad);
        }
        assert_eq!(decode(&[9]).unwrap_err(), WireError::Version(9));
    }
}
