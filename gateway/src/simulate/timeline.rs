//! What is to happen, in order of time; what is due at the same instant happens in the order in which it was planned.

use std::{cmp::Ordering, collections::BinaryHeap, time::Instant};

/// Events to come.
#[derive(Debug)]
pub(super) struct Timeline<E> {
    heap: BinaryHeap<Due<E>>,
    planned: u64,
}

#[derive(Debug)]
struct Due<E> {
    at: Instant,
    number: u64,
    event: E,
}

impl<E> Timeline<E> {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), planned: 0 }
    }

    pub(super) fn plan(&mut self, at: Instant, event: E) {
        self.planned += 1;
        self.heap.push(Due { at, number: self.planned, event });
    }

    /// When the next event is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|due| due.at)
    }

    pub(super) fn pop(&mut self) -> Option<(Instant, E)> {
        self.heap.pop().map(|due| (due.at, due.event))
    }
}

impl<E> Ord for Due<E> {
    /// The heap gives the greatest first: that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<E> PartialOrd for Due<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Due<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<E> Eq for Due<E> {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn by_time_and_then_in_the_order_of_planning() {
        let start = crate::clock::now();
        let mut timeline = Timeline::new();
        for (after, event) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b')] {
            timeline.plan(start + Duration::from_secs(after), event);
        }
        assert_eq!(timeline.next_at(), Some(start + Duration::from_secs(1)));
        let order: String = std::iter::from_fn(|| timeline.pop()).map(|(_, event)| event).collect();
        assert_eq!(order, "abcd");
    }
}
