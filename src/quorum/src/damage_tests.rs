//! Invariant 9 for the quorum's directory: whatever bytes its files have, opening is an error or a state, never a panic.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use strandline_metadata::ClusterImage;
use tokio::sync::watch;

use crate::log_store::LogStore;
use crate::quorum::member_id;
use crate::state_machine::StateMachine;
use crate::tests::{open, write};

const RUNS: u64 = 2000;

/// Opens every file as a start does; whether all of them were accepted.
fn accepted(directory: &Path) -> bool {
    let (published, _) = watch::channel(Arc::new(ClusterImage::default()));
    let log = LogStore::open(directory).is_ok();
    let state = StateMachine::open(directory, published).is_ok();
    log && state && member_id(directory).is_ok()
}

#[tokio::test]
async fn no_bytes_in_the_quorums_directory_panic() {
    let directory = tempfile::tempdir().unwrap();
    let original = directory.path().join("original");
    let quorum = open(&original).await.unwrap();
    for i in 0..20 {
        write(&quorum, &format!("k{i}")).await;
    }
    quorum.shutdown().await;
    drop(quorum);
    let names: Vec<String> = fs::read_dir(&original)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().into_string().ok())
        .collect();
    assert!(names.len() > 2 && accepted(&original), "{names:?}");
    let (mut taken, mut refused) = (0, 0);
    for seed in 1..=RUNS {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % limit.max(1)
        };
        let place = directory.path().join("damaged");
        fs::create_dir_all(&place).unwrap();
        for name in &names {
            fs::copy(original.join(name), place.join(name)).unwrap();
        }
        let victim = place.join(&names[below(names.len())]);
        let mut bytes = fs::read(&victim).unwrap();
        let at = below(bytes.len() + 1);
        match below(4) {
            0 => bytes.truncate(at),
            1 => bytes.iter_mut().skip(at).take(8).for_each(|b| *b = 0xff),
            2 => bytes.extend((0..below(40)).map(|i| (i * 37) as u8)),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << below(8);
                }
            }
        }
        fs::write(&victim, bytes).unwrap();
        if accepted(&place) {
            taken += 1;
        } else {
            refused += 1;
        }
        fs::remove_dir_all(&place).unwrap();
    }
    assert!(
        taken > 50 && refused > 50,
        "{taken} taken, {refused} refused"
    );
}

#[tokio::test]
async fn a_damaged_entry_with_others_behind_it_is_not_cut() {
    let directory = tempfile::tempdir().unwrap();
    let quorum = open(directory.path()).await.unwrap();
    for i in 0..20 {
        write(&quorum, &format!("k{i}")).await;
    }
    quorum.shutdown().await;
    drop(quorum);
    let path = directory.path().join("log");
    let whole = fs::read(&path).unwrap();
    for at in (0..whole.len() / 2).step_by(7) {
        let mut bytes = whole.clone();
        bytes[at] ^= 4;
        fs::write(&path, &bytes).unwrap();
        let refused = LogStore::open(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("is damaged"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "byte {at}");
    }
    for tail in [vec![0; 700], vec![0x55; 700]] {
        fs::write(&path, [whole.clone(), tail].concat()).unwrap();
        LogStore::open(directory.path()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}
