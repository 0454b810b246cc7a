//! Producer ids from blocks that the quorum reserves.

use strandline_metadata::controller::{Answer, Command, PRODUCER_ID_BLOCK};
use strandline_quorum::Quorum;
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
            let change = quorum.submit(Command::AllocateProducerIds).await;
            let Answer::FirstProducerId(first) = change.map_err(|e| e.to_string())?.answer else {
                return Err("the controller answered something else".into());
            };
            *block = (first, first + PRODUCER_ID_BLOCK);
        }
        let id = block.0;
        block.0 += 1;
        Ok(id)
    }
}
