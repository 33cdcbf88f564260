//! Keep-alive connections that carry one request at a time and never block.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};

use super::wire::{ParseResult, parse};

/// Largest answer, in bytes; a larger one breaks the connection.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A request without an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct PendingRequest {
    pub(super) number: u64,
    /// Intended and actual moment of the send, in nanoseconds.
    pub(super) intended: u64,
    pub(super) sent: u64,
}

pub(super) struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    buffer: Vec<u8>,
    pub(super) flight: Option<PendingRequest>,
    /// The kernel was asked to report when more can be written.
    pub(super) wants_write: bool,
}

/// Result of a read.
pub(super) enum ReadProgress {
    /// The answer is not complete yet.
    Pending,
    /// A complete answer.
    Whole(ParseResult),
    /// The connection cannot be used any more.
    Gone,
}

impl Connection {
    /// Starts to connect; writes wait until that is done.
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let (out, buffer) = (Vec::new(), Vec::with_capacity(4 * 1024));
        Ok(Self { stream: TcpStream::from(socket), out, written: 0, buffer, flight: None, wants_write: false })
    }

    /// Clears the buffers and returns the one of the next request.
    pub(super) fn next_request(&mut self) -> &mut Vec<u8> {
        self.out.clear();
        self.written = 0;
        self.buffer.clear();
        &mut self.out
    }

    /// Writes the rest of the request; returns true when all of it is written.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => self.written += wrote,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // Still connecting.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Reads the available bytes through `chunk`, which all connections share.
    pub(super) fn read(&mut self, chunk: &mut [u8]) -> ReadProgress {
        loop {
            if self.buffer.len() > MAX_ANSWER {
                return ReadProgress::Gone;
            }
            match self.stream.read(chunk) {
                Ok(0) => return ReadProgress::Gone,
                Ok(read) => {
                    self.buffer.extend_from_slice(&chunk[..read]);
                    // A chunk that was not filled was the last one.
                    if read < chunk.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return ReadProgress::Gone,
            }
        }
        if self.flight.is_none() {
            // Bytes that nobody asked for.
            return if self.buffer.is_empty() { ReadProgress::Pending } else { ReadProgress::Gone };
        }
        match parse(&self.buffer) {
            ParseResult::Partial => ReadProgress::Pending,
            ParseResult::Broken => ReadProgress::Gone,
            whole @ ParseResult::Whole { .. } => ReadProgress::Whole(whole),
        }
    }

    /// Returns the bytes read so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
