//! Columns as Kafka's tools set them: padded to a width, one space between them.

/// Width of a column that is at least `least` wide.
pub fn width<'a>(least: usize, values: impl Iterator<Item = &'a str>) -> usize {
    values.map(str::len).max().unwrap_or(0).max(least)
}

/// One line: every value padded to its width, a space behind each but the last.
pub fn line(values: &[&str], widths: &[usize]) -> String {
    let mut line = String::new();
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            line.push(' ');
        }
        match widths.get(index) {
            Some(width) => line.push_str(&format!("{value:<width$}")),
            None => line.push_str(value),
        }
    }
    line
}
