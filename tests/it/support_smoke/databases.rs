//! claude-mem databases.
