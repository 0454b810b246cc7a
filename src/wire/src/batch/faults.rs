//! The records of a batch that a topic's rules refuse: all of them, so that a producer can leave out the bad ones and send
//! the others again (KIP-467).

use std::fmt;

/// The text of faults that are listed for one batch; further ones are only counted. A batch of 100 MB can hold ten million
/// records, each with a fault.
pub const MAX_LISTED_FAULT_BYTES: usize = 1 << 20;

/// A record that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// Its position in the batch.
    pub index: i32,
    pub reason: FaultReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultReason {
    /// The offset delta is not the position.
    OffsetDelta(i32),
    /// The topic is compacted.
    NoKey,
    Timestamp {
        timestamp: i64,
        min: i64,
        max: i64,
    },
    /// The batch claims that the broker has stamped it.
    TimestampType,
}

impl FaultReason {
    fn is_about_time(self) -> bool {
        matches!(self, Self::Timestamp { .. } | Self::TimestampType)
    }
}

impl fmt::Display for FaultReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffsetDelta(delta) => write!(f, "The offset delta {delta} is not consecutive."),
            Self::NoKey => f.write_str("Compacted topic cannot accept message without key."),
            Self::Timestamp {
                timestamp,
                min,
                max,
            } => write!(
                f,
                "Timestamp {timestamp} is out of range. The timestamp should be within [{min}, {max}]."
            ),
            Self::TimestampType => {
                f.write_str("Producer should not set timestamp type to LogAppendTime.")
            }
        }
    }
}

/// The faults of one batch.
#[derive(Clone, Debug, Default)]
pub struct RecordFaults {
    listed: Vec<RecordFault>,
    listed_bytes: usize,
    total: usize,
    about_time: bool,
}

impl RecordFaults {
    pub fn add(&mut self, fault: RecordFault) {
        self.total += 1;
        self.about_time |= fault.reason.is_about_time();
        if self.listed_bytes < MAX_LISTED_FAULT_BYTES {
            self.listed_bytes += fault.reason.to_string().len();
            self.listed.push(fault);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// In the order of the batch, as far as [`MAX_LISTED_FAULT_BYTES`] go.
    pub fn listed(&self) -> &[RecordFault] {
        &self.listed
    }

    /// One timestamp at fault makes the batch's error one of timestamps.
    pub fn any_about_time(&self) -> bool {
        self.about_time
    }
}

impl fmt::Display for RecordFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.about_time {
            return f.write_str("One or more records have been rejected due to invalid timestamp");
        }
        write!(
            f,
            "One or more records have been rejected due to {} record errors in total, and only showing the first three \
             errors at most:",
            self.total
        )?;
        for fault in self.listed.iter().take(3) {
            write!(f, " record {}: {}", fault.index, fault.reason)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_bounded_and_the_count_is_not() {
        let mut faults = RecordFaults::default();
        for index in 0..100_000 {
            let reason = FaultReason::NoKey;
            faults.add(RecordFault { index, reason });
        }
        let text = FaultReason::NoKey.to_string().len();
        assert_eq!(faults.listed().len(), MAX_LISTED_FAULT_BYTES.div_ceil(text));
        assert!(faults.to_string().contains("100000 record errors"));
        assert!(!faults.any_about_time());
    }
}
