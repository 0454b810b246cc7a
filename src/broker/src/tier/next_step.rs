//! The steps of a pass over a partition, and which of them do not wait for each other. Pure.
//!
//! Lanes go side by side, the steps of one in order. No step needs that another one succeeds: plans are made from what is
//! committed. So a store that forbids deletes stops neither copying nor local retention.

/// The state of a partition when a pass begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Both the image and the partition's owner say that this broker leads.
    pub leads: bool,
    /// Log and cold tier are not one log yet: see `partition::takeover`.
    pub is_taking_over: bool,
    pub remote_storage_enable: bool,
    /// The bucket prefix is known to be this cluster's.
    pub owns_prefix: bool,
}

/// Each with its own errors and its own back-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Continue deletions that an earlier pass or process began, and delete unfinished copies that no process
    /// continues.
    FinishDeletions,
    /// The topic is not tiered any more, with consent to delete.
    DeleteEverything,
    /// Seal the active segment if all of it has expired.
    Roll,
    Copy,
    TrimLocal,
    ApplyRetention,
}

impl Step {
    /// For log lines and `tier status`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FinishDeletions => "finish deletions",
            Self::DeleteEverything => "delete everything",
            Self::Roll => "roll",
            Self::Copy => "copy",
            Self::TrimLocal => "local retention",
            Self::ApplyRetention => "retention",
        }
    }
}

/// Steps that follow each other, because they work on the same.
pub type Lane = &'static [Step];

const DELETING: Lane = &[Step::FinishDeletions, Step::ApplyRetention];
const DELETING_ALL: Lane = &[Step::FinishDeletions, Step::DeleteEverything];
const COPYING: Lane = &[Step::Roll, Step::Copy];
const LOCAL: Lane = &[Step::TrimLocal];

/// The lanes of a partition in this state.
pub fn lanes(seen: Seen) -> &'static [Lane] {
    match seen {
        // Before log and cold tier are one log, it is unknown which segments are copied.
        Seen {
            is_taking_over: true,
            ..
        } => &[],
        Seen {
            leads: true,
            owns_prefix: true,
            remote_storage_enable: true,
            ..
        } => &[COPYING, LOCAL, DELETING],
        Seen {
            leads: true,
            owns_prefix: true,
            ..
        } => &[DELETING_ALL],
        // A follower, or a leader whose bucket is in doubt: nothing is written to a bucket that may be another cluster's,
        // and nothing deleted from it.
        Seen {
            remote_storage_enable: true,
            ..
        } => &[LOCAL],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_follow_from_the_role_and_from_whose_the_bucket_is() {
        let seen = |leads, tiered, owns, taking_over| {
            lanes(Seen {
                leads,
                is_taking_over: taking_over,
                remote_storage_enable: tiered,
                owns_prefix: owns,
            })
        };
        let none: &[Lane] = &[];
        assert_eq!(
            seen(true, true, true, false),
            [COPYING, LOCAL, DELETING],
            "what deletes is in no lane with what copies"
        );
        assert_eq!(seen(true, false, true, false), [DELETING_ALL]);
        assert_eq!(seen(true, true, false, false), [LOCAL]);
        assert_eq!(seen(true, false, false, false), none);
        assert_eq!(seen(false, true, true, false), [LOCAL]);
        assert_eq!(seen(false, true, false, false), [LOCAL]);
        assert_eq!(seen(false, false, true, false), none);
        for leads in [true, false] {
            assert_eq!(seen(leads, true, true, true), none);
        }
    }
}
