//! The `portcullis` command.

/// Most of what a review costs is small allocations, and musl's own allocator is slow at those.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    portcullis::cli::main()
}
