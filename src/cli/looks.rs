//! What commands that only look can be told.

use clap::Args;

/// What doctor can be told.
#[derive(Debug, Clone, Copy, Args)]
pub struct DoctorArgs {
    /// Do not ask the store
    #[arg(long)]
    pub no_network: bool,
    /// Exit with 1 unless the status is OK
    #[arg(long)]
    pub strict: bool,
    /// Try the store's conditional writes now (writes and removes small objects of its own)
    #[arg(long, conflicts_with = "no_network")]
    pub probe: bool,
}

/// Options of `search`.
#[derive(Debug, Clone, Args)]
pub struct SearchOptions {
    /// Words that all have to be there; 'a phrase' in quotes as it stands, and a word that ends in * with any ending
    #[arg(value_name = "WORDS", required = true)]
    pub words: Vec<String>,
    /// Also what is no longer here, but in a push that the bucket keeps; their images are fetched
    #[arg(long)]
    pub history: bool,
    /// Only of this project of claude-mem's
    #[arg(long, value_name = "PROJECT")]
    pub only: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
}

/// Options of `status`.
#[derive(Debug, Clone, Copy, Args)]
pub struct StatusOptions {
    /// One short line from what this machine knows by itself, and how old that is: for prompts and Claude Code's status line; asks no store
    #[arg(long)]
    pub oneline: bool,
}
