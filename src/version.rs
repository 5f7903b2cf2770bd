//! What `--version` says: our version, the git revision, the target, the SQLite inside. Knows nothing else.

use std::sync::LazyLock;

static LINE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} ({}, {}, SQLite {})",
        env!("CARGO_PKG_VERSION"),
        REVISION,
        env!("MEMBRIDGE_TARGET"),
        rusqlite::version()
    )
});

/// The git revision that this was built from, or `unknown revision` where there was no git.
pub const REVISION: &str = env!("MEMBRIDGE_REVISION");

/// The line behind the program's name.
pub fn line() -> &'static str {
    &LINE
}
