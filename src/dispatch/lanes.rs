//! Who is sent to next: a lane for each subscriber, fresh events before retries, and limits on
//! what is under way, in all and in one lane. Pure.

use std::collections::{HashMap, VecDeque};

use crate::handover::InHand;
use crate::id::SubscriberId;

/// The deliveries in hand that wait for their turn.
#[derive(Debug)]
pub(super) struct Lanes {
    limit: usize,
    limit_per_lane: usize,
    under_way: usize,
    lanes: HashMap<SubscriberId, Lane>,
    /// Lanes with something waiting and room to send it, each once, in turn.
    ready: VecDeque<SubscriberId>,
}

#[derive(Debug, Default)]
struct Lane {
    fresh: VecDeque<InHand>,
    retries: VecDeque<InHand>,
    under_way: usize,
    is_ready: bool,
}

impl Lanes {
    /// Empty lanes with these limits.
    pub(super) fn new(limit: usize, limit_per_lane: usize) -> Self {
        Self { limit, limit_per_lane, under_way: 0, lanes: HashMap::new(), ready: VecDeque::new() }
    }

    /// Puts a delivery in its subscriber's lane.
    pub(super) fn push(&mut self, in_hand: InHand) {
        let id = in_hand.claimed.subscriber_id;
        let lane = self.lanes.entry(id).or_default();
        let is_retry = in_hand.claimed.attempt > 1;
        if is_retry {
            lane.retries.push_back(in_hand)
        } else {
            lane.fresh.push_back(in_hand)
        }
        self.make_ready(id);
    }

    /// The next delivery to send now, if the limits leave room.
    pub(super) fn start_next(&mut self) -> Option<InHand> {
        if self.under_way >= self.limit {
            return None;
        }
        let id = self.ready.pop_front()?;
        let lane = self.lanes.get_mut(&id)?;
        lane.is_ready = false;
        let next = lane.fresh.pop_front().or_else(|| lane.retries.pop_front())?;
        lane.under_way += 1;
        self.under_way += 1;
        self.make_ready(id);
        Some(next)
    }

    /// Says that an attempt to this subscriber has ended.
    pub(super) fn finished(&mut self, id: SubscriberId) {
        self.under_way -= 1;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.under_way -= 1;
            if lane.under_way == 0 && lane.fresh.is_empty() && lane.retries.is_empty() {
                self.lanes.remove(&id);
            } else {
                self.make_ready(id);
            }
        }
    }

    /// Takes everything that waits.
    pub(super) fn drain(&mut self) -> Vec<InHand> {
        self.ready.clear();
        self.lanes.drain().flat_map(|(_, lane)| lane.fresh.into_iter().chain(lane.retries)).collect()
    }

    fn make_ready(&mut self, id: SubscriberId) {
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let waits = !lane.fresh.is_empty() || !lane.retries.is_empty();
        if waits && !lane.is_ready && lane.under_way < self.limit_per_lane {
            lane.is_ready = true;
            self.ready.push_back(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use chrono::DateTime;

    use super::*;
    use crate::delivery::Claimed;
    use crate::event::{Event, Vendor};
    use crate::handover::Handover;
    use crate::id::{AccountId, DeliveryId, EventId};
    use crate::random::Chance;

    /// A delivery to the subscriber of this number; its lease says which it is.
    fn in_hand(handover: &Handover, to: u64, lease: i64, attempt: u32) -> InHand {
        let epoch = DateTime::UNIX_EPOCH;
        let mut rng = Chance::from_seed(to).stream("id", lease);
        let event = Event {
            id: EventId::generate(epoch, 0, &mut rng),
            account_id: AccountId::DEFAULT,
            vendor: Vendor::Standard,
            vendor_event_id: String::new(),
            occurred_at: epoch,
            event_type: String::new(),
            object_type: String::new(),
            content: String::new(),
            idempotency_key: None,
            created_at: epoch,
            at_publish: None,
        };
        let claimed = Claimed {
            due_at: chrono::DateTime::UNIX_EPOCH,
            id: DeliveryId::generate(epoch, 0, &mut rng),
            lease,
            lease_until: epoch,
            at: None,
            attempt,
            schedule_start: 0,
            event: Arc::new(event),
            subscriber_id: subscriber_id(to),
            options: crate::subscriber::Options::default(),
        };
        InHand { claimed, place: handover.try_place(subscriber_id(to)).expect("a place"), known: None, made: None }
    }

    fn subscriber_id(number: u64) -> SubscriberId {
        SubscriberId::generate(DateTime::UNIX_EPOCH, number, &mut Chance::from_seed(number).stream("subscriber", ""))
    }

    fn started(lanes: &mut Lanes) -> Vec<i64> {
        std::iter::from_fn(|| lanes.start_next()).map(|in_hand| in_hand.claimed.lease).collect()
    }

    fn handover() -> Handover {
        Handover::new(1, Duration::from_secs(1), 100, 100, std::sync::Arc::default()).0
    }

    #[test]
    fn a_slow_subscriber_takes_only_its_own_places() {
        let handover = handover();
        let mut lanes = Lanes::new(10, 2);
        for lease in 0..5 {
            lanes.push(in_hand(&handover, 1, lease, 1));
        }
        lanes.push(in_hand(&handover, 2, 9, 1));
        assert_eq!(started(&mut lanes), [0, 9, 1]);
        lanes.finished(subscriber_id(1));
        assert_eq!(started(&mut lanes), [2]);
    }

    #[test]
    fn fresh_events_go_before_retries() {
        let handover = handover();
        let mut lanes = Lanes::new(1, 1);
        lanes.push(in_hand(&handover, 1, 1, 2));
        lanes.push(in_hand(&handover, 1, 2, 1));
        assert_eq!(started(&mut lanes), [2]);
        lanes.finished(subscriber_id(1));
        assert_eq!(started(&mut lanes), [1]);
    }

    #[test]
    fn the_limit_for_all_holds_and_what_waits_can_be_drained() {
        let handover = handover();
        let mut lanes = Lanes::new(3, 2);
        for to in 0..5 {
            lanes.push(in_hand(&handover, to, to as i64, 1));
        }
        assert_eq!(started(&mut lanes).len(), 3);
        assert_eq!(lanes.drain().len(), 2);
        assert!(started(&mut lanes).is_empty());
    }
}
