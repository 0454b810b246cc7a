//! The accounts of clients, in shards with a lock each, so that clients of different names do not wait for each other.
//!
//! A shard has room for [`SHARD_BYTES`]. When it is full, accounts that have not been used for a while are forgotten, at
//! most once in [`SWEEP_INTERVAL`]; clients for which there is still no room share one account of the shard.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use strandline_metadata::quota::{QuotaEntity, QuotaName};

use super::account::Account;
use super::kind::QuotaKind;

const SHARDS: usize = 16;
/// Estimated bytes of the accounts of one shard.
const SHARD_BYTES: usize = 1 << 20;
/// Bytes of an account, but for its names.
const ACCOUNT_BYTES: usize = 250;
/// Accounts that have not been used for so long are full again, unless they were overdrawn for longer.
const FORGET_AFTER: Duration = Duration::from_secs(60);
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

type Owner = (QuotaKind, QuotaEntity);

/// An amount that a client uses, and the quota that it counts against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    pub amount: f64,
    pub rate: f64,
    /// The time for which an account may save its rate.
    pub window: Duration,
    pub longest_wait: Duration,
}

#[derive(Default)]
struct Shard {
    accounts: HashMap<Owner, Account>,
    bytes: usize,
    swept: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Accounts {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
}

impl Accounts {
    /// Counts what a client uses; returns how long it must wait.
    pub fn charge(
        &self,
        kind: QuotaKind,
        owner: QuotaEntity,
        charge: Charge,
        now: Instant,
    ) -> Duration {
        let owner = (kind, owner);
        let number = self.hasher.hash_one(&owner) % SHARDS as u64;
        let Some(shard) = self.shards.get(number as usize) else {
            return Duration::ZERO;
        };
        let mut shard = shard.lock().expect("no holder panics");
        let account = shard.account(owner, charge, now);
        account.settle(charge.rate, charge.window, now);
        account.spend(charge.amount);
        account.wait(charge.longest_wait)
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|s| s.lock().expect("no holder panics").bytes)
            .sum()
    }
}

impl Shard {
    fn account(&mut self, owner: Owner, charge: Charge, now: Instant) -> &mut Account {
        let bytes = bytes_of(&owner);
        let is_new = !self.accounts.contains_key(&owner);
        if is_new && self.bytes + bytes > SHARD_BYTES {
            self.sweep(now);
        }
        let owner = if is_new && self.bytes + bytes > SHARD_BYTES {
            (owner.0, QuotaEntity::default())
        } else {
            self.bytes += if is_new { bytes } else { 0 };
            owner
        };
        self.accounts
            .entry(owner)
            .or_insert_with(|| Account::new(charge.rate, charge.window, now))
    }

    fn sweep(&mut self, now: Instant) {
        let recent = |at: Instant| now.saturating_duration_since(at) < SWEEP_INTERVAL;
        if self.swept.is_some_and(recent) {
            return;
        }
        self.swept = Some(now);
        self.accounts
            .retain(|_, a| now.saturating_duration_since(a.as_of()) < FORGET_AFTER);
        self.bytes = self.accounts.keys().map(bytes_of).sum();
    }
}

fn bytes_of((_, entity): &Owner) -> usize {
    let names = [&entity.user, &entity.client_id, &entity.ip];
    let named = names.into_iter().flatten().map(|name| match name {
        QuotaName::Named(name) => name.len(),
        QuotaName::Default => 0,
    });
    ACCOUNT_BYTES + named.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> QuotaEntity {
        QuotaEntity {
            client_id: Some(QuotaName::Named(name.to_owned())),
            ..QuotaEntity::default()
        }
    }

    #[test]
    fn a_client_under_ever_new_names_takes_no_more_memory_and_no_more_than_its_rate() {
        let accounts = Accounts::default();
        let began = Instant::now();
        let charge = Charge {
            amount: 1000.0,
            rate: 1000.0,
            window: Duration::from_secs(1),
            longest_wait: Duration::from_secs(10),
        };
        let spend = |name: &str, now| accounts.charge(QuotaKind::Fetch, client(name), charge, now);
        assert_eq!(spend("first", began), Duration::ZERO);
        let mut waits = 0;
        for number in 0..60_000 {
            let name = format!("{number:0>300}");
            waits += usize::from(!spend(&name, began).is_zero());
        }
        assert!(accounts.bytes() <= SHARDS * SHARD_BYTES);
        assert!(waits > 20_000, "{waits} had to wait");
        // The first client still has its account, and accounts that are unused make room.
        assert!(!spend("first", began).is_zero());
        let later = began + FORGET_AFTER + SWEEP_INTERVAL;
        for number in 0..200 {
            let name = format!("{number:0>200}");
            assert_eq!(spend(&name, later), Duration::ZERO, "{number}");
        }
    }
}
