//! Producer ids from blocks that the quorum reserves.

use strandline_metadata::controller::{PRODUCER_ID_BLOCK, allocate_producer_ids};
use strandline_quorum::{DecideError, Quorum};
use tokio::sync::Mutex;

/// Hands out producer ids; none is ever handed out twice in a cluster.
#[derive(Default)]
pub struct ProducerIds {
    /// Next id and the end of the block.
    block: Mutex<(i64, i64)>,
}

impl ProducerIds {
    pub async fn next(&self, quorum: &Quorum) -> Result<i64, String> {
        let mut block = self.block.lock().await;
        if block.0 == block.1 {
            let image = quorum
                .decide(|image| Ok::<_, std::convert::Infallible>(allocate_producer_ids(image)))
                .await
                .map_err(|e: DecideError<_>| e.to_string())?;
            *block = (
                image.next_producer_id - PRODUCER_ID_BLOCK,
                image.next_producer_id,
            );
        }
        let id = block.0;
        block.0 += 1;
        Ok(id)
    }
}
