//! What the bucket keeps of the past, for commands that only look: finding a push, its image, what differs between two.

use std::path::{Path, PathBuf};

use super::run::Run;
use crate::amount::Clock;
use crate::config::Config;
use crate::database::changes::{self, TableChange};
use crate::database::{self, files};
use crate::error::{Code, CommandResult, Failure};
use crate::history::fetch::{self, Fetch, Fetched};
use crate::history::{Commit, select};
use crate::storage::Bucket;
use crate::ui::{Progress, Ui};

/// Titles of each kind of change that are shown, and with `-v`.
const FEW: u32 = 5;
const MANY: u32 = 200;

/// The bucket, for commands that only look.
pub(super) struct Past {
    pub(super) config: Config,
    pub(super) bucket: Bucket,
    pub(super) clock: Clock,
}

impl Past {
    pub(super) async fn open(run: &Run) -> CommandResult<Self> {
        let (config, bucket) = run.open_to_read().await?;
        Ok(Self { config, bucket, clock: run.context.clock() })
    }

    /// The commit that `text` names.
    pub(super) async fn find(&self, text: &str) -> CommandResult<Commit> {
        let selector = select::parse(text, self.clock.zone()).ok_or_else(|| {
            Failure::of(Code::Usage, format!("'{text}' is neither the number of a push nor a time"))
                .hint("numbers and times: membridge history")
        })?;
        let found = select::find(&self.bucket, selector).await?;
        found.ok_or_else(|| {
            Failure::of(
                Code::NotFound,
                format!("the history at {} holds nothing for '{text}'", self.bucket.store.name()),
            )
            .hint("see what is kept: membridge history")
        })
    }

    pub(super) fn fetch<'a>(&'a self, folder: &'a Path, progress: &'a Progress) -> Fetch<'a> {
        Fetch { bucket: &self.bucket, folder, scratch: folder, progress }
    }

    /// An image in our own temporary folder, made of that of an earlier push where a delta leads from there.
    pub(super) async fn image(
        &self,
        commit: &Commit,
        before: Option<&Fetched>,
        progress: &Progress,
    ) -> CommandResult<Fetched> {
        let tmp = self.config.paths.tmp();
        Ok(fetch::after(self.fetch(&tmp, progress), commit, before).await?)
    }

    /// What differs between two images.
    pub(super) async fn changes(
        &self,
        older: &Fetched,
        newer: &Fetched,
        titles: u32,
    ) -> CommandResult<Vec<TableChange>> {
        let tmp = self.config.paths.tmp();
        let (older, newer): (PathBuf, PathBuf) = (older.path.to_path_buf(), newer.path.to_path_buf());
        database::blocking(move || {
            let scratch = files::temporary(&tmp, "diff")?;
            changes::between(&older, &newer, &scratch, titles)
        })
        .await
    }
}

/// How many bytes the images of these pushes take on their way, oldest first.
pub(super) fn download(commits: &[&Commit]) -> u64 {
    let mut before: Option<&Commit> = None;
    let mut bytes: u64 = 0;
    for commit in commits {
        let links = before.and_then(|before| commit.links_after(before.sha256));
        let own = links.map(|links| links.iter().fold(0, |sum: u64, link| sum.saturating_add(link.size)));
        bytes = bytes.saturating_add(own.unwrap_or_else(|| commit.chain_bytes()));
        before = Some(commit);
    }
    bytes
}

/// How many titles a person wants to see.
pub(super) fn titles(verbose: bool) -> u32 {
    if verbose { MANY } else { FEW }
}

/// The titles of what came (`+`), changed (`~`) and went (`-`).
pub(super) fn show_titles(ui: &Ui, change: &TableChange, indent: &str) {
    let titles = &change.titles;
    let kinds = [
        ('+', &titles.added, change.added),
        ('~', &titles.changed, change.changed),
        ('-', &titles.removed, change.removed),
    ];
    for (mark, titles, all) in kinds {
        for title in titles {
            ui.line(format!("{indent}{mark} {}", title.chars().take(70).collect::<String>()));
        }
        let more = all.saturating_sub(titles.len() as u64);
        if more > 0 && !titles.is_empty() {
            ui.line(format!("{indent}{mark} … and {more} more"));
        }
    }
}
