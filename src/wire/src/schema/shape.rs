//! Message shapes, parsed once from the data file.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde::Deserialize;

/// Inclusive range of versions; empty when `min > max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    min: i16,
    max: i16,
}

impl Versions {
    const NONE: Self = Self { min: 1, max: 0 };

    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// `"3+"`, `"1-4"`, `"2"` or `"none"`.
    fn parse(text: &str) -> Self {
        let number = |s: &str| {
            s.parse::<i16>()
                .expect("a version in the shape data is a number")
        };
        if text == "none" {
            Self::NONE
        } else if let Some(min) = text.strip_suffix('+') {
            Self {
                min: number(min),
                max: i16::MAX,
            }
        } else if let Some((min, max)) = text.split_once('-') {
            Self {
                min: number(min),
                max: number(max),
            }
        } else {
            Self {
                min: number(text),
                max: number(text),
            }
        }
    }
}

#[derive(Clone, Debug)]
pub enum Type {
    /// A value of so many bytes.
    Fixed(usize),
    String,
    Bytes,
    Array(Box<Type>),
    Struct(Vec<Field>),
}

#[derive(Clone, Debug)]
pub struct Field {
    pub versions: Versions,
    pub nullable: Versions,
    /// The versions in which the field is tagged, and its tag.
    pub tagged: Option<(Versions, u32)>,
    pub type_: Type,
}

#[derive(Clone, Debug)]
pub struct Message {
    pub valid: Versions,
    pub flexible: Versions,
    pub fields: Vec<Field>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    Request,
    Response,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMessage {
    api_key: Option<i16>,
    #[serde(rename = "type")]
    kind: String,
    valid_versions: String,
    /// Absent where a message is in no version flexible.
    flexible_versions: Option<String>,
    #[serde(default)]
    fields: Vec<RawField>,
    #[serde(default)]
    common_structs: Vec<RawStruct>,
}

#[derive(Deserialize)]
struct RawStruct {
    name: String,
    #[serde(default)]
    fields: Vec<RawField>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawField {
    #[serde(rename = "type")]
    type_: String,
    versions: String,
    nullable_versions: Option<String>,
    tagged_versions: Option<String>,
    tag: Option<u32>,
    #[serde(default)]
    fields: Vec<RawField>,
}

/// All request and response shapes by API key.
pub static MESSAGES: LazyLock<HashMap<(i16, Direction), Message>> = LazyLock::new(|| {
    include_str!("../../data/schemas.jsonl")
        .lines()
        .filter_map(parse_message)
        .collect()
});

fn parse_message(line: &str) -> Option<((i16, Direction), Message)> {
    let raw: RawMessage = serde_json::from_str(line).expect("the shape data is valid JSON");
    let direction = match raw.kind.as_str() {
        "request" => Direction::Request,
        "response" => Direction::Response,
        _ => return None,
    };
    if raw.valid_versions == "none" {
        return None;
    }
    let message = Message {
        valid: Versions::parse(&raw.valid_versions),
        flexible: raw
            .flexible_versions
            .as_deref()
            .map_or(Versions::NONE, Versions::parse),
        fields: raw
            .fields
            .iter()
            .map(|f| parse_field(f, &raw.common_structs))
            .collect(),
    };
    Some(((raw.api_key?, direction), message))
}

fn parse_field(raw: &RawField, common: &[RawStruct]) -> Field {
    Field {
        versions: Versions::parse(&raw.versions),
        nullable: raw
            .nullable_versions
            .as_deref()
            .map_or(Versions::NONE, Versions::parse),
        tagged: raw.tagged_versions.as_deref().map(|v| {
            (
                Versions::parse(v),
                raw.tag.expect("a tagged field has a tag"),
            )
        }),
        type_: parse_type(&raw.type_, &raw.fields, common),
    }
}

fn parse_type(name: &str, fields: &[RawField], common: &[RawStruct]) -> Type {
    if let Some(element) = name.strip_prefix("[]") {
        return Type::Array(Box::new(parse_type(element, fields, common)));
    }
    match name {
        "bool" | "int8" => Type::Fixed(1),
        "int16" | "uint16" => Type::Fixed(2),
        "int32" | "uint32" => Type::Fixed(4),
        "int64" | "float64" => Type::Fixed(8),
        "uuid" => Type::Fixed(16),
        "string" => Type::String,
        "bytes" | "records" => Type::Bytes,
        _ => {
            let fields = if fields.is_empty() {
                let shared = common.iter().find(|s| s.name == name);
                &shared
                    .unwrap_or_else(|| panic!("the shape data names no struct {name}"))
                    .fields
            } else {
                fields
            };
            Type::Struct(fields.iter().map(|f| parse_field(f, common)).collect())
        }
    }
}
