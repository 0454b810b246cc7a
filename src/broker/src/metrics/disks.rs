//! Log directories and what lies in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use strandline_log::DiskSpace;

use super::page::Page;
use crate::context::BrokerContext;
use crate::partition::Partition;

pub(super) fn render(page: &mut Page, context: &BrokerContext, partitions: &[Arc<Partition>]) {
    let dirs = &context.partitions.log_dirs.dirs;
    for (name, help, read) in [
        (
            "strandline_log_dir_size_bytes",
            "Size of the file system that holds a log directory.",
            DiskSpace::total_bytes as fn(&DiskSpace) -> u64,
        ),
        (
            "strandline_log_dir_available_bytes",
            "Free bytes of the file system that holds a log directory.",
            DiskSpace::available_bytes,
        ),
    ] {
        page.family(name, "gauge", help);
        for dir in dirs {
            let path = dir.path.display().to_string();
            page.sample(name, &[("dir", &path)], read(&dir.space));
        }
    }
    let name = "strandline_log_dir_offline";
    let help = "1 where a log directory has failed or could not be opened.";
    page.family(name, "gauge", help);
    let log_dirs = &context.partitions.log_dirs;
    for (index, dir) in dirs.iter().enumerate() {
        let path = dir.path.display().to_string();
        page.sample(name, &[("dir", &path)], u8::from(log_dirs.is_failed(index)));
    }
    for dir in &log_dirs.absent {
        page.sample(name, &[("dir", &dir.path.display().to_string())], 1);
    }
    let name = "kafka_log_logflushstats_logflushrateandtimems";
    let help =
        "Time of a flush of appended records, which the records of several partitions share.";
    page.family(name, "summary", help);
    page.summary(name, &[], &log_dirs.flush_times);
    let mut local: BTreeMap<&str, u64> = BTreeMap::new();
    for partition in partitions {
        *local.entry(&partition.topic_partition.topic).or_default() +=
            partition.view().local_bytes();
    }
    let name = "strandline_local_log_size_bytes";
    page.family(
        name,
        "gauge",
        "Bytes of a topic's replicas on this broker's disks.",
    );
    for (topic, bytes) in local {
        page.sample(name, &[("topic", topic)], bytes);
    }
}
