//! Samplers: what the machine and each process did while something was measured, from `/proc`, ten times a second.
//!
//! Processor time comes from the scheduler's nanoseconds of every thread, memory from `smaps_rollup` (Pss: shared pages
//! are counted once), both of all processes of a part together with their children.

mod ledger;
mod machine;
mod metrics;
mod process;
mod sampler;

pub use ledger::{CpuLedger, CpuShare};
pub use machine::{Machine, processors};
pub use metrics::{Metrics, Scraper};
pub use process::{Memory, memory_of, usage_of};
pub use sampler::{INTERVAL, Part, PartSample, Sample, Sampler, Samples};
