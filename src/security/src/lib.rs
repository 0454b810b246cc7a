//! TLS, SASL, principals, authorizer, quotas. The room is here; what there is so far is the rule that a secret is never
//! shown.

pub use strandline_types::Secret;
