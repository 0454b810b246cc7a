//! Times as the tools print and read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| d.as_millis() as i64)
}

/// The stamp of a line in Kafka's tools' log.
pub fn log_stamp() -> String {
    Local::now().format("%Y-%m-%d %H:%M:%S,%3f").to_string()
}

/// The stamp of the performance tools.
pub fn perf_stamp(ms: i64) -> String {
    let at = Local.timestamp_millis_opt(ms).single().unwrap_or_default();
    at.format("%Y-%m-%d %H:%M:%S:%3f").to_string()
}

/// `YYYY-MM-DDTHH:mm:ss.sss`, with a zone or, without one, in UTC. Milliseconds since 1970.
pub fn parse_date_time(text: &str) -> Result<i64, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.timestamp_millis());
    }
    let zoned = DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z");
    if let Ok(at) = zoned {
        return Ok(at.timestamp_millis());
    }
    let plain = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
    plain
        .map(|at| Utc.from_utc_datetime(&at).timestamp_millis())
        .map_err(|_| format!("Error parsing date time '{text}': it is not YYYY-MM-DDTHH:mm:ss.sss"))
}

/// An ISO 8601 duration: `PnDTnHnMnS`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("Text cannot be parsed to a Duration: {text}");
    let rest = text.strip_prefix('P').ok_or_else(bad)?;
    let (days, times) = match rest.split_once('T') {
        Some((_, "")) => return Err(bad()),
        Some((days, times)) => (days, times),
        None => (rest, ""),
    };
    let mut seconds = 0.0;
    let mut parts = 0;
    for (part, units) in [(days, "D"), (times, "HMS")] {
        let mut number = String::new();
        for c in part.chars() {
            if c.is_ascii_digit() || c == '.' {
                number.push(c);
                continue;
            }
            let each = match (units.contains(c), c) {
                (true, 'D') => 86400.0,
                (true, 'H') => 3600.0,
                (true, 'M') => 60.0,
                (true, 'S') => 1.0,
                _ => return Err(bad()),
            };
            seconds += number.parse::<f64>().map_err(|_| bad())? * each;
            number.clear();
            parts += 1;
        }
        if !number.is_empty() {
            return Err(bad());
        }
    }
    if parts == 0 {
        return Err(bad());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_iso_form() {
        let seconds = |text| parse_duration(text).map(|d| d.as_secs_f64());
        assert_eq!(seconds("PT1H"), Ok(3600.0));
        assert_eq!(seconds("P1DT2H3M4.5S"), Ok(93784.5));
        assert_eq!(seconds("P0D"), Ok(0.0));
        for bad in ["1H", "P", "PT", "PT5", "P1H", "PTxS", ""] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_a_zone_or_are_in_utc() {
        assert_eq!(parse_date_time("1970-01-01T00:00:01.500"), Ok(1500));
        assert_eq!(parse_date_time("1970-01-01T01:00:00.000+0100"), Ok(0));
        assert_eq!(parse_date_time("1970-01-01T01:00:00+01:00"), Ok(0));
        assert!(parse_date_time("yesterday").is_err());
    }
}
