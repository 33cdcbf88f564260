//! The body of an answer on its way: paced, broken where it is to break, and counted in the ledger as it leaves.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ledger::{End, Entry};
use super::wire::Piece;

/// Bytes of one piece of an answer that drips.
const DRIP_BYTES: usize = 16;

/// When pieces leave.
#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// The first at a moment, every other one when the tokens before it have had this time each.
    Tokens(Instant, Duration),
    /// The first at a moment, then one each interval.
    Pieces(Instant, Duration),
}

/// What follows the last piece.
#[derive(Debug)]
pub(super) enum After {
    /// The proper end of the body.
    Close(End),
    /// The end of the connection.
    Cut(End),
    /// This piece, over and over.
    Repeat(Piece),
}

/// A body of pieces.
pub(super) struct Emission {
    entry: Entry,
    pieces: std::vec::IntoIter<Piece>,
    pace: Pace,
    after: After,
    shutdown: CancellationToken,
    sent_pieces: u32,
    sent_tokens: u64,
    ended: bool,
}

impl Emission {
    /// The body. When it is dropped before its end, the client has gone away.
    pub(super) fn body(
        entry: Entry,
        pieces: Vec<Piece>,
        pace: Pace,
        after: After,
        shutdown: CancellationToken,
    ) -> Body {
        let pieces = if is_instant(pace) && !matches!(after, After::Repeat(_)) { vec![joined(pieces)] } else { pieces };
        let pieces = pieces.into_iter();
        let state = Self { entry, pieces, pace, after, shutdown, sent_pieces: 0, sent_tokens: 0, ended: false };
        Body::from_stream(stream::unfold(state, |mut state| async move {
            let item = state.next().await?;
            Some((item, state))
        }))
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.ended {
            return None;
        }
        let Some(piece) = self.pieces.next().or_else(|| self.repeated()) else { return self.finish().await };
        let due = self.due();
        if due > Instant::now() {
            let stopped = tokio::select! {
                () = sleep_until(due) => false,
                () = self.shutdown.cancelled() => true,
            };
            if stopped {
                self.ended = true;
                self.entry.end(End::Stopped);
                return Some(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        self.entry.sent(piece.tokens, piece.reasoning);
        self.sent_pieces = self.sent_pieces.saturating_add(1);
        self.sent_tokens += piece.tokens;
        // Written down before the last piece leaves: whoever has read the answer finds it in the ledger.
        if let (0, After::Close(end)) = (self.pieces.len(), &self.after) {
            self.entry.end(*end);
        }
        Some(Ok(piece.bytes))
    }

    fn repeated(&self) -> Option<Piece> {
        if self.shutdown.is_cancelled() {
            return None;
        }
        if let After::Repeat(piece) = &self.after { Some(piece.clone()) } else { None }
    }

    async fn finish(&mut self) -> Option<io::Result<Bytes>> {
        self.ended = true;
        match self.after {
            After::Close(end) => {
                self.entry.end(end);
                None
            }
            After::Cut(end) => {
                // What was sent goes out first: a server drops what it has not written when a body fails.
                tokio::task::yield_now().await;
                self.entry.end(end);
                Some(Err(io::ErrorKind::ConnectionAborted.into()))
            }
            After::Repeat(_) => {
                self.entry.end(End::Stopped);
                Some(Err(io::ErrorKind::ConnectionAborted.into()))
            }
        }
    }

    fn due(&self) -> Instant {
        match self.pace {
            Pace::Tokens(first, each) => first + each * u32::try_from(self.sent_tokens).unwrap_or(u32::MAX),
            Pace::Pieces(first, each) => first + each * self.sent_pieces,
        }
    }
}

/// Whether all of it may leave at once.
fn is_instant(pace: Pace) -> bool {
    let (Pace::Tokens(first, each) | Pace::Pieces(first, each)) = pace;
    each.is_zero() && first <= Instant::now()
}

/// All pieces as one.
pub(super) fn joined(pieces: Vec<Piece>) -> Piece {
    let mut bytes = BytesMut::with_capacity(pieces.iter().map(|piece| piece.bytes.len()).sum());
    let mut all = Piece::frame(Bytes::new());
    for piece in pieces {
        bytes.extend_from_slice(&piece.bytes);
        all.tokens += piece.tokens;
        all.reasoning += piece.reasoning;
    }
    Piece { bytes: bytes.freeze(), ..all }
}

/// The first half of the bytes; of the tokens, those of pieces that are whole.
pub(super) fn half(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut left = pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>() / 2;
    let mut kept = Vec::new();
    for piece in pieces {
        if piece.bytes.len() > left {
            kept.push(Piece::frame(piece.bytes.slice(..left)));
            break;
        }
        left -= piece.bytes.len();
        kept.push(piece);
    }
    kept
}

/// The first half of the pieces, each whole.
pub(super) fn first_half(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.truncate(pieces.len().div_ceil(2));
    pieces
}

/// Small pieces that respect no frame.
pub(super) fn drops(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut drops = Vec::new();
    for piece in pieces {
        let starts = (0..piece.bytes.len()).step_by(DRIP_BYTES);
        let cut = |start: usize| Piece::frame(piece.bytes.slice(start..piece.bytes.len().min(start + DRIP_BYTES)));
        drops.extend(starts.map(cut));
        // Tokens have left with the end of what carries them.
        if let Some(last) = drops.last_mut() {
            (last.tokens, last.reasoning) = (last.tokens + piece.tokens, last.reasoning + piece.reasoning);
        }
    }
    drops
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces() -> Vec<Piece> {
        vec![Piece::frame("0123456789"), Piece::content("abcdefghijklmnopqrst", 3), Piece::frame("0123456789")]
    }

    fn seen(pieces: &[Piece]) -> Vec<(usize, u64)> {
        pieces.iter().map(|piece| (piece.bytes.len(), piece.tokens)).collect()
    }

    #[test]
    fn answers_are_halved_by_bytes_or_by_pieces() {
        assert_eq!(seen(&half(pieces())), [(10, 0), (10, 0)]);
        assert_eq!(seen(&first_half(pieces())), [(10, 0), (20, 3)]);
    }

    #[test]
    fn drops_and_joined_pieces_carry_the_same() {
        assert_eq!(seen(&drops(pieces())), [(10, 0), (16, 0), (4, 3), (10, 0)]);
        assert_eq!(joined(drops(pieces())).bytes, joined(pieces()).bytes);
        assert_eq!(joined(pieces()).tokens, 3);
    }
}
