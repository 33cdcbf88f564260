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

/// Properties of a fault.
pub struct FaultTraits {
    /// Name in ids.
    pub id: &'static str,
    /// Class.
    pub kind: &'static str,
    /// Description of the victim.
    pub words: &'static str,
    /// Duration beyond an instant.
    pub duration: Duration,
}

impl Nemesis {
    /// Duration of a cut.
    pub const CUT: Duration = Duration::from_secs(5);
    /// Duration of a freeze: well beyond the three heartbeats after which other processes take its work over.
    pub const FROZEN: Duration = Duration::from_secs(8);

    /// Returns the properties of the fault.
    #[rustfmt::skip]
    pub fn traits(self) -> FaultTraits {
        // A broker needs 15 s from its end until it answers again on two cores.
        let (id, kind, seconds, words) = match self {
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
        FaultTraits { id, kind, words, duration: Duration::from_secs(seconds) }
    }

    /// Returns the faults of an engine; embedded there is no other process that takes over.
    pub fn of(engine: Engine) -> Vec<Self> {
        match engine {
            Engine::Embedded => vec![Self::ConsumerKilled, Self::ClientsReset, Self::ClientsCut],
            Engine::Cluster => Self::value_variants().to_vec(),
        }
    }

    /// Returns whether it kills a process of the platform.
    pub fn is_process(self) -> bool {
        self.traits().kind == "N1-kill"
    }

    /// Returns whether it stops a server.
    pub fn is_server(self) -> bool {
        self.traits().kind == "N3-broker"
    }
}
