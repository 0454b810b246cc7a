//! The statement of a broker to the controller about a replica whose log directory has failed or is full. Pure.
//!
//! A full replica steps aside only where another one can lead: alone, it still serves reads. Nothing is lost by stepping
//! aside, because only a member of the ISR takes over.

use strandline_metadata::PartitionImage;
use strandline_types::BrokerId;

/// A replica as this broker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Well,
    /// Nothing can be appended until there is room.
    Full,
    /// The replica cannot be read or written until the next start.
    Offline,
}

/// A statement to the controller about a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Statement {
    Failed,
    Full,
    /// The replica can be used again.
    Usable,
}

/// The statement about the replica of `own`; `None` where the metadata agrees with `standing`.
pub fn statement(own: BrokerId, state: &PartitionImage, standing: Standing) -> Option<Statement> {
    let is_marked = state.offline_replicas.contains(&own);
    let is_alone = state.leader.is_none_or(|leader| leader == own)
        && state.isr.iter().all(|replica| *replica == own);
    match standing {
        Standing::Offline => (!is_marked).then_some(Statement::Failed),
        Standing::Full if is_marked => state.leader.is_none().then_some(Statement::Usable),
        Standing::Full => (!is_alone).then_some(Statement::Full),
        Standing::Well => is_marked.then_some(Statement::Usable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(leader: Option<i32>, isr: &[i32], offline: &[i32]) -> PartitionImage {
        let ids = |ids: &[i32]| ids.iter().map(|id| BrokerId(*id)).collect();
        PartitionImage {
            replicas: ids(&[1, 2, 3]),
            isr: ids(isr),
            leader: leader.map(BrokerId),
            offline_replicas: ids(offline),
            ..PartitionImage::default()
        }
    }

    #[test]
    fn a_full_replica_steps_aside_for_others_and_comes_back_when_there_is_room_or_nobody_leads() {
        use Standing::{Full, Offline, Well};
        let cases = [
            // A leader.
            (state(Some(1), &[1, 2, 3], &[]), Well, None),
            (state(Some(1), &[1, 2, 3], &[]), Full, Some(Statement::Full)),
            (
                state(Some(1), &[1, 2, 3], &[]),
                Offline,
                Some(Statement::Failed),
            ),
            // The only one in sync.
            (state(Some(1), &[1], &[]), Full, None),
            (state(Some(1), &[1], &[2, 3]), Full, None),
            (state(Some(1), &[1], &[]), Offline, Some(Statement::Failed)),
            // A follower, in sync and behind.
            (state(Some(2), &[1, 2, 3], &[]), Full, Some(Statement::Full)),
            (state(Some(2), &[2, 3], &[]), Full, Some(Statement::Full)),
            (state(Some(2), &[2, 3], &[1]), Full, None),
            (state(Some(2), &[2, 3], &[1]), Well, Some(Statement::Usable)),
            (state(Some(2), &[2, 3], &[1]), Offline, None),
            // Nobody leads: whoever has the records serves them.
            (state(None, &[], &[1]), Full, Some(Statement::Usable)),
            (state(None, &[], &[]), Full, None),
            (state(None, &[], &[1]), Offline, None),
        ];
        for (state, standing, told) in cases {
            assert_eq!(
                statement(BrokerId(1), &state, standing),
                told,
                "{standing:?} {state:?}"
            );
        }
    }
}
