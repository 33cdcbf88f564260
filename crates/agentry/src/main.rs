//! The binary: the program of the library with the allocator that it ships with.

use std::process::ExitCode;

/// A task makes some hundred small allocations on one thread that another frees; glibc's allocator spends about an
/// eighth of the processor time on that (see BENCHMARKS.md).
#[cfg(not(all(feature = "heap-profile", target_os = "linux")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The allocator that remembers where memory was asked for.
#[cfg(all(feature = "heap-profile", target_os = "linux"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The configuration of jemalloc: profiling is active from the start and samples once per 2^19 bytes.
#[cfg(all(feature = "heap-profile", target_os = "linux"))]
#[expect(unsafe_code, reason = "the allocator looks for its settings under this name")]
#[unsafe(export_name = "malloc_conf")]
pub static MALLOC_CONF: &[u8] = b"prof:true,prof_active:true,lg_prof_sample:19\0";

fn main() -> ExitCode {
    agentry::main()
}
