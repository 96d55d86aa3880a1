//! The `portcullis` command.

/// Small allocations are most of the cost of a review, and musl's own allocator is slow at them.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    portcullis::cli::main()
}
