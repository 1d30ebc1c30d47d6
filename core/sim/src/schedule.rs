//! What happens when: virtual time, and events in the order that the seed decides.

use std::collections::BTreeMap;

use crate::Random;

/// Events that are due at some time. Those due at the same time come in an order that chance decides.
#[derive(Debug)]
pub struct Schedule<E> {
    now_us: u64,
    random: Random,
    /// By time, then chance, then a number that makes the key unique.
    due: BTreeMap<(u64, u64, u64), E>,
    added: u64,
}

impl<E> Schedule<E> {
    pub fn new(random: Random) -> Self {
        Self {
            now_us: 0,
            random,
            due: BTreeMap::new(),
            added: 0,
        }
    }

    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Microseconds from now.
    pub fn after(&mut self, wait_us: u64, event: E) {
        self.at(self.now_us + wait_us, event);
    }

    /// A time that has passed means now.
    pub fn at(&mut self, at_us: u64, event: E) {
        self.added += 1;
        let key = (at_us.max(self.now_us), self.random.next_u64(), self.added);
        self.due.insert(key, event);
    }

    /// Takes the next event and moves the time to it.
    pub fn pop(&mut self) -> Option<E> {
        let ((at_us, ..), event) = self.due.pop_first()?;
        self.now_us = at_us;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_decides_and_chance_where_time_is_equal() {
        let order = |seed| {
            let mut schedule = Schedule::new(Random::new(seed));
            schedule.after(20, 99);
            (0..8).for_each(|event| schedule.after(10, event));
            let mut order = Vec::new();
            while let Some(event) = schedule.pop() {
                order.push(event);
            }
            assert_eq!((schedule.now_us(), order.last()), (20, Some(&99)));
            order
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn nothing_happens_in_the_past() {
        let mut schedule = Schedule::new(Random::new(1));
        schedule.at(50, "first");
        assert_eq!(schedule.pop(), Some("first"));
        schedule.at(10, "late");
        assert_eq!((schedule.pop(), schedule.now_us()), (Some("late"), 50));
    }
}
