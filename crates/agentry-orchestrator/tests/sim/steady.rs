//! Makes hash maps and `tokio::select!` deterministic, so that a seed is one history.
//!
//! Both are seeded by the standard library, which calls `getrandom` as a weak symbol so that it can be replaced
//! (`std::sys::random::linux`). This is the replacement, for this test binary. A runtime's own seed also depends on how
//! many runtimes its process made before, which is why each history has a process of its own. On other systems than
//! Linux with glibc a seed repeats its faults, but not the order of what happens at the same moment.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[allow(unsafe_code, reason = "the standard library calls a C function of this name")]
mod linux {
    use std::ffi::{c_uint, c_void};

    /// Fills the buffer with zeros, as getrandom(2) fills it with random bytes.
    #[unsafe(no_mangle)]
    extern "C" fn getrandom(buffer: *mut c_void, length: usize, _flags: c_uint) -> isize {
        // SAFETY: the caller owns `length` bytes at `buffer`.
        unsafe { buffer.cast::<u8>().write_bytes(0, length) };
        isize::try_from(length).unwrap_or(isize::MAX)
    }
}
