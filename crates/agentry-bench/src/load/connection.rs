//! A keep-alive connection that carries one request at a time, without ever blocking.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt};

use super::wire::{Parsed, parse};

/// The largest answer that is taken, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What is under way on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flight {
    pub(super) number: u64,
    /// When it was meant to be sent, and when it was.
    pub(super) intended: u64,
    pub(super) sent: u64,
}

pub(super) struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    buffer: Vec<u8>,
    pub(super) flight: Option<Flight>,
    /// Whether the kernel was asked to say when more can be written.
    pub(super) wants_write: bool,
}

/// What came of a reading.
pub(super) enum Progress {
    /// More is to come.
    Pending,
    /// An answer.
    Whole(Parsed),
    /// The connection is of no use any more.
    Gone,
}

impl Connection {
    /// Begins to connect; writing waits until that is done.
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

    /// The place for the next request's bytes.
    pub(super) fn next_request(&mut self) -> &mut Vec<u8> {
        self.out.clear();
        self.written = 0;
        self.buffer.clear();
        &mut self.out
    }

    /// Writes what is left. Whether all of it has left.
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

    /// Reads what is there, through `chunk`, which is shared by all connections.
    pub(super) fn read(&mut self, chunk: &mut [u8]) -> Progress {
        loop {
            if self.buffer.len() > MAX_ANSWER {
                return Progress::Gone;
            }
            match self.stream.read(chunk) {
                Ok(0) => return Progress::Gone,
                Ok(read) => {
                    self.buffer.extend_from_slice(&chunk[..read]);
                    // A chunk that was not filled was the last one.
                    if read < chunk.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Progress::Gone,
            }
        }
        if self.flight.is_none() {
            // Bytes that nobody asked for.
            return if self.buffer.is_empty() { Progress::Pending } else { Progress::Gone };
        }
        match parse(&self.buffer) {
            Parsed::Partial => Progress::Pending,
            Parsed::Broken => Progress::Gone,
            whole @ Parsed::Whole { .. } => Progress::Whole(whole),
        }
    }

    /// What was read so far.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
