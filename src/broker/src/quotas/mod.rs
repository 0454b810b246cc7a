//! Quotas of clients (KIP-13, KIP-124, KIP-599, KIP-612): bytes, time of threads, changes of the metadata, new
//! connections. Counts what clients use and computes how long they must wait.
//!
//! An account holds the allowance of `quota.window.num` - 1 windows and fills up at the quota's rate. A client that
//! overdraws its account is answered at once, with the time until the account is even again as `throttle_time_ms`; the
//! broker reads nothing from the client for as long (KIP-219).

mod account;
mod accounts;
mod kind;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use strandline_metadata::quota::{QuotaEntity, QuotaName, Quotas, effective};

use accounts::{Accounts, Charge};
pub use kind::QuotaKind;

/// The principal of every client without authentication.
const ANONYMOUS: &str = "ANONYMOUS";

/// Length and number of the windows that are looked at, the one that is being filled included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QuotaWindows {
    /// `quota.window.size.seconds`, `quota.window.num`
    pub clients: (Duration, u32),
    /// `controller.quota.window.size.seconds`, `controller.quota.window.num`
    pub mutations: (Duration, u32),
}

#[derive(Default)]
pub struct ClientQuotas {
    /// Whether any client has a quota. Without one, nothing is counted.
    active: AtomicBool,
    /// Whether any client has a quota of the time of threads.
    times_requests: AtomicBool,
    rules: ArcSwap<Quotas>,
    windows: ArcSwap<QuotaWindows>,
    accounts: Accounts,
}

impl ClientQuotas {
    /// The quotas as the metadata has them now.
    pub fn follow(&self, quotas: &Arc<Quotas>, windows: QuotaWindows) {
        if **self.windows.load() != windows {
            self.windows.store(Arc::new(windows));
        }
        if Arc::ptr_eq(&self.rules.load(), quotas) {
            return;
        }
        self.rules.store(quotas.clone());
        self.active.store(!quotas.is_empty(), Ordering::Release);
        let key = QuotaKind::Request.key();
        let times_requests = quotas.values().any(|rates| rates.contains_key(key));
        self.times_requests.store(times_requests, Ordering::Release);
    }

    /// Whether the time of requests has to be taken.
    pub fn times_requests(&self) -> bool {
        self.times_requests.load(Ordering::Acquire)
    }

    /// Counts the amount that a client uses; returns how long the client must wait.
    pub fn spend(&self, kind: QuotaKind, client_id: &str, amount: usize) -> Duration {
        if !self.active.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let owner = effective(&self.rules.load(), kind.key(), ANONYMOUS, client_id);
        owner.map_or(Duration::ZERO, |(owner, rate)| {
            self.charge(kind, owner, rate, amount)
        })
    }

    /// Counts a connection from an address; gives how long it has to wait before it is served.
    pub fn connect(&self, address: IpAddr) -> Duration {
        if !self.active.load(Ordering::Acquire) {
            return Duration::ZERO;
        }
        let rules = self.rules.load();
        let kind = QuotaKind::Connection;
        let of = |ip: QuotaName| {
            let entity = QuotaEntity {
                ip: Some(ip),
                ..QuotaEntity::default()
            };
            rules.get(&entity)?.get(kind.key()).map(|rate| rate.get())
        };
        let own = QuotaName::Named(address.to_string());
        let Some(rate) = of(own.clone()).or_else(|| of(QuotaName::Default)) else {
            return Duration::ZERO;
        };
        let account = QuotaEntity {
            ip: Some(own),
            ..QuotaEntity::default()
        };
        self.charge(kind, account, rate, 1)
    }

    fn charge(&self, kind: QuotaKind, owner: QuotaEntity, rate: f64, amount: usize) -> Duration {
        let windows = self.windows.load();
        let (sample, samples) = match kind {
            QuotaKind::Mutation => windows.mutations,
            _ => windows.clients,
        };
        let charge = Charge {
            amount: amount as f64,
            rate: rate * kind.per_unit(),
            window: sample * samples.saturating_sub(1).max(1),
            longest_wait: sample * samples,
        };
        self.accounts.charge(kind, owner, charge, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use strandline_metadata::quota::QuotaRate;

    fn windows(samples: u32) -> QuotaWindows {
        let of_a_second = (Duration::from_secs(1), samples);
        QuotaWindows {
            clients: of_a_second,
            mutations: of_a_second,
        }
    }

    #[test]
    fn a_client_waits_for_what_it_has_overdrawn_and_others_do_not() {
        let quotas = ClientQuotas::default();
        assert_eq!(
            quotas.spend(QuotaKind::Produce, "c", 1 << 30),
            Duration::ZERO
        );
        let entity = QuotaEntity {
            client_id: Some(QuotaName::Default),
            ..QuotaEntity::default()
        };
        let rate = BTreeMap::from([("producer_byte_rate".to_owned(), QuotaRate::new(1000.0))]);
        let all = Arc::new(Quotas::from([(entity, rate)]));
        quotas.follow(&all, windows(11));
        assert_eq!(quotas.spend(QuotaKind::Produce, "c", 9_000), Duration::ZERO);
        let wait = quotas.spend(QuotaKind::Produce, "c", 3_000).as_secs_f64();
        assert!((1.5..=2.0).contains(&wait), "{wait}");
        assert_eq!(quotas.spend(QuotaKind::Produce, "d", 9_000), Duration::ZERO);
        assert_eq!(quotas.spend(QuotaKind::Fetch, "c", 1 << 30), Duration::ZERO);
        assert_eq!(
            quotas.spend(QuotaKind::Produce, "c", 1 << 30),
            Duration::from_secs(11)
        );
    }

    #[test]
    fn an_address_that_connects_too_often_waits() {
        let quotas = ClientQuotas::default();
        let entity = QuotaEntity {
            ip: Some(QuotaName::Default),
            ..QuotaEntity::default()
        };
        let key = "connection_creation_rate".to_owned();
        let rate = BTreeMap::from([(key, QuotaRate::new(2.0))]);
        let all = Arc::new(Quotas::from([(entity, rate)]));
        quotas.follow(&all, windows(2));
        let (one, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let waits: Vec<bool> = (0..4).map(|_| quotas.connect(one).is_zero()).collect();
        assert_eq!(waits, [true, true, false, false]);
        assert_eq!(quotas.connect(other), Duration::ZERO);
    }
}
