//! Defects on purpose, only in a build with the feature `mutants`: `STRANDLINE_MUTANT=acknowledge-before-isr` turns one
//! on, so that the tests that look for defects can show that they find them. Other builds contain none of this.

/// A defect that loses or damages records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// `acks=all` is answered when the leader has appended.
    AcknowledgeBeforeIsr,
    /// A follower truncates its log to its high watermark instead of asking where the epochs diverge.
    TruncateToHighWatermark,
    /// A new leader knows no producer.
    ForgetProducers,
    /// Segments go to the cold tier before they are committed.
    CopyAboveHighWatermark,
    /// A controller's vote is not on disk when it is given.
    ForgetVote,
}

/// Whether this process has the defect.
#[cfg(feature = "mutants")]
pub fn is_mutant(mutant: Mutant) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Mutant>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("STRANDLINE_MUTANT").ok()?;
        Some(match name.as_str() {
            "acknowledge-before-isr" => Mutant::AcknowledgeBeforeIsr,
            "truncate-to-high-watermark" => Mutant::TruncateToHighWatermark,
            "forget-producers" => Mutant::ForgetProducers,
            "copy-above-high-watermark" => Mutant::CopyAboveHighWatermark,
            "forget-vote" => Mutant::ForgetVote,
            other => panic!("STRANDLINE_MUTANT: no defect is called {other}"),
        })
    });
    *chosen == Some(mutant)
}

/// Whether this process has the defect: never.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn is_mutant(_: Mutant) -> bool {
    false
}
