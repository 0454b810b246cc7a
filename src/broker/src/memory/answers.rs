//! The bytes of records in answers that have not been written yet: `strandline.queued.max.response.bytes`.
//!
//! The more of them are under way, the smaller the next answer: a fetch may always be answered with less than it asks
//! for. When none are left, a fetch waits for its turn; a fetch that has records already does not wait for more.

use super::budget::Budget;

/// No answer is made smaller than this for want of memory.
const SMALLEST_SHARE: usize = 256 << 10;
/// The part of the free memory that one answer may take.
const SHARE: usize = 4;

/// Bytes of records in answers to replicas.
const REPLICAS_BYTES: usize = 64 << 20;

/// The memory of all connections for answers.
pub struct AnswerMemory {
    pub records: Budget,
    /// For replicas: consumers that read slowly must not hold up acknowledgements.
    pub replicas: Budget,
}

impl AnswerMemory {
    pub fn new(limit: i64) -> Self {
        let bytes = usize::try_from(limit).unwrap_or(0);
        Self {
            records: Budget::new(bytes),
            replicas: Budget::new(REPLICAS_BYTES),
        }
    }

    /// Bytes that are held now, and the limit.
    pub fn usage(&self) -> (usize, usize) {
        (self.records.used_bytes(), self.records.capacity_bytes())
    }

    /// Bytes of records that the next answer from a budget may have.
    pub fn share(budget: &Budget) -> usize {
        (budget.free_bytes() / SHARE).max(SMALLEST_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_shrink_as_memory_does() {
        let memory = AnswerMemory::new(128 << 20);
        let mut held = Vec::new();
        let mut shares = Vec::new();
        while let Some(one) = memory
            .records
            .try_take(AnswerMemory::share(&memory.records))
        {
            shares.push(AnswerMemory::share(&memory.records));
            held.push(one);
        }
        assert_eq!(shares[0], 24 << 20);
        assert!(shares.is_sorted_by(|a, b| a >= b));
        assert_eq!(shares.last(), Some(&SMALLEST_SHARE));
        assert!(held.len() > 15, "{}", held.len());
        assert!(memory.records.used_bytes() <= 128 << 20);
    }
}
