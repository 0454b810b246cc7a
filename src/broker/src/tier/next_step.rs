//! The order in which a pass works on a partition. Pure.

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

const LEADER: [Step; 5] = [
    Step::FinishDeletions,
    Step::Roll,
    Step::Copy,
    Step::TrimLocal,
    Step::ApplyRetention,
];
const NOT_TIERED: [Step; 2] = [Step::FinishDeletions, Step::DeleteEverything];
/// The steps of a follower, and of a leader whose bucket has an unknown owner.
const LOCAL_ONLY: [Step; 1] = [Step::TrimLocal];

/// The step behind `last`; `None` at the end.
pub fn next_step(seen: Seen, last: Option<Step>) -> Option<Step> {
    let steps: &[Step] = if seen.is_taking_over {
        // Before log and cold tier are one log, it is unknown which segments are copied.
        &[]
    } else if !seen.leads || !seen.owns_prefix {
        // Nothing is written to a bucket that may be another cluster's, and nothing deleted from it.
        if seen.remote_storage_enable {
            &LOCAL_ONLY
        } else {
            &[]
        }
    } else if seen.remote_storage_enable {
        &LEADER
    } else {
        &NOT_TIERED
    };
    let Some(last) = last else {
        return steps.first().copied();
    };
    let mut rest = steps.iter().skip_while(|step| **step != last);
    rest.nth(1).copied()
}

#[cfg(test)]
mod tests {
    use super::Step::*;
    use super::*;

    #[test]
    fn steps_follow_from_the_role_and_from_whose_the_bucket_is() {
        let seen = |leads, tiered, owns, taking_over| Seen {
            leads,
            is_taking_over: taking_over,
            remote_storage_enable: tiered,
            owns_prefix: owns,
        };
        let all = |seen: Seen| {
            let mut steps = Vec::new();
            while let Some(step) = next_step(seen, steps.last().copied()) {
                steps.push(step);
            }
            steps
        };
        let whole = [FinishDeletions, Roll, Copy, TrimLocal, ApplyRetention];
        assert_eq!(all(seen(true, true, true, false)), whole);
        assert_eq!(
            all(seen(true, false, true, false)),
            [FinishDeletions, DeleteEverything]
        );
        assert_eq!(all(seen(true, true, false, false)), [TrimLocal]);
        assert_eq!(all(seen(true, false, false, false)), []);
        assert_eq!(all(seen(false, true, true, false)), [TrimLocal]);
        assert_eq!(all(seen(false, true, false, false)), [TrimLocal]);
        assert_eq!(all(seen(false, false, true, false)), []);
        for leads in [true, false] {
            assert_eq!(all(seen(leads, true, true, true)), []);
        }
    }
}
