//! Makes a plan from a seed. Knows nothing of servers; it only keeps in mind which slots
//! should be connected, so that most steps make sense.

use super::generate_bursts as bursts;
use super::generate_ops as ops;
use super::generate_values as values;
use super::plan::{Broken, Call, Claim, Handshake, NewPassword, Plan, SLOTS, Step};
use crate::proto::Request;
use crate::rng::Rng;

/// Percentage of plans in which one session expires: each costs a session timeout of waiting.
const PLANS_WITH_EXPIRY_PERCENT: usize = 20;
/// Requests in one write.
const BATCH_MAX: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Empty,
    Connected,
    /// The session lives, its connection is gone.
    Detached,
    /// The session has ended; its id and password are still known.
    Dead,
}

/// The plan of a seed, with at least `requests` requests.
pub fn plan(seed: u64, requests: usize) -> Plan {
    let mut generator = Generator {
        rng: Rng::new(seed),
        slots: [Slot::Empty; SLOTS],
        expiries_left: 0,
        steps: Vec::new(),
    };
    if generator.rng.percent(PLANS_WITH_EXPIRY_PERCENT) {
        generator.expiries_left = 1;
    }
    let mut sent = 0;
    while sent < requests {
        let before = generator.steps.len();
        generator.step();
        sent += generator.steps[before..]
            .iter()
            .map(Step::requests)
            .sum::<usize>();
    }
    Plan {
        seed,
        steps: generator.steps,
    }
}

struct Generator {
    rng: Rng,
    slots: [Slot; SLOTS],
    expiries_left: usize,
    steps: Vec<Step>,
}

impl Generator {
    fn step(&mut self) {
        let slot = self.rng.below(SLOTS);
        match self.slots[slot] {
            Slot::Empty => self.connect(slot),
            Slot::Connected => self.connected(slot),
            Slot::Detached => self.detached(slot),
            Slot::Dead => self.dead(slot),
        }
    }

    fn connect(&mut self, slot: usize) {
        let short = self.rng.percent(8);
        let timeout_ms = if short {
            *self.rng.pick(&[i32::MIN, -5, 0, 1, 1_999, 2_001])
        } else {
            values::long_timeout_ms(&mut self.rng)
        };
        let password = match self.rng.below(10) {
            0 => NewPassword::Null,
            1 => NewPassword::Empty,
            2 => NewPassword::Long,
            _ => NewPassword::Zeros,
        };
        let handshake = self.handshake(timeout_ms);
        self.steps.push(Step::Connect {
            slot,
            handshake,
            password,
        });
        self.slots[slot] = Slot::Connected;
        if short {
            // Asks for more at once, or the session would expire at some moment of its own.
            self.steps.push(Step::Reattach {
                slot,
                handshake: Handshake {
                    timeout_ms: 60_000,
                    read_only: Some(false),
                },
                claim: Claim::Own,
            });
        }
    }

    fn handshake(&mut self, timeout_ms: i32) -> Handshake {
        let read_only = match self.rng.below(10) {
            0..2 => None,
            2..9 => Some(false),
            _ => Some(true),
        };
        Handshake {
            timeout_ms,
            read_only,
        }
    }

    fn connected(&mut self, slot: usize) {
        match self.rng.below(1000) {
            0..4 => {
                let calls = bursts::burst(&mut self.rng);
                self.steps.push(Step::Batch { slot, calls });
            }
            4..30 => self.between_writes(slot),
            30..880 => self.batch(slot),
            880..920 => {
                self.steps.push(Step::Drop { slot });
                self.slots[slot] = Slot::Detached;
            }
            920..940 => self.reattach(slot, Claim::Own),
            940..960 => self.close(slot),
            960..980 => {
                let call = ops::fatal_call(&mut self.rng);
                self.steps.push(Step::Fatal { slot, call });
                self.slots[slot] = Slot::Detached;
            }
            980..995 => {
                let broken = self.broken();
                self.steps.push(Step::Broken { slot, broken });
                self.slots[slot] = Slot::Detached;
            }
            _ => self.expire(slot),
        }
    }

    fn batch(&mut self, slot: usize) {
        let len = match self.rng.below(10) {
            0..5 => 1,
            5..9 => 2 + self.rng.below(7),
            _ => 9 + self.rng.below(BATCH_MAX - 8),
        };
        let mut calls = Vec::with_capacity(len + 1);
        if self.rng.percent(4) {
            // First in its batch: what is pipelined behind it has the new identity.
            calls.push(ops::auth(&mut self.rng));
        }
        self.add_calls(&mut calls, len);
        self.steps.push(Step::Batch { slot, calls });
    }

    /// Another session's value between this one's own writes.
    fn between_writes(&mut self, slot: usize) {
        let is_other = |other: &usize| *other != slot && self.slots[*other] == Slot::Connected;
        let Some(other) = (0..SLOTS).find(is_other) else {
            return self.batch(slot);
        };
        let (path, calls) = bursts::middle_value(&mut self.rng);
        self.steps.push(Step::Batch { slot: other, calls });
        let calls = bursts::sets_around_gets(&mut self.rng, &path);
        self.steps.push(Step::Batch { slot, calls });
    }

    /// Adds up to `count` calls. Nothing is pipelined behind a setACL, see `allowed::NOT_SENT`.
    fn add_calls(&mut self, calls: &mut Vec<Call>, count: usize) {
        for _ in 0..count {
            let call = ops::call(&mut self.rng);
            let last = matches!(call, Call::Plain(Request::SetAcl { .. }));
            calls.push(call);
            if last {
                return;
            }
        }
    }

    fn close(&mut self, slot: usize) {
        let before = self.rng.below(4);
        let mut calls = Vec::new();
        self.add_calls(&mut calls, before);
        calls.push(Call::Plain(Request::CloseSession));
        self.steps.push(Step::Batch { slot, calls });
        self.slots[slot] = Slot::Dead;
    }

    fn broken(&mut self) -> Broken {
        let rng = &mut self.rng;
        match rng.below(5) {
            0 => Broken::Length(*rng.pick(&[-1, i32::MIN, i32::MAX, 0x10_0000, 0x7fff_0000])),
            1 => {
                let len = rng.below(8);
                Broken::Frame(rng.bytes(len))
            }
            2 => Broken::Bytes(b"ruok".to_vec()),
            3 => Broken::Bytes(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            _ => {
                let length = 8 + rng.below(1_000) as i32;
                let sent = rng.below(length as usize);
                Broken::CutOff { length, sent }
            }
        }
    }

    fn detached(&mut self, slot: usize) {
        match self.rng.below(100) {
            0..80 => {
                self.reattach(slot, Claim::Own);
                if self.rng.percent(60) {
                    let mut calls = vec![ops::set_watches(&mut self.rng)];
                    if self.rng.percent(30) {
                        calls.insert(0, ops::auth(&mut self.rng));
                    }
                    self.steps.push(Step::Batch { slot, calls });
                }
            }
            80..88 => self.reattach(slot, Claim::WrongPassword),
            88..94 => self.reattach(slot, Claim::FutureZxid),
            94..98 => {
                let id = *self.rng.pick(&[0x1234_5678, -1, i64::MIN, i64::MAX]);
                self.reattach(slot, Claim::Stranger(id));
            }
            _ => self.expire(slot),
        }
    }

    fn reattach(&mut self, slot: usize, claim: Claim) {
        if claim == Claim::Own {
            self.slots[slot] = Slot::Connected;
        }
        let timeout_ms = values::long_timeout_ms(&mut self.rng);
        let handshake = self.handshake(timeout_ms);
        self.steps.push(Step::Reattach {
            slot,
            handshake,
            claim,
        });
    }

    fn expire(&mut self, slot: usize) {
        if self.expiries_left == 0 {
            return;
        }
        self.expiries_left -= 1;
        self.steps.push(Step::Expire { slot });
        self.slots[slot] = Slot::Dead;
    }

    fn dead(&mut self, slot: usize) {
        if self.rng.percent(20) {
            // Somebody comes back who is not known any more.
            let handshake = self.handshake(60_000);
            self.steps.push(Step::Reattach {
                slot,
                handshake,
                claim: Claim::Own,
            });
            return;
        }
        self.connect(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Call, Step};
    use super::plan;
    use crate::proto::Request;

    #[test]
    fn a_seed_means_one_plan() {
        assert_eq!(plan(7, 500).steps, plan(7, 500).steps);
        assert_ne!(plan(7, 500).steps, plan(8, 500).steps);
        assert!(plan(7, 500).requests() >= 500);
    }

    #[test]
    fn among_the_plans_are_bursts_beyond_every_limit_of_a_connection() {
        let batches = (0..60).flat_map(|seed| plan(seed, 1000).steps);
        let batches: Vec<_> = batches
            .filter_map(|step| match step {
                Step::Batch { calls, .. } => Some(calls),
                _ => None,
            })
            .collect();
        let bytes = |calls: &Vec<Call>| -> usize {
            let of_call = |call: &Call| match call {
                Call::Plain(Request::SetData { data, .. }) => data.as_ref().map_or(0, Vec::len),
                _ => 0,
            };
            calls.iter().map(of_call).sum()
        };
        assert!(batches.iter().any(|calls| calls.len() > 1000));
        assert!(batches.iter().any(|calls| bytes(calls) > 4 << 20));
    }
}
