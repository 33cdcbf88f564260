//! The faults of the delivery scenario, as data.

use std::time::Duration;

use clap::ValueEnum;

use crate::model::Engine;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Nemesis {
    /// kill -9 of the process that executes; embedded that is the only one.
    ConsumerKilled,
    /// kill -9 of the process that accepts.
    PublisherKilled,
    /// SIGSTOP of a worker until its work was taken over, then SIGCONT: what it still does comes too late.
    WorkerFrozen,
    /// The worker's links to its servers fall silent.
    WorkerCut,
    /// RabbitMQ is asked to end and started again.
    BrokerStopped,
    /// kill -9 of RabbitMQ, then it is started again.
    BrokerKilled,
    /// Every connection of the callers is reset after they have sent: a publisher that crashes.
    ClientsReset,
    /// The callers' connections fall silent.
    ClientsCut,
}

/// What is known of a fault beforehand.
struct Traits {
    id: &'static str,
    kind: &'static str,
    words: &'static str,
    /// Seconds beyond an instant.
    lasts: u64,
}

impl Nemesis {
    /// Seconds that a cut lasts.
    pub const CUT: Duration = Duration::from_secs(5);
    /// How long a process is frozen: well beyond the three heartbeats after which others take its work over.
    pub const FROZEN: Duration = Duration::from_secs(8);

    #[rustfmt::skip]
    fn traits(self) -> Traits {
        // A broker needs 15 s from its end until it answers again on two cores.
        let (id, kind, lasts, words) = match self {
            Self::ConsumerKilled => ("consumer-killed", "N1-kill", 0,
                "consumer crashes mid-processing: kill -9 of the executing process"),
            Self::PublisherKilled => ("publisher-killed", "N1-kill", 0,
                "publisher crashes: kill -9 of the accepting process"),
            Self::WorkerFrozen => ("worker-frozen", "N2-pause", Self::FROZEN.as_secs(),
                "pause: SIGSTOP of a worker beyond its heartbeats, then SIGCONT"),
            Self::WorkerCut => ("worker-cut", "N7-partition", Self::CUT.as_secs(),
                "network partition: a worker's links to PostgreSQL, RabbitMQ and Redis carry nothing"),
            Self::BrokerStopped => ("broker-stopped", "N3-broker", 15,
                "RabbitMQ restart: SIGTERM, then started again"),
            Self::BrokerKilled => ("broker-killed", "N3-broker", 15,
                "RabbitMQ crash: kill -9, then started again"),
            Self::ClientsReset => ("clients-reset", "N7-partition", 0,
                "publisher crashes after send: every caller's connection is reset"),
            Self::ClientsCut => ("clients-cut", "N7-partition", Self::CUT.as_secs(),
                "network partition: the callers' connections carry nothing"),
        };
        Traits { id, kind, words, lasts }
    }

    /// Its name in ids.
    pub fn id(self) -> &'static str {
        self.traits().id
    }

    /// Its class.
    pub fn kind(self) -> &'static str {
        self.traits().kind
    }

    /// What it hits, in words.
    pub fn words(self) -> &'static str {
        self.traits().words
    }

    /// How long it lasts beyond an instant.
    pub fn lasts(self) -> Duration {
        Duration::from_secs(self.traits().lasts)
    }

    /// Those that an engine can meet; one process has no other that takes over.
    pub fn of(engine: Engine) -> Vec<Self> {
        match engine {
            Engine::Embedded => vec![Self::ConsumerKilled, Self::ClientsReset, Self::ClientsCut],
            Engine::Cluster => Self::value_variants().to_vec(),
        }
    }

    /// Whether it kills a process of the platform.
    pub fn is_process(self) -> bool {
        self.kind() == "N1-kill"
    }

    /// Whether it takes a server away.
    pub fn is_server(self) -> bool {
        self.kind() == "N3-broker"
    }
}
