//! The leases that this process holds now. A delivery that is not here must not be sent.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

use crate::delivery::Claimed;
use crate::id::DeliveryId;

/// Leases by delivery.
#[derive(Debug, Default)]
pub(super) struct Leases {
    held: Mutex<HashMap<DeliveryId, Held>>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    lease: i64,
    until: DateTime<Utc>,
}

/// Lets go of a lease when it is dropped, so however an attempt ends: a lease that is renewed for
/// ever would keep its delivery stuck.
#[derive(Debug)]
pub(super) struct UnderWay {
    leases: Arc<Leases>,
    id: DeliveryId,
    lease: i64,
}

impl Leases {
    /// Notes a lease that was given with a claim or a handover.
    pub(super) fn hold(&self, claimed: &Claimed) {
        self.lock().insert(claimed.id, Held { lease: claimed.lease, until: claimed.lease_until });
    }

    /// Starts an attempt under a lease, if it is still ours.
    pub(super) fn start(self: &Arc<Self>, claimed: &Claimed, now: DateTime<Utc>) -> Option<UnderWay> {
        let under_way = UnderWay { leases: Arc::clone(self), id: claimed.id, lease: claimed.lease };
        let held = self.lock().get(&claimed.id).copied();
        held.filter(|held| held.lease == claimed.lease && held.until > now).map(|_| under_way)
    }

    /// Forgets a lease, unless the delivery is held under another by now.
    pub(super) fn let_go(&self, id: DeliveryId, lease: i64) {
        let mut held = self.lock();
        if held.get(&id).is_some_and(|held| held.lease == lease) {
            held.remove(&id);
        }
    }

    /// The leases that lapse at `until` or earlier, in order: see `recorder.rs`.
    pub(super) fn lapsing(&self, until: DateTime<Utc>) -> Vec<(DeliveryId, i64)> {
        let held = self.lock();
        let lapsing = held.iter().filter(|(_, held)| held.until <= until).map(|(id, held)| (*id, held.lease));
        let mut lapsing: Vec<_> = lapsing.collect();
        drop(held);
        lapsing.sort_unstable();
        lapsing
    }

    /// Notes which of these were renewed; the others are lost.
    pub(super) fn renewed(&self, asked: &[(DeliveryId, i64)], renewed: &HashSet<DeliveryId>, until: DateTime<Utc>) {
        let mut held = self.lock();
        for (id, lease) in asked {
            match held.get_mut(id) {
                Some(entry) if entry.lease == *lease && renewed.contains(id) => entry.until = until,
                Some(entry) if entry.lease == *lease => drop(held.remove(id)),
                _ => (),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeliveryId, Held>> {
        // Every entry is whole after each statement, so a panic elsewhere cannot spoil the map.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.leases.let_go(self.id, self.lease);
    }
}
