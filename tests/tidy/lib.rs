//! Holds the house: rules about the source that no compiler checks. Each rule is a file, its list of exceptions lies beside
//! the file, and each exception states a reason.
//!
//! * [`panics`]: an expression that can end the process has a listed reason why nothing from outside reaches it.
//! * [`tasks`]: an unbounded channel or a spawned task has a listed reason, and names who joins it.
//! * [`callers`]: a public function has a caller in production.
//! * [`arrows`]: crates depend on each other as `docs/ARCHITECTURE.md` draws, and pure crates cannot do I/O.
//! * [`circles`]: rooms of the broker do not need each other in a circle.
//! * [`clocks`]: the wall clock is read where a reason is listed; durations are measured elsewhere.
//! * [`formats`]: a name that is part of a format stands in one file.
//! * [`sizes`]: files stay small.
//! * [`limits`]: each bound of `docs/LIMITS.md` names a test that exists.
//! * [`prose`]: a sentence of a comment or a document names its subject.
//!
//! `UPDATE_TIDY=1 cargo test -p strandline-tidy` rewrites the lists: reasons are kept, lines of code that is
//! gone go, new lines have the reason `TODO`, which the test refuses.

#[cfg(test)]
mod arrows;
#[cfg(test)]
mod callers;
#[cfg(test)]
mod circles;
#[cfg(test)]
mod clocks;
#[cfg(test)]
mod formats;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod panics;
#[cfg(test)]
mod prose;
#[cfg(test)]
mod sizes;
#[cfg(test)]
mod source;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod text;
#[cfg(test)]
mod walk;
