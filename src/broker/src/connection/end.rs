//! How a connection's requests ended.

use std::io;

use crate::disconnects::{Cause, Disconnect, RequestedApi};

pub(super) enum End {
    /// The client closed it, or it broke.
    ByClient(io::Error),
    /// The broker closes it.
    ByBroker(Disconnect),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::ByClient(error)
    }
}

pub(super) fn close(cause: Cause, api: Option<RequestedApi>, reason: impl ToString) -> End {
    End::ByBroker(Disconnect {
        cause,
        api,
        reason: reason.to_string(),
    })
}
