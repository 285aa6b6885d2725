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
        let id = in_hand.claimed.subscriber.id;
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
