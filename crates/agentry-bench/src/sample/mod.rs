//! Samplers of the machine and of each process, from `/proc`, ten times a second.
//!
//! Processor time comes from the scheduler's nanoseconds of every thread, memory from `smaps_rollup` (Pss: shared pages
//! are counted once), both of all processes of a part together with their children.

mod ledger;
mod machine;
mod metrics;
mod process;
mod sampler;

pub use ledger::CpuLedger;
pub use machine::processors;
pub use metrics::{Metrics, Scraper};
pub use process::{pss_of, usage_of};
pub use sampler::{INTERVAL, Part, PartSample, Sample, Sampler, Samples, lock};
