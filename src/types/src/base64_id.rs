//! Kafka's text form of ids.

use uuid::Uuid;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Kafka's text form of an id: URL-safe base 64 without padding, 22 characters.
pub fn base64_id(id: Uuid) -> String {
    let mut value = id.as_u128();
    let mut text = [0u8; 22];
    // 128 bits and 4 bits of padding at the end.
    text[21] = BASE64[((value & 0x3) << 4) as usize];
    value >>= 2;
    for slot in text[..21].iter_mut().rev() {
        *slot = BASE64[(value & 0x3f) as usize];
        value >>= 6;
    }
    String::from_utf8(text.to_vec()).expect("the alphabet is ASCII")
}

/// The id of a text; `None` where it is none.
pub fn parse_base64_id(text: &str) -> Option<Uuid> {
    if text.len() != 22 {
        return None;
    }
    let digit = |c: u8| BASE64.iter().position(|b| *b == c).map(|d| d as u128);
    let bytes = text.as_bytes();
    let mut value = 0u128;
    for c in &bytes[..21] {
        value = (value << 6) | digit(*c)?;
    }
    Some(Uuid::from_u128((value << 2) | (digit(bytes[21])? >> 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_kafkas_text_form() {
        assert_eq!(base64_id(Uuid::nil()), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(base64_id(Uuid::from_u128(1)), "AAAAAAAAAAAAAAAAAAAAAQ");
        for id in [Uuid::from_u128(1), Uuid::max(), Uuid::new_v4()] {
            assert_eq!(parse_base64_id(&base64_id(id)), Some(id));
        }
    }
}
