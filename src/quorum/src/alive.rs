//! The message by which a process says, several times a second, that it lives.
//!
//! The message grows at its end: an older version sends fewer fields, which are empty then, and ignores the bytes that
//! follow the fields that it knows. Both rely on the message being the last part of its frame.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// Brokers that one message suspects at the most.
pub(crate) const MAX_SUSPECTS: usize = 64;

/// A process lives, has applied the metadata up to an index, and hears nothing from some leaders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Alive {
    pub node_id: i32,
    pub incarnation: Uuid,
    pub applied_index: u64,
    /// Leaders, by `node.id`, that leave a fetch of this process unanswered.
    pub suspects: BTreeSet<i32>,
    /// Milliseconds between two of these messages; 0 where an older version does not say.
    pub every_ms: u32,
}

impl<'de> Deserialize<'de> for Alive {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_tuple(5, Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Alive;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("three fields or more")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Alive, A::Error> {
        let missing = |n| A::Error::invalid_length(n, &self);
        let node_id = fields.next_element()?.ok_or_else(|| missing(0))?;
        let incarnation = fields.next_element()?.ok_or_else(|| missing(1))?;
        let applied_index = fields.next_element()?.ok_or_else(|| missing(2))?;
        // An older version's message ends here.
        let suspects: Option<BTreeSet<i32>> = fields.next_element().unwrap_or_default();
        let every_ms: Option<u32> = fields.next_element().unwrap_or_default();
        let suspects = suspects.unwrap_or_default();
        Ok(Alive {
            node_id,
            incarnation,
            applied_index,
            suspects: suspects.into_iter().take(MAX_SUSPECTS).collect(),
            every_ms: every_ms.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message of the version before suspicions.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Older {
        node_id: i32,
        incarnation: Uuid,
        applied_index: u64,
    }

    #[test]
    fn an_older_version_is_understood_and_understands() {
        let (node_id, incarnation, applied_index) = (3, Uuid::from_u128(9), 1 << 40);
        let newer = Alive {
            node_id,
            incarnation,
            applied_index,
            suspects: BTreeSet::from([1, 2]),
            every_ms: 250,
        };
        let older = Older {
            node_id,
            incarnation,
            applied_index,
        };
        let bytes = postcard::to_stdvec(&newer).unwrap();
        assert_eq!(postcard::from_bytes::<Alive>(&bytes).unwrap(), newer);
        assert_eq!(postcard::from_bytes::<Older>(&bytes).unwrap(), older);
        let bytes = postcard::to_stdvec(&older).unwrap();
        let read: Alive = postcard::from_bytes(&bytes).unwrap();
        let (suspects, every_ms) = (BTreeSet::new(), 0);
        assert_eq!(
            read,
            Alive {
                suspects,
                every_ms,
                ..newer
            }
        );
    }
}
