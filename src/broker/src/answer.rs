//! The answer to a request, as the writer of its connection takes it.

use futures::future::BoxFuture;
use strandline_wire::frame::ResponseFrame;

use crate::disconnects::Disconnect;

/// The outcome of a request, for the writer of the connection.
#[derive(Debug)]
pub enum Answer {
    Frame(ResponseFrame),
    /// Megabytes from the cold tier: the threads of that tier write them.
    ColdFrame(ResponseFrame),
    /// The protocol sends none (`acks=0`).
    Nothing,
    /// No answer can be given to the client, so its connection is closed.
    Close(Disconnect),
}

/// The answer to come.
pub type PendingResponse = BoxFuture<'static, Answer>;
