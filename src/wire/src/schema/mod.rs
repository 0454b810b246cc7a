//! The bounds check that every request passes before `kafka-protocol` may decode it.
//!
//! The shapes of Kafka 4.3.1's messages are data (`data/schemas.jsonl`, one message a line). [`shape`] reads them once;
//! [`check`] walks a body by its shape and accepts it only if every length and count fits into what remains, and nothing
//! is null that may not be. Bytes after a request's last field are ignored; after a response's they are an error.

mod check;
#[cfg(test)]
mod proof;
mod shape;

pub use check::{MAX_ELEMENTS, check_request, check_response};
