//! `bench generate agents|workload`: the same data for the same seed.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{BenchError, Outcome};
use crate::generate::{ModelTarget, agents, to_lines, workload};

/// Agents or tasks at most, as the command line says it.
const MAX: i64 = crate::generate::MAX_COUNT as i64;

/// What to generate.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Agent files that `agentry validate` accepts, with random modes
    Agents(Agents),
    /// Tasks with their times, as JSON lines on standard output
    Workload(Workload),
}

/// `bench generate agents`.
#[derive(Debug, Args)]
pub struct Agents {
    /// How many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=MAX))]
    pub count: u32,
    /// The same seed gives the same files
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder to write them to; must be empty or new
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Provider that answers them
    #[arg(long, default_value = "simulated", value_name = "NAME")]
    pub provider: String,
    /// Model
    #[arg(long, default_value = "echo", value_name = "ID")]
    pub model: String,
    /// Address of a simulator or compatible server
    #[arg(long, value_name = "URL")]
    pub base_url: Option<String>,
}

/// `bench generate workload`.
#[derive(Debug, Args)]
pub struct Workload {
    /// How many tasks
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=MAX))]
    pub count: u32,
    /// Tasks per second, Poisson
    #[arg(long, default_value_t = 50.0)]
    pub rate: f64,
    /// Over this many agents, named as `generate agents` names them
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=MAX))]
    pub agents: u32,
    /// The same seed gives the same tasks
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// Generates.
pub fn generate(command: &Generate) -> Result<Outcome, BenchError> {
    match command {
        Generate::Agents(args) => write_agents(args),
        Generate::Workload(args) if !(args.rate.is_finite() && args.rate > 0.0) => {
            Err(BenchError::usage(format!("--rate {} is no rate", args.rate)).help("give tasks per second, above 0"))
        }
        Generate::Workload(args) => Ok(Outcome::ok(to_lines(&workload(args.count, args.rate, args.agents, args.seed)))),
    }
}

fn write_agents(args: &Agents) -> Result<Outcome, BenchError> {
    let dir = &args.out;
    let cannot = |path: &Path, error: &std::io::Error| {
        BenchError::new(format!("cannot write {}: {error}", path.display()))
            .help("name a folder that can be written with --out")
    };
    fs::create_dir_all(dir).map_err(|error| cannot(dir, &error))?;
    if fs::read_dir(dir).map_err(|error| cannot(dir, &error))?.next().is_some() {
        let message = format!("{} is not empty", dir.display());
        return Err(BenchError::new(message).help("generated agents do not mix with others: name a new folder"));
    }
    let target =
        ModelTarget { provider: args.provider.clone(), model: args.model.clone(), base_url: args.base_url.clone() };
    for file in agents(args.count, args.seed, &target) {
        let path = dir.join(&file.name);
        fs::write(&path, file.text).map_err(|error| cannot(&path, &error))?;
    }
    Ok(Outcome::ok(format!("{} agent files in {}\n", args.count, dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_other_files_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let args = |out: PathBuf| {
            let (provider, model) = ("simulated".to_owned(), "echo".to_owned());
            Generate::Agents(Agents { count: 3, seed: 1, out, provider, model, base_url: None })
        };
        let new = dir.path().join("new");
        assert!(generate(&args(new.clone())).is_ok());
        assert_eq!(fs::read_dir(&new).unwrap().count(), 3);
        assert!(generate(&args(new)).unwrap_err().message.contains("not empty"));
    }

    #[test]
    fn a_rate_of_nothing_is_refused() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let asked = Generate::Workload(Workload { count: 1, rate, agents: 1, seed: 1 });
            assert_eq!(generate(&asked).unwrap_err().exit, 2, "{rate}");
        }
    }
}
