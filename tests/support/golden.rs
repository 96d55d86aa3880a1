//! Golden files: recorded outputs that a test compares with the current ones.

use std::path::Path;

/// Returns true if the recorded outputs are to be replaced.
pub(crate) fn is_update() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}

/// Compares an output with a golden file. `UPDATE_GOLDEN=1` writes the file.
///
/// # Errors
/// Returns the file and the output if they differ.
pub(crate) fn compare(file: &Path, found: &str) -> Result<(), String> {
    if is_update() {
        std::fs::write(file, found).unwrap();
    }
    let recorded = std::fs::read_to_string(file).unwrap_or_default();
    let differs = || format!("{} differs; UPDATE_GOLDEN=1 writes\n{found}", file.display());
    if recorded == found { Ok(()) } else { Err(differs()) }
}
