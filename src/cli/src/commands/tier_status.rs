//! `strandline tier status`: the cold tier of each partition, of one broker or of all brokers together.

use std::collections::BTreeMap;

use indicatif::HumanBytes;
use strandline_broker::PartitionTierStatus;

/// Asks every address of `http`. A partition is shown as its leader sees it, if its leader was asked.
pub async fn run(http: &str, topic: Option<&str>, json: bool) -> Result<(), String> {
    let mut told = Vec::new();
    for address in http.split(',').map(str::trim).filter(|a| !a.is_empty()) {
        let (status, body) = crate::http_get::get(address, "/tier/status").await?;
        if status != 200 {
            return Err(format!(
                "http://{address}/tier/status answered {status}: {body}"
            ));
        }
        let parsed: Vec<PartitionTierStatus> = serde_json::from_str(&body)
            .map_err(|e| format!("http://{address}/tier/status: {e}"))?;
        told.extend(parsed);
    }
    let partitions = merged(told, topic);
    if let (true, Some(topic)) = (partitions.is_empty(), topic) {
        return Err(format!(
            "--topic {topic}: no broker of {http} has a partition of a tiered topic of that name \
             (remote.storage.enable=true makes a topic tiered)"
        ));
    }
    if json {
        let text = serde_json::to_string_pretty(&partitions).map_err(|e| e.to_string())?;
        println!("{text}");
    } else {
        print!("{}", table(&partitions, now_ms()));
    }
    Ok(())
}

/// One line for each partition, the leader's where there is one.
fn merged(told: Vec<PartitionTierStatus>, topic: Option<&str>) -> Vec<PartitionTierStatus> {
    let mut all: BTreeMap<(String, i32), PartitionTierStatus> = BTreeMap::new();
    for status in told {
        if topic.is_some_and(|topic| status.topic != topic) {
            continue;
        }
        let key = (status.topic.clone(), status.partition);
        let known = all.entry(key).or_insert_with(|| status.clone());
        if status.leads && !known.leads {
            *known = status;
        }
    }
    all.into_values().collect()
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// Columns as wide as their contents. An error follows its partition on a line of its own.
fn table(partitions: &[PartitionTierStatus], now_ms: i64) -> String {
    let head = [
        "PARTITION",
        "LOCAL",
        "BYTES",
        "REMOTE",
        "BYTES",
        "SEGMENTS",
        "LAG BYTES",
        "LAG",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for p in partitions {
        let range = |from: i64, to: i64| match from {
            -1 => "-".to_owned(),
            from => format!("{from}..{to}"),
        };
        let lag = |text: String| if p.leads { text } else { "-".to_owned() };
        rows.push([
            format!("{}-{}", p.topic, p.partition),
            range(p.local_start_offset, p.local_end_offset),
            HumanBytes(p.local_bytes).to_string(),
            range(p.remote_start_offset, p.remote_end_offset),
            HumanBytes(p.remote_bytes).to_string(),
            p.remote_segments.to_string(),
            lag(HumanBytes(p.copy_lag_bytes).to_string()),
            lag(duration(p.copy_lag_ms)),
        ]);
    }
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            if column == 0 {
                text.push_str(&format!("{cell:<width$}"));
            } else {
                text.push_str(&format!("  {cell:>width$}"));
            }
        }
        text.push('\n');
        let partition = number.checked_sub(1).and_then(|n| partitions.get(n));
        if let Some((p, error)) = partition.and_then(|p| Some((p, p.last_error.as_ref()?))) {
            let next = p
                .next_try_ms
                .map(|at| duration(at.saturating_sub(now_ms).max(0)));
            let next = next
                .map(|d| format!(" (next try in {d})"))
                .unwrap_or_default();
            text.push_str(&format!("    {error}{next}\n"));
        }
    }
    text
}

/// As people write it: `850 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
fn duration(ms: i64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(topic: &str, partition: i32, leads: bool, lag_ms: i64) -> PartitionTierStatus {
        let told = serde_json::json!({
            "topic": topic,
            "partition": partition,
            "leads": leads,
            "local_start_offset": 0,
            "local_end_offset": 1_000_000,
            "local_bytes": 5_u64 << 30,
            "remote_start_offset": 0,
            "remote_end_offset": 900_000,
            "remote_bytes": 70_u64 << 30,
            "remote_segments": 80,
            "copy_lag_bytes": 1 << 20,
            "copy_lag_ms": lag_ms,
        });
        serde_json::from_value(told).unwrap()
    }

    #[test]
    fn the_leader_of_a_partition_has_the_say_whoever_was_asked_first() {
        let told = vec![
            status("b", 0, false, 0),
            status("a", 1, true, 5),
            status("b", 0, true, 7000),
            status("b", 0, false, 0),
        ];
        let all = merged(told.clone(), None);
        let lags: Vec<_> = all
            .iter()
            .map(|p| (p.topic.as_str(), p.copy_lag_ms))
            .collect();
        assert_eq!(lags, [("a", 5), ("b", 7000)]);
        assert_eq!(merged(told, Some("c")), []);
    }

    #[test]
    fn a_table_fits_a_terminal_and_has_times_as_people_write_them() {
        let mut failing = status("orders", 0, true, 125_000);
        failing.last_error = Some("copy: no such bucket".into());
        failing.next_try_ms = Some(61_000);
        let text = table(&[failing, status("orders", 1, false, 0)], 1_000);
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        assert!(text.contains("2 min 5 s"), "{text}");
        assert!(
            text.contains("    copy: no such bucket (next try in 1 min 0 s)\n"),
            "{text}"
        );
        // A follower does not know the lag.
        assert!(text.lines().last().unwrap().ends_with('-'), "{text}");
        for (ms, expected) in [
            (850, "850 ms"),
            (12_000, "12 s"),
            (7_500_000, "2 h 5 min"),
            (273_600_000, "3 d 4 h"),
        ] {
            assert_eq!(duration(ms), expected);
        }
    }
}
