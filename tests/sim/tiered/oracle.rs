//! The properties that must hold after every step.

use super::cluster::{Cluster, PARTITION};

impl Cluster {
    /// Everything that a client can read from the leader is one log: each record follows the one that it was appended
    /// behind. Each readable segment holds the leader's records, and no offset was assigned that the tier holds.
    pub fn check(&self) -> Result<(), String> {
        if let Some(offset) = self.given_twice.first() {
            return Err(format!("offset {offset} was given out twice"));
        }
        let Some(at) = self.leader() else {
            return Ok(());
        };
        // Only a leader that has applied all metadata answers for everything.
        if self.nodes[at].image.applied_index != self.image.applied_index {
            return Ok(());
        }
        self.reads_one_log(at)?;
        self.tier_agrees(at)
    }

    fn reads_one_log(&self, at: usize) -> Result<(), String> {
        let disk = &self.nodes[at].disk;
        let mut previous = None;
        for offset in disk.log_start..disk.end() {
            let found = if offset >= disk.start {
                disk.get(offset)
            } else {
                self.read_cold(at, offset)
            };
            let Some(record) = found else {
                if !self.is_gap(at, offset) {
                    return Err(format!("offset {offset} cannot be read"));
                }
                previous = None;
                continue;
            };
            // The leader that appended a record without a predecessor began there: earlier leaders had lost the records
            // below.
            let begins = record.previous == 0;
            if !begins && previous.is_some_and(|id| id != record.previous) {
                return Err(format!(
                    "offset {offset} holds a record of another history: {record:?} follows {previous:?}"
                ));
            }
            previous = Some(record.id);
        }
        Ok(())
    }

    fn tier_agrees(&self, at: usize) -> Result<(), String> {
        let node = &self.nodes[at];
        let log = self.image.remote_log(PARTITION);
        for segment in log.iter().flat_map(|log| log.readable()) {
            if segment.is_gap() {
                continue;
            }
            let Some(object) = self.bucket.get(&segment.id) else {
                return Err(format!("no object for {segment:?}"));
            };
            let first = node.disk.start.max(node.disk.log_start);
            for offset in segment.base_offset.max(first)..segment.end_offset {
                let copied = object.records.get((offset - object.base_offset) as usize);
                if copied.copied() != node.disk.get(offset) {
                    return Err(format!("log and tier differ at {offset}"));
                }
            }
        }
        Ok(())
    }

    /// After everything is up again: all logs are the leader's.
    pub fn check_agreement(&self) -> Result<(), String> {
        let at = self.leader().ok_or("nobody leads")?;
        let leader = &self.nodes[at].disk;
        for node in &self.nodes {
            let disk = &node.disk;
            if disk.end() != leader.end() {
                let told = (disk.start, disk.end(), disk.epochs.entries());
                let leads = (leader.start, leader.end(), leader.epochs.entries());
                return Err(format!(
                    "broker {} has {told:?}, its leader {leads:?}",
                    node.id
                ));
            }
            let both = disk.start.max(leader.start)..leader.end();
            if let Some(offset) = both.into_iter().find(|o| disk.get(*o) != leader.get(*o)) {
                return Err(format!("broker {} differs at {offset}", node.id));
            }
        }
        Ok(())
    }
}
