//! Segments that are asked for before it is known whether they are there: a session that starts waits for one answer of the
//! store instead of three. Nothing of them is proved, and nothing of them counts, until the store turned out to be the one
//! that this machine knows. Decides which; the log fetches.

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::log::{Download, RowLog};
use super::shadow::{Shadow, ShadowError};
use super::stamp::Writer;

/// Of so many machines, those that were heard of last: each costs a request, whether it has anything to say or not.
const MACHINES: usize = 4;
/// Where the shadow keeps who was heard of last.
pub const LATELY: &str = "lately";

/// A segment by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Whose.
    pub writer: Writer,
    /// Its number.
    pub number: u64,
}

/// What came of asking ahead.
#[derive(Debug, Default)]
pub struct Ahead {
    /// Those that are there.
    pub(super) segments: Vec<(Writer, u64, Download)>,
}

impl Ahead {
    /// Whether nothing came.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}

/// Who was heard of last, the latest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lately(Vec<Writer>);

impl Lately {
    /// These were heard of just now.
    pub fn hear(&mut self, now: impl IntoIterator<Item = Writer>) {
        for writer in now {
            self.0.retain(|known| *known != writer);
            self.0.insert(0, writer);
        }
        self.0.truncate(MACHINES);
    }

    /// The segment that follows what was collected of each of them.
    pub fn next(&self, collected: impl Fn(Writer) -> Option<u64>) -> Vec<Next> {
        let next = |writer: &Writer| {
            collected(*writer).map(|number| Next { writer: *writer, number: number.saturating_add(1) })
        };
        self.0.iter().take(MACHINES).filter_map(next).collect()
    }
}

/// Notes who was heard of.
///
/// # Errors
/// The shadow's.
pub fn note(shadow: &Shadow, now: &[Writer]) -> Result<(), ShadowError> {
    if now.is_empty() {
        return Ok(());
    }
    let mut lately: Lately = shadow.get(LATELY)?.unwrap_or_default();
    lately.hear(now.iter().copied());
    shadow.set(LATELY, &lately)
}

/// Asks for all of them at once. What is not there yet, or cannot be had now, is left to those who ask by the node records,
/// and say what is wrong.
pub async fn fetch(log: &RowLog<'_>, next: &[Next]) -> Ahead {
    let ask = |next: &Next| {
        let Next { writer, number } = *next;
        async move { (writer, number, Box::pin(log.download(&writer.to_string(), number)).await) }
    };
    let mut segments = Vec::new();
    for (writer, number, came) in join_all(next.iter().map(ask)).await {
        match came {
            Ok(Some(download)) => segments.push((writer, number, download)),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "rows: asked ahead"),
        }
    }
    Ahead { segments }
}

#[cfg(test)]
mod tests {
    use super::{Lately, Next};
    use crate::rows::stamp::Writer;

    #[test]
    fn the_four_that_were_heard_of_last_are_asked_for_their_next_segment() {
        let writer = |byte: u8| Writer::Id([byte; 16]);
        let mut lately = Lately::default();
        assert_eq!(lately.next(|_| Some(1)), []);
        lately.hear((1..=5).map(writer));
        lately.hear([writer(3)]);
        let next = lately.next(|of| (of != writer(4)).then_some(7));
        assert_eq!(next, [3, 5, 2].map(|byte| Next { writer: writer(byte), number: 8 }));
    }
}
