//! PostgreSQL, RabbitMQ and Redis of the caller's own, from what is installed: own data, own ports, loopback only.

mod dir;
mod postgres;
mod rabbitmq;
mod redis;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub use dir::{ServerDir, account_for};

use crate::{Answer, LabError, Process, ProcessGroup, ProcessIdentity, Service, Signal, free_port, probe, until};

/// How long a server may take until it answers: RabbitMQ needs 6–10 s on two cores, several times that when they are
/// busy.
const STARTS: Duration = Duration::from_secs(120);
/// How long a server may take to end after it was asked: RabbitMQ stops its applications first.
const ENDS: Duration = Duration::from_secs(30);

/// A server of the caller's own; it ends with this value.
#[derive(Debug)]
pub struct Server {
    service: Service,
    dir: ServerDir,
    /// Its port on loopback.
    pub port: u16,
    /// Its first process.
    pub process: Process,
    /// RabbitMQ's port mapper. It is dropped, and ends, after the node, which takes its name back from it.
    mapper: Option<rabbitmq::PortMapper>,
}

impl Server {
    /// Starts a server on empty data and waits until it answers.
    ///
    /// # Errors
    /// It is not installed or does not come up.
    pub async fn start(service: Service, dir: ServerDir) -> Result<Self, LabError> {
        let mut server = Self::launch(service, dir).await?;
        server.answers().await?;
        Ok(server)
    }

    /// Starts a server on empty data; it does not answer yet.
    ///
    /// # Errors
    /// It is not installed or cannot be started.
    pub async fn launch(service: Service, dir: ServerDir) -> Result<Self, LabError> {
        let mut mapper = None;
        match service {
            Service::Postgres => postgres::prepare(&dir).await?,
            Service::Rabbitmq => mapper = Some(rabbitmq::PortMapper::start(&dir).await?),
            Service::Redis => {}
        }
        let port = free_port()?;
        let mut command = command(service, &dir, port, mapper.as_ref())?;
        let process = Process::start(service.name(), &mut command, &dir.log())?;
        Ok(Self { service, dir, port, process, mapper })
    }

    /// Waits until it answers in its protocol.
    ///
    /// # Errors
    /// It ends or does not in time.
    pub async fn answers(&mut self) -> Result<Answer, LabError> {
        let (url, what) = (self.url(), format!("{} to answer", self.service.name()));
        let mut refusal = String::new();
        let waited = until(&what, STARTS, async || {
            // Looked at before asking: an answer that comes after it ended would be somebody else's.
            match self.process.must_run() {
                Ok(()) => probe(self.service, &url).await.map_err(|error| refusal = error.to_string()).ok().map(Ok),
                Err(error) => Some(Err(error)),
            }
        })
        .await;
        waited.unwrap_or_else(|late| Err(self.process.not_ready(&format!("does not answer: {late}; {refusal}"))))
    }

    /// Sends a signal and waits until it is gone. TERM asks; for PostgreSQL INT is the fast shutdown and QUIT the
    /// immediate one; KILL is a crash.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stop(&mut self, signal: Signal) -> Result<(), LabError> {
        self.process.signal(signal)?;
        self.process.wait(ENDS).await.map(drop).ok_or_else(|| self.process.not_ready("does not end"))
    }

    /// Starts it again on the data that it has, and waits until it answers.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start_again(&mut self) -> Result<(), LabError> {
        let mut command = command(self.service, &self.dir, self.port, self.mapper.as_ref())?;
        self.process = Process::start(self.service.name(), &mut command, &self.dir.log())?;
        self.answers().await.map(drop)
    }

    /// Removes its data. It must have ended.
    ///
    /// # Errors
    /// It runs, or the data cannot be removed.
    pub fn wipe(&mut self) -> Result<(), LabError> {
        if self.process.exit_status().is_none() {
            return Err(self.process.not_ready("still runs, so its data stays"));
        }
        let data = self.dir.path.join("data");
        std::fs::remove_dir_all(&data).map_err(LabError::file(data))
    }

    /// Stops the server and all its processes where they are, until the answer is dropped. Connections stay open, and
    /// nobody is told.
    ///
    /// # Errors
    /// It has ended.
    pub fn freeze(&mut self) -> Result<Frozen, LabError> {
        self.process.signal(Signal::STOP)?;
        // The first process starts no more of them.
        let mut stopped: Vec<_> = ProcessIdentity::of(self.process.pid()).into_iter().collect();
        stopped.extend(stopped.first().map(ProcessIdentity::children).unwrap_or_default());
        stopped.iter().skip(1).for_each(|child| child.signal(Signal::STOP));
        Ok(Frozen(stopped))
    }

    /// Returns its URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.service.url(self.port)
    }

    /// Returns its processes, in the order in which they are to be ended.
    #[must_use]
    pub fn processes(&self) -> Vec<ProcessIdentity> {
        let mapper = self.mapper.as_ref().map(|mapper| &mapper.process);
        std::iter::once(&self.process).chain(mapper).filter_map(|process| ProcessIdentity::of(process.pid())).collect()
    }

    /// Lets it go on when this value is dropped, and when the caller ends.
    pub fn detach(self) {
        self.process.detach();
        if let Some(mapper) = self.mapper {
            mapper.process.detach();
        }
    }
}

fn command(
    service: Service,
    dir: &ServerDir,
    port: u16,
    mapper: Option<&rabbitmq::PortMapper>,
) -> Result<Command, LabError> {
    match service {
        Service::Postgres => postgres::command(dir, port),
        Service::Rabbitmq => rabbitmq::command(dir, port, mapper.map(|mapper| mapper.port)),
        Service::Redis => redis::command(dir, port),
    }
}

/// Processes that stand still. They go on when this is dropped, also when a test fails meanwhile: a stopped process
/// would outlive it.
#[derive(Debug)]
pub struct Frozen(Vec<ProcessIdentity>);

impl Drop for Frozen {
    fn drop(&mut self) {
        self.0.iter().for_each(|process| process.signal(Signal::CONT));
    }
}

/// The three servers of the cluster engine.
#[derive(Debug)]
pub struct Servers {
    /// Holds the state.
    pub postgres: Server,
    /// Carries wakes and events.
    pub rabbitmq: Server,
    /// The cache.
    pub redis: Server,
    /// Time until all three answered, started side by side on empty data.
    pub cold_start: Duration,
}

impl Servers {
    /// Starts all three in a folder, side by side, and waits until they answer. The folder is opened to all for passing
    /// through: it is the servers' way to their data.
    ///
    /// # Errors
    /// One is not installed or does not come up.
    pub async fn start(folder: &Path, group: ProcessGroup) -> Result<Self, LabError> {
        let began = Instant::now();
        let open = std::fs::Permissions::from_mode(0o711);
        std::fs::set_permissions(folder, open).map_err(LabError::file(folder))?;
        let start = async |service: Service| {
            Server::start(service, ServerDir::create(folder.join(service.word()), service, group)?).await
        };
        let (postgres, rabbitmq, redis) =
            tokio::try_join!(start(Service::Postgres), start(Service::Rabbitmq), start(Service::Redis))?;
        Ok(Self { postgres, rabbitmq, redis, cold_start: began.elapsed() })
    }

    /// Returns where they are.
    #[must_use]
    pub fn urls(&self) -> Urls {
        Urls::at(self.postgres.port, self.rabbitmq.port, self.redis.port)
    }

    /// Returns all three.
    #[must_use]
    pub fn all(&self) -> [&Server; 3] {
        [&self.postgres, &self.rabbitmq, &self.redis]
    }
}

/// The URLs at which a process finds the servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urls {
    /// PostgreSQL.
    pub postgres: String,
    /// RabbitMQ.
    pub rabbitmq: String,
    /// Redis.
    pub redis: String,
}

impl Urls {
    /// Returns the URLs of these ports of loopback.
    #[must_use]
    pub fn at(postgres: u16, rabbitmq: u16, redis: u16) -> Self {
        Self {
            postgres: Service::Postgres.url(postgres),
            rabbitmq: Service::Rabbitmq.url(rabbitmq),
            redis: Service::Redis.url(redis),
        }
    }
}
