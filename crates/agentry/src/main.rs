//! The binary: the program of the library with the allocator that it ships with.

use std::process::ExitCode;

/// A task makes some hundred small allocations on one thread that another frees; glibc's allocator spends about an
/// eighth of the processor time on that (see BENCHMARKS.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    agentry::main()
}
