//! What is set for all machines of a project: its key, and the copy for Python nodes.

use clap::Subcommand;

/// What to do with the fleet's key.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum KeyAction {
    /// Make a key and seal the project: from then on nobody without it reads or forges the memory in the bucket
    Init {
        /// Also while a copy for Python nodes is kept, or one has pushed within the last 30 days: they get nothing newer
        #[arg(long, conflicts_with = "purge")]
        force: bool,
        /// In a sealed project: list what lies in the bucket in the clear and is not needed any more
        #[arg(long)]
        purge: bool,
        /// Delete what --purge lists
        #[arg(long, requires = "purge")]
        yes: bool,
    },
    /// Print the key, for another machine and for a safe place; whoever has it can read everything
    Show,
    /// Bring the fleet's key here, from standard input or typed unseen; its passphrase will do, where it has one
    Import,
    /// Let new machines come in with a passphrase instead of the key; a second one replaces the first
    Passphrase {
        /// Take the passphrase away instead
        #[arg(long)]
        remove: bool,
    },
    /// Make a new key for everything from now on, such as when a machine was lost
    Rotate,
    /// Show whether the project is sealed, with which key, and six words to compare with another machine's
    Status,
}

/// What to do with the copy for Python nodes.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum MirrorAction {
    /// Keep the copy up: every whole push refreshes it
    On,
    /// Stop refreshing it, on all machines; refused while a Python node has pushed within the last 30 days
    Off {
        /// Switch it off all the same
        #[arg(long)]
        force: bool,
    },
    /// Show the setting; changes nothing
    Status,
}
