//! The thread that sends on time and reads the answers.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::epoll;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};

use super::arrivals::{Arrivals, Spacing};
use super::caller::{Answer, Caller, Outcome};
use super::clock::{go_first, nanos, now, timespec};
use super::connection::{Connection, PendingRequest, ReadProgress};
use super::live::Live;
use super::record::{Recording, Seconds, take};
use super::wire::{Body, ParseResult};

/// Events read from the kernel at once.
const EVENTS: usize = 256;
/// Bytes read at once.
const CHUNK: usize = 64 * 1024;
/// Interval at which requests without an answer are looked for.
const SWEEP: Duration = Duration::from_millis(50);
/// Time from the call to the first arrival, in which connections are opened.
const LEAD: Duration = Duration::from_millis(20);
/// Share of each gap that is waited for without sleeping, at most [`AWAKE`] nanoseconds: the kernel wakes a sleeper about 50 µs late.
const AWAKE_SHARE: f64 = 0.02;
const AWAKE: u64 = 80_000;
/// Token of the timer among those of the connections.
const TIMER: u64 = u64::MAX;

/// Rule by which requests are sent.
#[derive(Debug, Clone)]
pub enum LoadModel {
    /// An open loop: arrivals do not depend on answers.
    Open { rate: f64, spacing: Spacing, seed: u64 },
    /// A closed loop: each caller sends again when it has its answer.
    Closed { callers: usize },
}

/// A load and its limits.
#[derive(Debug, Clone)]
pub struct Load {
    /// Address of the server.
    pub target: SocketAddr,
    pub(crate) model: LoadModel,
    /// Time before the window, whose requests are in no total.
    pub warm_up: Duration,
    /// Length of the measured window.
    pub window: Duration,
    /// Timeout of an answer. A later one counts as failed, with this latency.
    pub patience: Duration,
    /// Largest number of requests in flight. An arrival beyond it is not sent and makes the run invalid.
    pub max_in_flight: usize,
    /// Delay of a send beyond which it counts as late.
    pub late_after: Duration,
    /// Number of connections opened before the start.
    pub connections: usize,
}

impl Load {
    /// Default of `max_in_flight`: the usual limit of open files, less some.
    pub const MAX_IN_FLIGHT: usize = 8_000;

    /// Makes an open loop of Poisson arrivals, `rate` a second.
    pub fn open(target: SocketAddr, rate: f64, window: Duration, seed: u64) -> Self {
        Self {
            target,
            model: LoadModel::Open { rate, spacing: Spacing::Poisson, seed },
            warm_up: Duration::ZERO,
            window,
            patience: Duration::from_secs(30),
            max_in_flight: Self::MAX_IN_FLIGHT,
            late_after: Duration::from_millis(5),
            connections: 16,
        }
    }

    /// Makes a closed loop.
    pub fn closed(target: SocketAddr, callers: usize, window: Duration) -> Self {
        Self { model: LoadModel::Closed { callers }, connections: callers, ..Self::open(target, 0.0, window, 0) }
    }

    /// Sets the warm-up.
    pub fn warm_up(self, warm_up: Duration) -> Self {
        Self { warm_up, ..self }
    }
}

/// Reason why a load could not be driven.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The kernel refused something.
    #[error("the load generator cannot work: {0}")]
    Kernel(#[from] io::Error),
    /// Its thread broke.
    #[error("the load generator broke: {0}")]
    Broken(String),
}

/// A load that runs on its own thread; it stops when this is dropped.
pub struct LoadHandle<C> {
    thread: Option<JoinHandle<Result<(Recording, C), LoadError>>>,
    /// Counters of the load while it runs.
    pub live: Arc<Live>,
}

impl<C> LoadHandle<C> {
    /// Waits for the end without blocking the runtime; returns the recording and the caller.
    ///
    /// # Errors
    /// The load could not be driven.
    pub async fn end(mut self) -> Result<(Recording, C), LoadError>
    where
        C: Send + 'static,
    {
        let Some(thread) = self.thread.take() else { return Err(LoadError::Broken("its thread is gone".to_owned())) };
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        match joined {
            Ok(Ok(ended)) => ended,
            Ok(Err(panic)) => Err(LoadError::Broken(text_of(panic.as_ref()))),
            Err(error) => Err(LoadError::Broken(error.to_string())),
        }
    }

    /// Returns whether the load has ended.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl<C> Drop for LoadHandle<C> {
    /// Stops a load that nobody waits for any more.
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.live.stop();
        }
    }
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("its thread panicked").to_owned()
}

/// Starts a load on a thread of its own.
///
/// # Errors
/// No thread can be started.
pub fn start<C: Caller + 'static>(load: Load, caller: C) -> Result<LoadHandle<C>, LoadError> {
    let live = Arc::new(Live::default());
    let seen = Arc::clone(&live);
    let drive = move || {
        // A wake-up is as exact as the kernel can make it; without the right to it the lag shows.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        go_first();
        let mut engine = Engine::new(load, caller, seen)?;
        engine.drive()?;
        Ok((engine.recording, engine.caller))
    };
    let thread = std::thread::Builder::new().name("load".to_owned()).spawn(drive)?;
    Ok(LoadHandle { thread: Some(thread), live })
}

struct Engine<C> {
    load: Load,
    caller: C,
    live: Arc<Live>,
    epoll: OwnedFd,
    timer: OwnedFd,
    connections: Vec<Option<Connection>>,
    /// Free slots of `connections`.
    vacant: Vec<usize>,
    /// Connections without a request, the last used first.
    idle: Vec<usize>,
    in_flight: usize,
    number: u64,
    /// Start and end of the measured window, in nanoseconds.
    window: (u64, u64),
    recording: Recording,
    seconds: Seconds,
    chunk: Vec<u8>,
}

impl<C: Caller> Engine<C> {
    fn new(load: Load, caller: C, live: Arc<Live>) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        epoll::add(&epoll, &timer, epoll::EventData::new_u64(TIMER), epoll::EventFlags::IN)?;
        let start = now() + nanos(LEAD);
        let begin = start + nanos(load.warm_up);
        let window = (begin, begin + nanos(load.window));
        let warm_up = usize::try_from(load.warm_up.as_secs()).unwrap_or(usize::MAX);
        let recording = Recording::new(begin, load.window, warm_up);
        let mut engine = Self {
            load,
            caller,
            live,
            epoll,
            timer,
            connections: Vec::new(),
            vacant: Vec::new(),
            idle: Vec::new(),
            in_flight: 0,
            number: 0,
            window,
            recording,
            seconds: Seconds::new(start),
            chunk: vec![0; CHUNK],
        };
        for _ in 0..engine.load.connections.min(engine.load.max_in_flight) {
            let place = engine.open()?;
            engine.idle.push(place);
        }
        Ok(engine)
    }

    fn drive(&mut self) -> io::Result<()> {
        let start = self.window.0 - nanos(self.load.warm_up);
        match self.load.model.clone() {
            LoadModel::Open { rate, spacing, seed } => {
                let all = self.load.warm_up + self.load.window;
                self.open_loop(start, Arrivals::new(spacing, rate, all, seed))?;
            }
            LoadModel::Closed { callers } => self.closed_loop(start, callers)?,
        }
        // What is in flight when the window ends is still waited for; the sweep gives up on each in time.
        while self.in_flight > 0 {
            self.wait(now() + nanos(SWEEP))?;
        }
        self.recording.stopped = self.live.is_stopped();
        self.seconds.close(&mut self.recording.seconds);
        Ok(())
    }

    fn open_loop(&mut self, start: u64, arrivals: Arrivals) -> io::Result<()> {
        let awake = ((arrivals.mean_gap() * AWAKE_SHARE) as u64).min(AWAKE);
        for offset in arrivals {
            let due = start + offset;
            loop {
                // Before every send, the late ones too: nothing leaves after the stop.
                if self.live.is_stopped() {
                    return Ok(());
                }
                let here = now();
                if here >= due {
                    // Answers that have come are taken in between two sends that are both late.
                    self.poll(false)?;
                    break;
                }
                if due - here > awake { self.wait(due - awake)? } else { self.poll(false)? }
            }
            self.arrive(due)?;
        }
        self.wait_until(self.window.1)
    }

    fn closed_loop(&mut self, start: u64, callers: usize) -> io::Result<()> {
        self.wait_until(start)?;
        loop {
            let here = now();
            if here >= self.window.1 || self.live.is_stopped() {
                return Ok(());
            }
            while self.in_flight < callers {
                self.arrive(now())?;
            }
            self.wait(here + nanos(SWEEP))?;
        }
    }

    /// Reads answers until a moment.
    fn wait_until(&mut self, end: u64) -> io::Result<()> {
        while now() < end && !self.live.is_stopped() {
            self.wait(end.min(now() + nanos(SWEEP)))?;
        }
        Ok(())
    }

    fn counts(&self, intended: u64) -> bool {
        (self.window.0..self.window.1).contains(&intended)
    }

    /// Sends the request that is due, when there is room.
    fn arrive(&mut self, intended: u64) -> io::Result<()> {
        let counts = self.counts(intended);
        let sent = now();
        self.seconds.at(sent, &mut self.recording.seconds).offered += 1;
        if counts {
            self.recording.offered += 1;
            if matches!(self.load.model, LoadModel::Open { .. }) {
                take(&mut self.recording.lag, sent - intended);
                self.recording.late += u64::from(sent - intended > nanos(self.load.late_after));
            }
        }
        if self.in_flight >= self.load.max_in_flight {
            self.recording.capped += u64::from(counts);
            return Ok(());
        }
        let number = self.number;
        self.number += 1;
        let place = match self.idle.pop() {
            Some(place) => place,
            None => match self.open() {
                Ok(place) => place,
                Err(_) => {
                    self.fail(intended, number, "no connection");
                    return Ok(());
                }
            },
        };
        let Some(connection) = self.connections[place].as_mut() else { return Ok(()) };
        self.caller.request(number, intended, connection.next_request());
        connection.flight = Some(PendingRequest { number, intended, sent });
        self.in_flight += 1;
        self.recording.peak_in_flight = self.recording.peak_in_flight.max(self.in_flight);
        self.recording.sent += u64::from(counts);
        self.live.sent.fetch_add(1, Ordering::Relaxed);
        self.push(place)
    }

    /// Writes the pending bytes of a connection.
    fn push(&mut self, place: usize) -> io::Result<()> {
        let Some(connection) = self.connections[place].as_mut() else { return Ok(()) };
        match connection.flush() {
            Ok(all) => {
                if connection.wants_write == all {
                    connection.wants_write = !all;
                    let more = if all { epoll::EventFlags::empty() } else { epoll::EventFlags::OUT };
                    let data = epoll::EventData::new_u64(place as u64);
                    epoll::modify(&self.epoll, &*connection, data, epoll::EventFlags::IN | more)?;
                }
                Ok(())
            }
            Err(_) => {
                self.lose(place);
                Ok(())
            }
        }
    }

    fn open(&mut self) -> io::Result<usize> {
        let connection = Connection::open(self.load.target)?;
        let place = self.vacant.pop().unwrap_or(self.connections.len());
        epoll::add(&self.epoll, &connection, epoll::EventData::new_u64(place as u64), epoll::EventFlags::IN)?;
        if place == self.connections.len() {
            self.connections.push(None);
        }
        self.connections[place] = Some(connection);
        Ok(place)
    }

    /// Waits for events until a moment, then times requests out.
    fn wait(&mut self, until: u64) -> io::Result<()> {
        let at = until.max(1);
        let timer = Itimerspec { it_interval: timespec(0), it_value: timespec(at) };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &timer)?;
        self.poll(true)?;
        self.sweep();
        self.live.p95.store(self.seconds.last_p95, Ordering::Relaxed);
        Ok(())
    }

    fn poll(&mut self, block: bool) -> io::Result<()> {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        let none = timespec(0);
        let limit = if block { None } else { Some(&none) };
        let ready = match epoll::wait(&self.epoll, &mut events, limit) {
            Ok((ready, _)) => ready.iter().map(|event| (event.data.u64(), event.flags)).collect::<Vec<_>>(),
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for (name, flags) in ready {
            if name == TIMER {
                let mut count = [0_u8; 8];
                // Nothing to read when it was set anew meanwhile.
                let _ = rustix::io::read(&self.timer, &mut count);
                continue;
            }
            let place = usize::try_from(name).unwrap_or(usize::MAX);
            if flags.contains(epoll::EventFlags::OUT) {
                self.push(place)?;
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                self.pull(place);
            }
        }
        Ok(())
    }

    /// Reads the available bytes of a connection.
    fn pull(&mut self, place: usize) {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return };
        match connection.read(&mut self.chunk) {
            ReadProgress::Pending => {}
            ReadProgress::Gone => self.lose(place),
            ReadProgress::Whole(ParseResult::Whole { status, body, keep }) => {
                let Some(flight) = connection.flight.take() else { return };
                let received = now();
                let body = match &body {
                    Body::Plain(range) => &connection.bytes()[range.clone()],
                    Body::Chunked(bytes) => bytes,
                };
                let (number, intended) = (flight.number, flight.intended);
                let answer = Answer { number, status, body, intended, received };
                let outcome = self.caller.judge(&answer);
                self.in_flight -= 1;
                self.note(flight, received, outcome);
                if keep { self.idle.push(place) } else { self.close(place) }
            }
            ReadProgress::Whole(_) => self.lose(place),
        }
    }

    fn note(&mut self, flight: PendingRequest, received: u64, outcome: Outcome) {
        let PendingRequest { number, intended, sent } = flight;
        let counts = self.counts(intended);
        let took = received.saturating_sub(intended);
        self.recording.negative += u64::from(received < intended || received < sent);
        let second = self.seconds.at(received, &mut self.recording.seconds);
        match outcome {
            Outcome::Ok => {
                second.ok += 1;
                self.seconds.latency(took);
                self.live.ok.fetch_add(1, Ordering::Relaxed);
                if counts {
                    self.recording.ok += 1;
                    take(&mut self.recording.latency, took);
                    take(&mut self.recording.service, received - sent);
                    self.recording.note_slow(took / 1_000, number);
                }
            }
            Outcome::Refused => {
                second.refused += 1;
                self.live.not_ok.fetch_add(1, Ordering::Relaxed);
                if counts {
                    self.recording.refused += 1;
                    take(&mut self.recording.refusals, took);
                }
            }
            Outcome::Failed(class) => {
                second.failed += 1;
                self.live.not_ok.fetch_add(1, Ordering::Relaxed);
                if counts {
                    *self.recording.failures.entry(class).or_default() += 1;
                }
            }
        }
    }

    /// Records a request that was never sent or whose outcome is unknown.
    fn fail(&mut self, intended: u64, number: u64, class: &'static str) {
        self.caller.unknown(number);
        let here = now();
        self.note(PendingRequest { number, intended, sent: here }, here, Outcome::Failed(class));
    }

    /// Drops a broken connection and fails its request.
    fn lose(&mut self, place: usize) {
        let Some(connection) = self.connections[place].take() else { return };
        self.idle.retain(|idle| *idle != place);
        self.vacant.push(place);
        if let Some(flight) = connection.flight {
            self.in_flight -= 1;
            self.fail(flight.intended, flight.number, "connection lost");
        }
    }

    fn close(&mut self, place: usize) {
        self.connections[place] = None;
        self.vacant.push(place);
    }

    /// Times out requests whose answer is overdue.
    fn sweep(&mut self) {
        let (here, patience) = (now(), nanos(self.load.patience));
        for place in 0..self.connections.len() {
            let flight = self.connections[place].as_ref().and_then(|connection| connection.flight);
            let Some(flight) = flight.filter(|flight| here.saturating_sub(flight.sent) > patience) else { continue };
            self.close(place);
            self.in_flight -= 1;
            if self.counts(flight.intended) {
                // It must not vanish from the percentiles: it took at least this long.
                take(&mut self.recording.latency, here - flight.intended);
            }
            self.fail(flight.intended, flight.number, "no answer in time");
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
