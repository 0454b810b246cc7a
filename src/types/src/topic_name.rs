//! Which strings may name a topic (Kafka's rule: 1 to 249 of `[a-zA-Z0-9._-]`, not `.` or `..`).

use std::fmt;

const MAX_LENGTH: usize = 249;

/// The reason why a string cannot name a topic. Clients see this text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicNameError {
    Empty,
    Dots,
    TooLong(usize),
    IllegalCharacter(String),
}

impl fmt::Display for TopicNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Topic name is invalid: the empty string is not allowed"),
            Self::Dots => f.write_str("Topic name is invalid: '.' or '..' is not allowed"),
            Self::TooLong(length) => write!(
                f,
                "Topic name is invalid: the length of the name ({length}) is longer than the max allowed length {MAX_LENGTH}"
            ),
            Self::IllegalCharacter(name) => write!(
                f,
                "Topic name is invalid: '{}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
                name.escape_debug()
            ),
        }
    }
}

impl std::error::Error for TopicNameError {}

/// Checks a topic's name. Only names that pass may become part of a path.
pub fn validate_topic_name(name: &str) -> Result<(), TopicNameError> {
    if name.is_empty() {
        return Err(TopicNameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(TopicNameError::Dots);
    }
    if name.len() > MAX_LENGTH {
        return Err(TopicNameError::TooLong(name.len()));
    }
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    if !name.bytes().all(legal) {
        return Err(TopicNameError::IllegalCharacter(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_a_directory_or_exceed_it_are_refused() {
        assert!(validate_topic_name("a").is_ok());
        assert!(validate_topic_name(&"x".repeat(249)).is_ok());
        assert_eq!(validate_topic_name(""), Err(TopicNameError::Empty));
        assert_eq!(validate_topic_name(".."), Err(TopicNameError::Dots));
        assert_eq!(
            validate_topic_name(&"x".repeat(250)),
            Err(TopicNameError::TooLong(250))
        );
        for bad in ["a/b", "a b", "ä", "a\0", "a:b"] {
            assert!(matches!(
                validate_topic_name(bad),
                Err(TopicNameError::IllegalCharacter(_))
            ));
        }
    }
}
