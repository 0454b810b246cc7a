//! Values that are tried with a key: the ends of its range and of its type, values beyond them, and nonsense text.

use strandline_metadata::config::{ConfigDef, ConfigType, MAX_VALUE_BYTES};

/// A key with one value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pair {
    pub key: String,
    pub value: String,
}

impl Pair {
    fn new(def: &ConfigDef, value: String) -> Self {
        Self {
            key: def.name.clone(),
            value,
        }
    }

    /// For a report.
    pub fn shown(&self) -> String {
        const SHOWN: usize = 40;
        let mut value: String = self.value.escape_debug().take(SHOWN).collect();
        if self.value.chars().count() > SHOWN {
            value = format!("{value}… ({} bytes)", self.value.len());
        }
        format!("{}={value}", self.key)
    }
}

/// All values that are tried with a key.
pub fn all(def: &ConfigDef) -> Vec<Pair> {
    let mut values: Vec<String> = ["", "0", "-1", "1", "garbage", "größe 😀", "0.5", ","]
        .map(str::to_owned)
        .into();
    values.push("x".repeat(MAX_VALUE_BYTES));
    values.push("7".repeat(100_000));
    values.extend(ends(def).into_iter().map(|pair| pair.value));
    match def.type_ {
        ConfigType::Int | ConfigType::Short | ConfigType::Long => {
            for bits in [15, 31, 63] {
                let most = (1_i128 << bits) - 1;
                values.extend([most, most + 1, -most - 1, -most - 2].map(|n| n.to_string()));
            }
        }
        ConfigType::Double => {
            let doubles = ["NaN", "inf", "-inf", "1e308", "-1e308", "1e-300"];
            values.extend(doubles.map(str::to_owned));
        }
        ConfigType::Boolean => values.extend(["true", "false", "TRUE", "yes"].map(str::to_owned)),
        _ => {
            let legal = def.valid_values().trim_start_matches("(case insensitive) ");
            let legal = legal.strip_prefix('[').and_then(|l| l.strip_suffix(']'));
            let words = legal.iter().flat_map(|l| l.split(", "));
            values.extend(words.filter(|w| !w.contains(',')).map(str::to_owned));
            values.extend(["*", "none", "a:b", "://"].map(str::to_owned));
            values.extend(def.default.clone());
        }
    }
    values.sort();
    values.dedup();
    values.into_iter().map(|v| Pair::new(def, v)).collect()
}

/// The smallest and the largest value of a number.
pub fn ends(def: &ConfigDef) -> Vec<Pair> {
    let ends = def.ends().map(|(least, most)| [least, most]);
    let ends = ends.into_iter().flatten();
    ends.map(|end| Pair::new(def, end.to_string())).collect()
}
