//! What the installer of the daemons writes and finds: folders, env files, units; what an old installation left; whether
//! all is well. Never touches claude-mem's memory, Claude's settings, config.env or the wrapper scripts.

pub mod env_files;
pub mod layout;
pub mod legacy;
pub mod plan;
pub mod units;
pub mod validate;
