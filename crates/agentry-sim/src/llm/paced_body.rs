//! The body of an answer: it paces the pieces, breaks off where a fault says so, and counts sent tokens in the ledger.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::ledger::{LedgerEntry, RequestEnd};
use super::wire::Piece;

/// Bytes per piece of `[[drip]]`.
const DRIP_BYTES: usize = 16;

#[derive(Debug, Clone, Copy)]
pub(super) enum Pace {
    /// Starts at the instant; each later piece waits this duration for every token sent before it.
    Tokens(Instant, Duration),
    /// Starts at the instant, then sends one piece per interval.
    Pieces(Instant, Duration),
}

#[derive(Debug)]
pub(super) enum Ending {
    /// Ends the body properly.
    Close(RequestEnd),
    /// Closes the connection.
    Cut(RequestEnd),
    /// Sends this piece until the client leaves.
    Repeat(Piece),
}

pub(super) struct PacedBody {
    entry: LedgerEntry,
    pieces: std::vec::IntoIter<Piece>,
    pace: Pace,
    after: Ending,
    shutdown: CancellationToken,
    sent_pieces: u32,
    sent_tokens: u64,
    ended: bool,
}

impl PacedBody {
    /// Creates the body. When it is dropped before its end, the client has disconnected.
    pub(super) fn body(
        entry: LedgerEntry,
        pieces: Vec<Piece>,
        pace: Pace,
        after: Ending,
        shutdown: CancellationToken,
    ) -> Body {
        let pieces =
            if is_instant(pace) && !matches!(after, Ending::Repeat(_)) { vec![joined(pieces)] } else { pieces };
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
                self.entry.end(RequestEnd::Stopped);
                return Some(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        self.entry.sent(piece.tokens, piece.reasoning);
        self.sent_pieces = self.sent_pieces.saturating_add(1);
        self.sent_tokens += piece.tokens;
        // The ledger line is written before the last piece leaves, so a client that has read the answer finds it there.
        if let (0, Ending::Close(end)) = (self.pieces.len(), &self.after) {
            self.entry.end(*end);
        }
        Some(Ok(piece.bytes))
    }

    fn repeated(&self) -> Option<Piece> {
        if self.shutdown.is_cancelled() {
            return None;
        }
        if let Ending::Repeat(piece) = &self.after { Some(piece.clone()) } else { None }
    }

    async fn finish(&mut self) -> Option<io::Result<Bytes>> {
        self.ended = true;
        match self.after {
            Ending::Close(end) => {
                self.entry.end(end);
                None
            }
            Ending::Cut(end) => {
                // The pieces already sent must reach the socket first: a server drops unwritten data when a body fails.
                tokio::task::yield_now().await;
                self.entry.end(end);
                Some(Err(io::ErrorKind::ConnectionAborted.into()))
            }
            Ending::Repeat(_) => {
                self.entry.end(RequestEnd::Stopped);
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

/// Returns true when no piece has to wait.
fn is_instant(pace: Pace) -> bool {
    let (Pace::Tokens(first, each) | Pace::Pieces(first, each)) = pace;
    each.is_zero() && first <= Instant::now()
}

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

/// Keeps the first half of the bytes, and the tokens of the pieces that are kept whole.
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

/// Keeps the first half of the pieces.
pub(super) fn first_half(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.truncate(pieces.len().div_ceil(2));
    pieces
}

/// Splits the pieces into small ones that ignore frame borders.
pub(super) fn drops(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut drops = Vec::new();
    for piece in pieces {
        let starts = (0..piece.bytes.len()).step_by(DRIP_BYTES);
        let cut = |start: usize| Piece::frame(piece.bytes.slice(start..piece.bytes.len().min(start + DRIP_BYTES)));
        drops.extend(starts.map(cut));
        // Tokens count as sent with the end of the piece that carries them.
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
