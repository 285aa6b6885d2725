//! The way from publish to dispatch: what is due at once is handed over already leased, so that
//! no claim is needed. What finds no place waits in the table.
//!
//! Invariant: a leased delivery holds a place, in all and of its subscriber, so memory is bounded
//! and one subscriber cannot take every place.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::delivery::{Claimed, Next, Outcome};
use crate::id::{AccountId, SubscriberId};
use crate::others::{Others, Told};
use crate::subscriber::Subscriber;

/// From how many on accounts with void leases are forgotten.
const MOST_VOIDED: usize = 4_096;

/// A leased delivery on its way to the dispatcher, with its place.
#[derive(Debug)]
pub struct InHand {
    pub claimed: Claimed,
    pub place: Place,
    /// The subscriber as publish knew it, where it was publish that put this in hand.
    pub known: Option<(Arc<Subscriber>, AsOf)>,
    /// Is told of the attempt once it is recorded, or dropped if none is made.
    pub made: Option<oneshot::Sender<AttemptMade>>,
}

/// When, at the earliest, what is known was so.
#[derive(Debug, Clone, Copy)]
pub struct AsOf {
    pub at: DateTime<Utc>,
    /// The store's count of changes by this process, as long as there are no more.
    pub changes: u64,
}

/// An attempt that was made and recorded.
#[derive(Debug, Clone)]
pub struct AttemptMade {
    pub outcome: Outcome,
    pub next: Next,
}

/// Where publish and the claims put what is to be sent, and where dispatch takes it.
#[derive(Debug)]
pub struct Handover {
    queue: mpsc::UnboundedSender<InHand>,
    places: Arc<Places>,
    lease: Duration,
    /// The process's number in the high half, a count in the low half: no two claims are alike.
    next_lease: AtomicI64,
    /// By account, the first lease given after all its rows were changed at once: those before it
    /// are void.
    voided: Mutex<HashMap<AccountId, i64>>,
    /// Something may be due that the claims do not know of.
    wake: Notify,
    others: Arc<Others>,
}

/// How many deliveries may be in hand.
#[derive(Debug)]
struct Places {
    limit: usize,
    limit_per_subscriber: usize,
    taken: Mutex<Taken>,
    /// Told when a place is given back.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_subscriber: HashMap<SubscriberId, usize>,
}

/// A place in hand; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    subscriber_id: SubscriberId,
}

/// How much a claim may take.
#[derive(Debug, PartialEq, Eq)]
pub struct Room {
    pub limit: usize,
    /// Subscribers whose places are all taken.
    pub full: Vec<SubscriberId>,
}

impl Handover {
    /// Makes the way, and the end that dispatch takes from. With a `limit` of 0 no place is given, so
    /// that publish hands nothing over.
    pub fn new(
        process_number: i64,
        lease: Duration,
        limit: usize,
        limit_per_subscriber: usize,
        others: Arc<Others>,
    ) -> (Self, mpsc::UnboundedReceiver<InHand>) {
        let (queue, taken_from) = mpsc::unbounded_channel();
        let places = Places { limit, limit_per_subscriber, taken: Mutex::default(), freed: Notify::new() };
        let next_lease = AtomicI64::new(process_number << 32);
        let (voided, wake) = (Mutex::default(), Notify::new());
        let handover = Self { queue, places: Arc::new(places), lease, next_lease, voided, wake, others };
        (handover, taken_from)
    }

    /// A new lease: its name, and when it lapses.
    pub fn new_lease(&self, now: DateTime<Utc>) -> (i64, DateTime<Utc>) {
        (self.next_lease.fetch_add(1, Ordering::Relaxed), self.lapses_at(now))
    }

    /// Says that an account was deleted, reset or restored: no lease given so far holds in it, in no
    /// process.
    pub fn void_leases(&self, account_id: AccountId) {
        self.void_leases_here(account_id);
        self.others.tell(Told::Voided(account_id));
    }

    /// As [`void_leases`](Self::void_leases), for those of this process.
    pub fn void_leases_here(&self, account_id: AccountId) {
        let mut voided = self.voided.lock().unwrap_or_else(PoisonError::into_inner);
        // With nothing in hand hardly anybody will ask for the others any more.
        if voided.len() >= MOST_VOIDED && self.places.lock().all == 0 {
            voided.clear();
        }
        voided.insert(account_id, self.next_lease.load(Ordering::Relaxed));
    }

    /// Whether a lease was given before its account was deleted, reset or restored.
    pub fn is_void(&self, account_id: AccountId, lease: i64) -> bool {
        let voided = self.voided.lock().unwrap_or_else(PoisonError::into_inner);
        voided.get(&account_id).is_some_and(|first| lease < *first)
    }

    /// When a lease that starts or is renewed now lapses.
    pub fn lapses_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + self.lease
    }

    /// Takes a place for a delivery to this subscriber, if there is one.
    pub fn try_place(&self, subscriber_id: SubscriberId) -> Option<Place> {
        let mut taken = self.places.lock();
        let of_subscriber = taken.by_subscriber.get(&subscriber_id).copied().unwrap_or_default();
        if taken.all >= self.places.limit || of_subscriber >= self.places.limit_per_subscriber {
            return None;
        }
        Some(self.place(&mut taken, subscriber_id))
    }

    fn place(&self, taken: &mut Taken, subscriber_id: SubscriberId) -> Place {
        taken.all += 1;
        *taken.by_subscriber.entry(subscriber_id).or_default() += 1;
        Place { places: Arc::clone(&self.places), subscriber_id }
    }

    /// Puts a leased delivery in hand.
    pub fn put(&self, in_hand: InHand) {
        // The dispatcher outlives every publisher; if it is gone, the lease lapses.
        let _ = self.queue.send(in_hand);
    }

    /// Whether nothing is taken from it any more: the program is ending.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// Puts claimed deliveries in hand. A claim may overrun a subscriber's places once: it cannot
    /// know beforehand whose deliveries are due.
    pub fn put_claimed(&self, claimed: Vec<Claimed>) {
        for claimed in claimed {
            let place = self.place(&mut self.places.lock(), claimed.subscriber_id);
            self.put(InHand { claimed, place, known: None, made: None });
        }
    }

    /// Puts one claimed delivery in hand, whatever room there is: what comes of it, or nothing if no
    /// attempt is made.
    pub fn put_one(&self, claimed: Claimed) -> oneshot::Receiver<AttemptMade> {
        let (made, told) = oneshot::channel();
        let place = self.place(&mut self.places.lock(), claimed.subscriber_id);
        self.put(InHand { claimed, place, known: None, made: Some(made) });
        told
    }

    /// How much a claim may take now.
    pub fn room(&self) -> Room {
        let taken = self.places.lock();
        let is_full = |(_, count): &(&SubscriberId, &usize)| **count >= self.places.limit_per_subscriber;
        let full = taken.by_subscriber.iter().filter(is_full).map(|(id, _)| *id).collect();
        Room { limit: self.places.limit.saturating_sub(taken.all), full }
    }

    /// Waits until half of all places, or half of one subscriber's, are free again: a claim for each
    /// single place would have to pass over all that found none.
    pub async fn room_made(&self) {
        self.places.freed.notified().await;
    }

    /// Says that something may have become due, in whatever process it is claimed.
    pub fn wake(&self) {
        self.wake_here();
        self.others.tell(Told::Deliveries);
    }

    /// As [`wake`](Self::wake), where it is for this process to claim, or another has said it.
    pub fn wake_here(&self) {
        self.wake.notify_one();
    }

    /// Waits for [`wake_here`](Self::wake_here).
    pub async fn woken(&self) {
        self.wake.notified().await;
    }
}

impl Places {
    fn lock(&self) -> std::sync::MutexGuard<'_, Taken> {
        // The counts are whole after every statement, so a panic elsewhere cannot spoil them.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        let mut left = 0;
        if let Some(count) = taken.by_subscriber.get_mut(&self.subscriber_id) {
            *count -= 1;
            left = *count;
            if left == 0 {
                taken.by_subscriber.remove(&self.subscriber_id);
            }
        }
        let is_half_free = left == self.places.limit_per_subscriber / 2 || taken.all == self.places.limit / 2;
        drop(taken);
        if is_half_free {
            self.places.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Chance;

    #[test]
    fn one_subscriber_cannot_take_every_place() {
        let (handover, _queue) = Handover::new(1, Duration::from_secs(1), 3, 2, Arc::default());
        let id = |n| SubscriberId::generate(DateTime::UNIX_EPOCH, n, &mut Chance::from_seed(n).stream("id", n));
        let held: Vec<Place> = (0..2).filter_map(|_| handover.try_place(id(1))).collect();
        assert_eq!(held.len(), 2);
        assert!(handover.try_place(id(1)).is_none());
        assert_eq!(handover.room(), Room { limit: 1, full: vec![id(1)] });
        let other = handover.try_place(id(2)).expect("a place for another");
        assert!(handover.try_place(id(3)).is_none());
        drop((held, other));
        assert_eq!(handover.room(), Room { limit: 3, full: vec![] });
    }

    #[test]
    fn leases_from_before_a_reset_are_void() {
        let (handover, _queue) = Handover::new(1, Duration::from_secs(1), 1, 1, Arc::default());
        let lease = || handover.new_lease(DateTime::UNIX_EPOCH).0;
        let other = AccountId::generate(DateTime::UNIX_EPOCH, 1, &mut Chance::from_seed(1).stream("id", 1));
        let before = lease();
        handover.void_leases(AccountId::DEFAULT);
        let after = lease();
        let is_void = |account_id, lease| handover.is_void(account_id, lease);
        assert!(is_void(AccountId::DEFAULT, before) && !is_void(AccountId::DEFAULT, after) && !is_void(other, before));
    }

    #[test]
    fn leases_of_two_processes_are_never_alike() {
        let lease = |process| {
            Handover::new(process, Duration::from_secs(1), 1, 1, Arc::default()).0.new_lease(DateTime::UNIX_EPOCH).0
        };
        assert_ne!(lease(1), lease(2));
    }
}
