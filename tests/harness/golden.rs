//! Frames that were recorded between real clients and Apache Kafka 4.3.1.

use bytes::Bytes;
use serde_json::Value;

/// One recorded exchange; frames without their size prefix.
pub struct GoldenFrame {
    pub api_key: i16,
    pub version: i16,
    pub client: String,
    pub variant: String,
    pub request: Bytes,
    pub response: Bytes,
}

/// All recorded exchanges of `tests/golden`.
pub fn frames() -> Vec<GoldenFrame> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("the recorded frames are there")
        .map(|entry| entry.expect("a directory entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let text = std::fs::read_to_string(path).expect("a recorded file is text");
            text.lines().map(parse).collect::<Vec<_>>()
        })
        .collect()
}

fn parse(line: &str) -> GoldenFrame {
    let value: Value = serde_json::from_str(line).expect("a recorded line is JSON");
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| value[key].as_i64().expect("a number") as i16;
    GoldenFrame {
        api_key: number("api_key"),
        version: number("version"),
        client: text("client"),
        variant: text("variant"),
        request: unhex(&text("request_hex")).slice(4..),
        response: unhex(&text("response_hex")),
    }
}

fn unhex(text: &str) -> Bytes {
    let digit = |c: u8| (c as char).to_digit(16).expect("a hex digit") as u8;
    text.as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}
