//! When containers and TTL records are looked for.

use std::collections::VecDeque;

use oxkeeper_model::Path;

/// A plain state machine; the shard looks up the candidates.
#[derive(Debug)]
pub(crate) struct Reaper {
    interval_ms: u64,
    next_ms: u64,
    waiting: VecDeque<Path>,
}

impl Reaper {
    pub(crate) fn new(interval_ms: u32, now_ms: u64) -> Self {
        let interval_ms = u64::from(interval_ms.max(1));
        Self {
            interval_ms,
            next_ms: now_ms + interval_ms,
            waiting: VecDeque::new(),
        }
    }

    /// Whether candidates are to be looked up now. Not while the last ones wait.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        self.waiting.is_empty() && now_ms >= self.next_ms
    }

    pub(crate) fn found(&mut self, now_ms: u64, candidates: Vec<Path>) {
        self.next_ms = now_ms + self.interval_ms;
        self.waiting = candidates.into();
    }

    /// The next to be deleted.
    pub(crate) fn next(&mut self) -> Option<Path> {
        self.waiting.pop_front()
    }

    pub(crate) fn wait_ms(&self, now_ms: u64) -> u64 {
        if self.waiting.is_empty() {
            self.next_ms.saturating_sub(now_ms)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_worked_off_before_the_next_look() {
        let mut reaper = Reaper::new(1_000, 0);
        assert!(!reaper.is_due(999) && reaper.is_due(1_000));
        assert_eq!(reaper.wait_ms(400), 600);
        reaper.found(1_000, vec!["/a".into(), "/b".into()]);
        assert_eq!((reaper.is_due(2_000), reaper.wait_ms(1_000)), (false, 0));
        assert_eq!(reaper.next(), Some("/a".into()));
        assert_eq!(reaper.wait_ms(1_000), 0, "one is left");
        assert_eq!((reaper.next(), reaper.next()), (Some("/b".into()), None));
        assert_eq!((reaper.is_due(2_000), reaper.wait_ms(1_500)), (true, 500));
    }
}
