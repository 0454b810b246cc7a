//! How far groups that are coordinated here are behind.

use super::page::Page;
use crate::lag::GroupLag;

pub(super) fn render(page: &mut Page, lags: &[GroupLag]) {
    for (name, help, read) in [
        (
            "kafka_consumergroup_current_offset",
            "Committed offset of a group that is coordinated here.",
            (|l| l.committed) as fn(&GroupLag) -> i64,
        ),
        (
            "kafka_consumergroup_lag",
            "Records between the committed offset and the high watermark.",
            |l| l.lag,
        ),
    ] {
        page.family(name, "gauge", help);
        for lag in lags {
            let partition = lag.partition.partition.to_string();
            let labels = [
                ("group", lag.group.as_str()),
                ("topic", &lag.partition.topic),
                ("partition", &partition),
            ];
            page.sample(name, &labels, read(lag));
        }
    }
}
