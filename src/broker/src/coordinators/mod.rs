//! Coordinators at run time: one task per partition of their topic that this broker leads. Groups are the one kind so far
//! (`groups.rs`); transactions and share groups will be other instances of the same [`Machine`].
//!
//! A task replays its partition, then takes requests one after the other, appends the records that the pure machine
//! returns, and answers when they are committed. Appends are pipelined: requests that need no record, heartbeats above
//! all, are answered while appends are under way. A task whose partition cannot be read tries again, with back-off; one
//! that has lost its leadership for a while replays again when it is back.
//!
//! Read next: [`machine`] (what a kind must do), [`table`] (which ones run here), `task.rs` (its life), `replay.rs`,
//! `serving.rs` (the loop over requests), `pipeline.rs` (appends under way).

mod groups;
mod machine;
mod notices;
mod pipeline;
mod replay;
mod serving;
mod table;
mod task;

#[cfg(test)]
pub use groups::group_config;
pub use groups::{Groups, partition_for};
