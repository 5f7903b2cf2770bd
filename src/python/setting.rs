//! Whether the objects for Python nodes are kept up at all: one setting for the whole fleet, kept in the bucket. Reads
//! and writes it; the command that changes it asks first whether a Python node is still about.

use serde::{Deserialize, Serialize};

use crate::error::{Code, CommandResult, Failure};
use crate::storage::{Bucket, Outcome, records};

/// `membridge/settings.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorSetting {
    /// `on` or `off`.
    pub mirror: String,
    /// ISO time of the change.
    #[serde(default)]
    pub changed_at: String,
    /// Node that changed it.
    #[serde(default)]
    pub changed_by: String,
    /// The name that the project goes on under, where it was renamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renamed_to: Option<String>,
    /// Random: each write has bytes of its own.
    #[serde(default)]
    pub token: String,
}

impl MirrorSetting {
    /// Only the word `off` switches it off: whatever else is there, Python nodes are served.
    pub fn is_on(&self) -> bool {
        self.mirror != "off"
    }

    /// Whether a machine has ever said so, one way or the other.
    pub fn was_said(&self) -> bool {
        !self.changed_at.is_empty()
    }
}

/// Reads the setting; on where there is none, and always off in a sealed project.
///
/// # Errors
/// The store's; a record that is not one.
pub async fn read(bucket: &Bucket) -> CommandResult<MirrorSetting> {
    let (there, _) = bucket.read_signed::<MirrorSetting>(&bucket.keys.settings()).await?;
    // Whoever reads the objects for Python nodes reads the memory.
    let mirror = if bucket.seal.is_on() { "off" } else { "on" };
    let setting = there.unwrap_or_else(|| MirrorSetting {
        mirror: mirror.to_owned(),
        changed_at: String::new(),
        changed_by: String::new(),
        renamed_to: None,
        token: String::new(),
    });
    Ok(if bucket.seal.is_on() { MirrorSetting { mirror: mirror.to_owned(), ..setting } } else { setting })
}

/// What is changed of it.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Whether the objects for Python nodes are kept up.
    Mirror(bool),
    /// The name that the project goes on under.
    Renamed(&'a str),
}

/// Writes a change over what was there.
///
/// # Errors
/// The store's; somebody else changed it at the same moment.
pub async fn write(bucket: &Bucket, change: Change<'_>, node: &str) -> CommandResult {
    let token = bucket
        .context
        .token()
        .map_err(|error| Failure::of(Code::NoRandomness, format!("no random numbers: {error}")))?;
    let key = bucket.keys.settings();
    let seen = bucket.store.head(&key).await?.map(|meta| meta.etag);
    let there = read(bucket).await?;
    let (mirror, renamed_to) = match change {
        Change::Mirror(on) => (if on { "on" } else { "off" }.to_owned(), there.renamed_to),
        Change::Renamed(name) => (there.mirror, Some(name.to_owned())),
    };
    let setting = MirrorSetting {
        mirror,
        changed_at: records::iso(bucket.context.server_now()),
        changed_by: node.to_owned(),
        renamed_to,
        token,
    };
    match bucket.swap(&key, seen.as_ref(), &bucket.to_bytes(&key, &setting)?).await? {
        Outcome::Won(_) => Ok(()),
        Outcome::Lost => {
            Err(Failure::of(Code::Contended, "another machine changed the setting at the same moment")
                .hint("see what it is now: membridge mirror status"))
        }
    }
}
