//! Errors between a client and a cluster.

use std::time::Duration;

use strandline_wire::{ErrorCode, StrBytes};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("{address}: {source}")]
    Io {
        address: String,
        source: std::io::Error,
    },
    #[error("{address}: the answer cannot be read: {reason}")]
    Decode { address: String, reason: String },
    /// The broker answered with an error.
    #[error("{what}: {code}{}", message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Broker {
        what: String,
        code: ErrorCode,
        message: Option<String>,
    },
    /// No bootstrap address names a host and a port that can be found.
    #[error("No resolvable bootstrap urls given in bootstrap.servers ({last})")]
    Unresolvable {
        /// The last attempt: `host:port: reason`.
        last: String,
    },
    /// No broker could be asked in time.
    #[error("Timed out waiting for a node assignment. Call: {call}")]
    Unreachable {
        call: String,
        waited: Duration,
        /// The last attempt: `host:port: reason`.
        last: String,
    },
    /// A broker was asked and did not answer in time.
    #[error("{address}: no answer to {api} within {} ms", waited.as_millis())]
    TimedOut {
        address: String,
        api: String,
        waited: Duration,
    },
    /// The broker knows no version of an API that this client knows too.
    #[error("The broker does not support {api}")]
    UnsupportedApi { api: String },
    /// The connection has ended; whether the request was carried out is not known.
    #[error("{address}: the connection has ended")]
    Closed { address: String },
}

impl ClientError {
    /// The broker's code, if a broker has answered.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether another attempt, with fresh metadata, may go well.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Broker { code, .. } => code.is_retriable(),
            Self::Io { .. } | Self::Closed { .. } | Self::TimedOut { .. } => true,
            Self::Decode { .. }
            | Self::Unresolvable { .. }
            | Self::Unreachable { .. }
            | Self::UnsupportedApi { .. } => false,
        }
    }

    /// The message for a person: the broker's own words, or the meaning of its code.
    pub fn reason(&self) -> String {
        match self {
            Self::Broker {
                message: Some(message),
                ..
            } if !message.is_empty() => message.clone(),
            Self::Broker { code, .. } => code.message().to_owned(),
            other => other.to_string(),
        }
    }

    /// The reason behind the name of the Java exception, as Kafka's tools show it.
    pub fn java(&self) -> String {
        if let Self::Unresolvable { .. } = self {
            return format!(
                "org.apache.kafka.common.config.ConfigException: {}",
                self.reason()
            );
        }
        let class = match self {
            Self::Broker { code, .. } => code.exception(),
            Self::Unreachable { .. } | Self::TimedOut { .. } => "TimeoutException",
            Self::UnsupportedApi { .. } => "UnsupportedVersionException",
            Self::Io { .. } | Self::Closed { .. } => "DisconnectException",
            Self::Decode { .. } | Self::Unresolvable { .. } => "UnknownServerException",
        };
        format!("org.apache.kafka.common.errors.{class}: {}", self.reason())
    }
}

/// An error code of an answer as a result.
pub fn check(what: &str, code: i16, message: Option<&StrBytes>) -> Result<(), ClientError> {
    let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
    if code == ErrorCode::None {
        return Ok(());
    }
    Err(ClientError::Broker {
        what: what.to_owned(),
        code,
        message: message.map(ToString::to_string),
    })
}
