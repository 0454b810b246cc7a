//! The place for TLS, SASL, principals, authorizer and quotas. So far the crate has one rule: a secret is never shown.

pub use strandline_types::Secret;
