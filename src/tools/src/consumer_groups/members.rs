//! `kafka-consumer-groups --describe --members`

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use strandline_client::decode_assignment;

use super::{LEAST, NOTHING};
use crate::table;

/// `topic:0,1;other:2`
fn assignment_text(assignment: &[(String, i32)]) -> String {
    let mut by_topic: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for (topic, partition) in assignment {
        by_topic.entry(topic).or_default().insert(*partition);
    }
    let topics: Vec<String> = by_topic
        .into_iter()
        .map(|(topic, partitions)| {
            let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            format!("{topic}:{}", partitions.join(","))
        })
        .collect();
    if topics.is_empty() {
        NOTHING.to_owned()
    } else {
        topics.join(";")
    }
}

pub(super) fn print_members(group: &str, described: &DescribedGroup, verbose: bool) {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for member in &described.members {
        let assignment = decode_assignment(&member.member_assignment).unwrap_or_default();
        let mut row = vec![
            group.to_owned(),
            member.member_id.to_string(),
            member.client_host.to_string(),
            member.client_id.to_string(),
            assignment.len().to_string(),
        ];
        if verbose {
            let told = assignment_text(&assignment);
            row.extend([NOTHING.into(), told, NOTHING.into(), NOTHING.into()]);
        }
        rows.push(row);
    }
    let column = |index: usize, least| table::width(least, rows.iter().map(|r| r[index].as_str()));
    let mut header = vec!["GROUP", "CONSUMER-ID", "HOST", "CLIENT-ID", "#PARTITIONS"];
    let mut widths = vec![
        table::width(LEAST, std::iter::once(group)),
        column(1, LEAST),
        column(2, LEAST),
        column(3, LEAST),
        15,
    ];
    if verbose {
        header.extend([
            "CURRENT-EPOCH",
            "CURRENT-ASSIGNMENT",
            "TARGET-EPOCH",
            "TARGET-ASSIGNMENT",
        ]);
        widths.extend([15, column(6, 20), 15, 20]);
    }
    println!("\n{} ", table::line(&header, &widths));
    for row in &rows {
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        println!("{} ", table::line(&row, &widths));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assignments_are_told_by_topic() {
        let assignment = [
            ("b".to_owned(), 1),
            ("a".to_owned(), 2),
            ("b".to_owned(), 0),
        ];
        assert_eq!(assignment_text(&assignment), "a:2;b:0,1");
        assert_eq!(assignment_text(&[]), "-");
    }
}
