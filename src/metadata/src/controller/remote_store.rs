//! The identity of the object store that is the cluster's cold tier. The store's id stands in a marker object at the
//! prefix and in the metadata, so a broker notices if its properties name another place.
//!
//! Brokers claim the id before they write the marker, so brokers that start together agree on one id. The id is a
//! dynamic value of all brokers under [`REMOTE_STORE_KEY`]. If an operator deletes the value, the next broker that
//! starts claims a new id.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Refusal;
use crate::image::ClusterImage;
use crate::record::{ConfigResource, MetadataRecord};

/// Dynamic configuration of all brokers that names the store.
pub const REMOTE_STORE_KEY: &str = "strandline.remote.store.id";
const PENDING: &str = "pending";

/// The cluster's cold tier as far as the metadata know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownRemoteStore {
    /// The id is claimed; a broker whose properties name `url` writes the marker.
    Pending { id: Uuid, url: String },
    /// The marker is written.
    Placed { id: Uuid },
}

impl KnownRemoteStore {
    pub fn id(&self) -> Uuid {
        match self {
            Self::Pending { id, .. } | Self::Placed { id } => *id,
        }
    }

    /// The store in the image; `None` where no store has been claimed, or the value is malformed.
    pub fn of(image: &ClusterImage) -> Option<Self> {
        let configs = image.configs(&ConfigResource::Broker(None));
        let mut words = configs.get(REMOTE_STORE_KEY)?.splitn(3, ' ');
        let first = words.next()?;
        if first != PENDING {
            return Uuid::try_parse(first).ok().map(|id| Self::Placed { id });
        }
        Some(Self::Pending {
            id: Uuid::try_parse(words.next()?).ok()?,
            url: words.next()?.to_owned(),
        })
    }
}

/// A step of a broker that looks for its cold tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RemoteStoreStep {
    /// Claims the store if the cluster has none yet. Changes nothing if another broker was faster.
    Claim { id: Uuid, url: String },
    /// Records that the marker with this id stands in the bucket. The command is committed even if the id was known, so
    /// that the sender knows afterwards that its image is up to date.
    Confirm { id: Uuid },
}

pub(super) fn note_remote_store(
    image: &ClusterImage,
    step: RemoteStoreStep,
) -> Result<Vec<MetadataRecord>, Refusal> {
    let known = KnownRemoteStore::of(image);
    let value = match (known, step) {
        (None, RemoteStoreStep::Claim { id, url }) => format!("{PENDING} {id} {url}"),
        (Some(_), RemoteStoreStep::Claim { .. }) => return Ok(Vec::new()),
        (Some(known), RemoteStoreStep::Confirm { id }) if known.id() != id => {
            return Err(Refusal::Fenced(format!(
                "the cluster's cold tier is store {}, not {id}",
                known.id()
            )));
        }
        (_, RemoteStoreStep::Confirm { id }) => id.to_string(),
    };
    Ok(vec![MetadataRecord::Config {
        resource: ConfigResource::Broker(None),
        key: REMOTE_STORE_KEY.to_owned(),
        value: Some(value),
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_claim_holds_and_a_confirmation_is_always_committed() {
        let mut image = ClusterImage::default();
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut step = |step| {
            let records = note_remote_store(&image, step)?;
            let count = records.len();
            records.into_iter().for_each(|record| image.apply(record));
            Ok::<_, Refusal>((count, KnownRemoteStore::of(&image)))
        };
        let claim = |id, url: &str| RemoteStoreStep::Claim {
            id,
            url: url.to_owned(),
        };
        let pending = Some(KnownRemoteStore::Pending {
            id: one,
            url: "s3://a b/c".to_owned(),
        });
        assert_eq!(step(claim(one, "s3://a b/c")), Ok((1, pending.clone())));
        assert_eq!(step(claim(two, "s3://other")), Ok((0, pending)));
        assert!(step(RemoteStoreStep::Confirm { id: two }).is_err());
        let placed = Some(KnownRemoteStore::Placed { id: one });
        for _ in 0..2 {
            let confirmed = step(RemoteStoreStep::Confirm { id: one });
            assert_eq!(confirmed, Ok((1, placed.clone())));
        }
        assert_eq!(step(claim(two, "s3://other")), Ok((0, placed)));
    }
}
