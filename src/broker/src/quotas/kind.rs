//! The kinds of quotas, each with the key that limits it.

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QuotaKind {
    Produce,
    Fetch,
    /// Nanoseconds that threads work on requests.
    Request,
    /// Partitions that are created or deleted.
    Mutation,
    Connection,
}

impl QuotaKind {
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Produce => "producer_byte_rate",
            Self::Fetch => "consumer_byte_rate",
            Self::Request => "request_percentage",
            Self::Mutation => "controller_mutation_rate",
            Self::Connection => "connection_creation_rate",
        }
    }

    /// The counted amount for one unit of the quota. One percent of a thread's time is 10 ms (in nanoseconds) a second.
    pub(super) fn per_unit(self) -> f64 {
        match self {
            Self::Request => 10_000_000.0,
            _ => 1.0,
        }
    }
}
