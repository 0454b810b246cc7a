//! A map by topic and partition number. A look-up borrows the topic's name: requests look up each of their partitions, and
//! none of these look-ups allocates.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use strandline_types::{PartitionId, TopicPartition};

/// A clone shares the topics that do not change.
#[derive(Clone, Debug)]
pub struct ByName<V> {
    topics: HashMap<Arc<str>, Arc<BTreeMap<PartitionId, V>>>,
    count: usize,
}

impl<V> Default for ByName<V> {
    fn default() -> Self {
        Self {
            topics: HashMap::new(),
            count: 0,
        }
    }
}

impl<V: Clone> ByName<V> {
    pub fn get(&self, topic: &str, partition: PartitionId) -> Option<&V> {
        self.topics.get(topic)?.get(&partition)
    }

    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.topics.values().flat_map(|topic| topic.values())
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn insert(&mut self, name: TopicPartition, value: V) {
        let topic = self.topics.entry(name.topic).or_default();
        let before = Arc::make_mut(topic).insert(name.partition, value);
        self.count += usize::from(before.is_none());
    }

    pub fn remove(&mut self, name: &TopicPartition) {
        let Some(topic) = self.topics.get_mut(&name.topic) else {
            return;
        };
        let topic = Arc::make_mut(topic);
        self.count -= usize::from(topic.remove(&name.partition).is_some());
        if topic.is_empty() {
            self.topics.remove(&name.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(names: &[(&str, i32)]) -> ByName<String> {
        let mut map = ByName::default();
        for (topic, partition) in names {
            let name = TopicPartition::new(*topic, *partition);
            map.insert(name.clone(), name.to_string());
        }
        map
    }

    #[test]
    fn a_partition_is_found_by_a_borrowed_name() {
        let map = filled(&[("a", 0), ("a", 1), ("b", 0), ("a", 1)]);
        assert_eq!(map.get("a", 1).map(String::as_str), Some("a-1"));
        assert_eq!(map.get("b", 1), None);
        assert_eq!(map.get("c", 0), None);
        assert_eq!((map.len(), map.values().count()), (3, 3));
    }

    #[test]
    fn a_change_of_a_clone_leaves_the_original() {
        let before = filled(&[("a", 0), ("a", 1), ("b", 0)]);
        let mut after = before.clone();
        after.remove(&TopicPartition::new("a", 0));
        after.remove(&TopicPartition::new("b", 0));
        after.remove(&TopicPartition::new("b", 7));
        after.insert(TopicPartition::new("c", 0), "c-0".into());
        assert_eq!((before.len(), before.values().count()), (3, 3));
        let mut left: Vec<_> = after.values().cloned().collect();
        left.sort();
        assert_eq!(left, ["a-1", "c-0"]);
        assert_eq!(after.len(), 2);
        assert!(!after.topics.contains_key("b"), "an empty topic goes");
    }
}
