//! Checks of the servers of the cluster engine: availability, latency, version.

use agentry_config::Settings;

use super::{CheckState, DoctorCheck, check};
use crate::failure::Failure;

/// Checks the configured servers.
pub async fn checks(settings: &Settings) -> Result<Vec<DoctorCheck>, Failure> {
    let cluster = crate::engine::cluster_settings(settings)?;
    let redis = async {
        match &cluster.redis_url {
            None => None,
            Some(url) => Some(crate::servers::redis(url).await),
        }
    };
    let (postgres, rabbitmq, redis) =
        tokio::join!(crate::servers::postgres(&cluster), crate::servers::rabbitmq(&cluster), redis);
    let mut checks = servers::postgres(postgres, &cluster);
    checks.extend([servers::rabbitmq(rabbitmq), servers::redis(redis)]);
    Ok(checks)
}

mod servers {
    use std::time::Duration;

    use agentry_config::Cluster;

    use super::{CheckState, DoctorCheck, check};
    use crate::servers::{PostgresInfo, ServerInfo};

    /// The oldest PostgreSQL that is tested, as it numbers itself.
    const OLDEST_POSTGRES: i32 = 150_000;
    /// The oldest RabbitMQ that is tested.
    const OLDEST_RABBITMQ: (u32, u32) = (3, 10);
    /// The round-trip time above which every task is slow.
    const SLOW: Duration = Duration::from_millis(5);
    /// The tolerated offset of clocks: above a heartbeat, workers appear dead.
    const CLOCKS_APART_MS: f64 = 500.0;

    fn millis(time: Duration) -> String {
        format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
    }

    pub fn postgres(found: Result<PostgresInfo, String>, cluster: &Cluster) -> Vec<DoctorCheck> {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let advice = "start PostgreSQL, or correct AGENTRY_POSTGRES_URL";
                return vec![check("postgres", CheckState::Bad, error, Some(advice))];
            }
        };
        let PostgresInfo { version, round_trip, max_connections, .. } = &found;
        let said = format!("{version}, answers in {}, {max_connections} connections at most", millis(*round_trip));
        let server = if found.version_number < OLDEST_POSTGRES {
            check("postgres", CheckState::Bad, said, Some("use PostgreSQL 15 or newer"))
        } else if found.read_only {
            check(
                "postgres",
                CheckState::Bad,
                format!("{version} takes no writes"),
                Some("name the primary, not a replica"),
            )
        } else if *round_trip > SLOW {
            check("postgres", CheckState::Look, said, Some("every task needs a few round trips: bring it closer"))
        } else {
            check("postgres", CheckState::Good, said, None)
        };
        let schema = &cluster.postgres_schema;
        let writable = if found.may_write {
            check("schema", CheckState::Good, format!("`{schema}` can be written"), None)
        } else {
            let advice = "GRANT CREATE on the database or the schema to this user, or choose AGENTRY_POSTGRES_SCHEMA";
            check("schema", CheckState::Bad, format!("`{schema}` cannot be written by this user"), Some(advice))
        };
        let apart = format!("PostgreSQL's clock is {:+.1} ms from ours", found.clock_ms);
        let clocks = if found.clock_ms.abs() > CLOCKS_APART_MS {
            check("clocks", CheckState::Look, apart, Some("run NTP on both machines: times and schedules depend on it"))
        } else {
            check("clocks", CheckState::Good, apart, None)
        };
        vec![server, writable, clocks]
    }

    pub fn rabbitmq(found: Result<ServerInfo, String>) -> DoctorCheck {
        match found {
            Err(error) => {
                check("rabbitmq", CheckState::Bad, error, Some("start RabbitMQ, or correct AGENTRY_RABBITMQ_URL"))
            }
            Ok(server) => {
                let said = format!("{}, answers in {}", server.version, millis(server.round_trip));
                match major_minor(&server.version) {
                    Some(version) if version < OLDEST_RABBITMQ => {
                        check("rabbitmq", CheckState::Bad, said, Some("use RabbitMQ 3.10 or newer"))
                    }
                    _ => check("rabbitmq", CheckState::Good, said, None),
                }
            }
        }
    }

    pub fn redis(found: Option<Result<ServerInfo, String>>) -> DoctorCheck {
        match found {
            None => check("redis", CheckState::Good, "not used: nothing is cached", None),
            Some(Ok(server)) => {
                let said = format!("{}, answers in {}", server.version, millis(server.round_trip));
                check("redis", CheckState::Good, said, None)
            }
            Some(Err(error)) => {
                let advice = "start Redis or correct AGENTRY_REDIS_URL; without it everything works, uncached";
                check("redis", CheckState::Look, error, Some(advice))
            }
        }
    }

    fn major_minor(version: &str) -> Option<(u32, u32)> {
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}
