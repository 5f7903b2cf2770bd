//! What somebody wants of a sync, and so which of its parts are due. Pure: knows neither store nor database.

use crate::leadership::Role;
use crate::rows::Depth;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Wish {
    /// A person, or watch: everything.
    Whole,
    /// `push_sqlite`: everything, and the contract's answer about the image in the bucket.
    Push,
    /// `pull_sqlite`: everything but the archive, and the contract's answer about the image in the bucket.
    Pull,
    /// A session starts and waits: what others have recorded, and nothing else.
    Start,
    /// A turn has ended.
    Turn,
    /// A session has ended.
    End,
}

/// A step that is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Who is primary.
    Role,
    /// The database that is pushed.
    Local,
    /// The image in the bucket.
    Remote,
    /// The first database came down.
    Fetched,
    /// It is in place.
    Installed,
    /// Rows came.
    Received,
    /// Rows go.
    Sent,
    /// What the archive gets.
    Snapshot,
    /// The archive's lock.
    Lock,
    /// The pack goes.
    Upload,
    /// The archive has it.
    Verified,
    /// What a pull leaves.
    Now,
}

impl Stage {
    /// The number of the step, as each command counts: those of push and pull are the Python script's. They never fall.
    pub fn label(self, wish: Wish) -> &'static str {
        match (wish, self) {
            (Wish::Push, Self::Role) => "0/6",
            (Wish::Push, Self::Local | Self::Remote | Self::Fetched | Self::Installed) => "1/6",
            (Wish::Push, Self::Received | Self::Sent | Self::Snapshot) => "2/6",
            (Wish::Push, Self::Lock) => "3/6",
            (Wish::Push, Self::Upload) => "5/6",
            (Wish::Push, Self::Verified | Self::Now) => "6/6",
            (Wish::Pull, Self::Remote | Self::Local) => "1/7",
            (Wish::Pull, Self::Role) => "2/7",
            (_, Self::Role | Self::Remote | Self::Local) => "1/7",
            (_, Self::Fetched) => "3/7",
            (_, Self::Installed) => "6/7",
            (_, Self::Received) => "3/7",
            (_, Self::Sent) => "5/7",
            (_, Self::Snapshot | Self::Lock | Self::Upload) => "6/7",
            (_, Self::Verified | Self::Now) => "7/7",
        }
    }
}

/// When the archive gets a commit, seen from the last look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archiving {
    /// Not by this wish.
    Never,
    /// Only the first commit of a project.
    First,
    /// When the last look is this many seconds ago, or there was none.
    After(i64),
}

/// The end of a session archives at most this often (seconds).
const AFTER_A_SESSION: i64 = 3_600;
/// In whatever way a machine is used, its primary archives at least this often (seconds).
const AT_LEAST: i64 = 86_400;

impl Wish {
    /// How much of the database is read for changes.
    pub fn depth(self) -> Depth {
        match self {
            Self::Turn | Self::Start => Depth::Turn,
            Self::Whole | Self::Push | Self::Pull | Self::End => Depth::Whole,
        }
    }

    /// Whether what was recorded here is looked for and published.
    pub fn publishes(self) -> bool {
        self != Self::Start
    }

    /// Whether a worker that cannot stand a lock may be stopped for a moment: not in the middle of a session.
    pub fn may_stop_the_worker(self) -> bool {
        !matches!(self, Self::Start | Self::Turn)
    }

    /// Whether somebody typed it, waits for the words, and is told where nothing could be done.
    pub fn is_typed(self) -> bool {
        matches!(self, Self::Whole | Self::Push | Self::Pull)
    }

    /// Whether the image that a Python node pushed is taken in. A primary's pull leaves it, as the contract says.
    pub fn takes_images(self, role: Option<Role>, told_to: bool) -> bool {
        match self {
            Self::Start => false,
            Self::Pull => role != Some(Role::Primary) || told_to,
            Self::Whole | Self::Push | Self::Turn | Self::End => true,
        }
    }

    /// When it archives. `mirrored`: a Python node may be about, which gets everything from the mirror alone.
    pub fn archiving(self, mirrored: bool) -> Archiving {
        match self {
            Self::Start => Archiving::Never,
            Self::Pull => Archiving::First,
            Self::Whole | Self::Push => Archiving::After(0),
            Self::End if mirrored => Archiving::After(0),
            Self::End => Archiving::After(AFTER_A_SESSION),
            Self::Turn if mirrored => Archiving::After(AFTER_A_SESSION),
            Self::Turn => Archiving::After(AT_LEAST),
        }
    }
}

impl Archiving {
    /// Whether the archive is to be looked at now; `age`: seconds since the last look, `None` where there was none. A clock
    /// that was set back makes it due.
    pub fn is_due(self, age: Option<i64>) -> bool {
        match (self, age) {
            (Self::Never, _) => false,
            (Self::First, age) => age.is_none(),
            (Self::After(_), None) => true,
            (Self::After(limit), Some(age)) => !(0..limit).contains(&age),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Archiving, Stage, Wish};
    use crate::leadership::Role;

    #[test]
    fn the_archive_is_due_by_hand_after_sessions_and_once_a_day() {
        let day = 86_400;
        let table = [
            (Wish::Start, false, None, false),
            (Wish::Pull, false, None, true),
            (Wish::Pull, false, Some(9 * day), false),
            (Wish::Push, false, Some(1), true),
            (Wish::Whole, false, Some(1), true),
            (Wish::End, false, Some(60), false),
            (Wish::End, true, Some(60), true),
            (Wish::End, false, Some(3_601), true),
            (Wish::Turn, false, Some(3_601), false),
            (Wish::Turn, true, Some(3_601), true),
            (Wish::Turn, true, Some(60), false),
            (Wish::Turn, false, Some(day + 1), true),
            (Wish::Turn, false, None, true),
            // A clock that was set back.
            (Wish::Turn, false, Some(-5), true),
        ];
        for (wish, mirrored, age, due) in table {
            assert_eq!(wish.archiving(mirrored).is_due(age), due, "{wish:?} {mirrored} {age:?}");
        }
        assert!(!Archiving::Never.is_due(None));
    }

    #[test]
    fn each_command_counts_its_steps_in_one_way() {
        use Stage::{
            Fetched, Installed, Local, Lock, Now, Received, Remote, Role, Sent, Snapshot, Upload, Verified,
        };
        let table: [(Wish, &[Stage], &str); 4] = [
            (Wish::Push, &[Role, Local, Received, Sent, Snapshot, Lock, Upload, Verified], "/6"),
            (Wish::Pull, &[Remote, Role, Fetched, Installed, Snapshot, Lock, Upload, Verified, Now], "/7"),
            (Wish::Pull, &[Remote, Role, Received, Sent, Now], "/7"),
            (Wish::Whole, &[Role, Received, Sent, Snapshot, Lock, Upload, Verified], "/7"),
        ];
        for (wish, stages, of) in table {
            let labels: Vec<_> = stages.iter().map(|stage| stage.label(wish)).collect();
            assert!(labels.iter().all(|label| label.ends_with(of)), "{wish:?} {labels:?}");
            assert!(labels.is_sorted(), "{wish:?} {labels:?}");
        }
        assert_eq!(
            (Role.label(Wish::Push), Remote.label(Wish::Pull), Now.label(Wish::Pull)),
            ("0/6", "1/7", "7/7")
        );
    }

    #[test]
    fn a_primary_pull_leaves_the_image_of_a_python_node() {
        let (primary, secondary) = (Some(Role::Primary), Some(Role::Secondary));
        let table = [
            (Wish::Pull, primary, false, false),
            (Wish::Pull, primary, true, true),
            (Wish::Pull, secondary, false, true),
            (Wish::Pull, None, false, true),
            (Wish::Start, secondary, true, false),
            (Wish::Turn, primary, false, true),
            (Wish::Whole, primary, false, true),
        ];
        for (wish, role, told_to, takes) in table {
            assert_eq!(wish.takes_images(role, told_to), takes, "{wish:?} {role:?} {told_to}");
        }
    }
}
