//! Cuts a plan that diverges down to one that still does and is short enough to read.

use std::time::{Duration, Instant};

use super::plan::{Call, Plan, Step};
use crate::proto::Request;

/// Runs a candidate; `true` if it still diverges.
pub type StillDiverges<'a> = dyn FnMut(&Plan) -> bool + 'a;

/// The shortest plan found within `limit`.
pub fn shrink(plan: &Plan, limit: Duration, diverges: &mut StillDiverges<'_>) -> Plan {
    let until = Instant::now() + limit;
    let mut best = plan.clone();
    let seed = plan.seed;
    best.steps = remove_chunks(best.steps, until, &mut |steps| {
        diverges(&Plan {
            seed,
            steps: steps.to_vec(),
        })
    });
    shrink_batches(&mut best, until, diverges);
    // Without those requests, some steps may have become needless.
    best.steps = remove_chunks(best.steps, until, &mut |steps| {
        diverges(&Plan {
            seed,
            steps: steps.to_vec(),
        })
    });
    best
}

/// Delta debugging: tries to leave out halves, quarters, and so on down to single items.
fn remove_chunks<T: Clone>(
    items: Vec<T>,
    until: Instant,
    fails: &mut dyn FnMut(&[T]) -> bool,
) -> Vec<T> {
    let mut items = items;
    let mut chunk = items.len().div_ceil(2);
    while chunk > 0 && Instant::now() < until {
        let mut at = 0;
        let mut removed = false;
        while at < items.len() && Instant::now() < until {
            let end = (at + chunk).min(items.len());
            let candidate: Vec<T> = items[..at].iter().chain(&items[end..]).cloned().collect();
            if !candidate.is_empty() && fails(&candidate) {
                items = candidate;
                removed = true;
            } else {
                at = end;
            }
        }
        if !removed || chunk > items.len() {
            chunk = if chunk == 1 { 0 } else { chunk.div_ceil(2) };
        }
    }
    items
}

fn shrink_batches(plan: &mut Plan, until: Instant, diverges: &mut StillDiverges<'_>) {
    for at in (0..plan.steps.len()).rev() {
        let Step::Batch { slot, calls } = plan.steps[at].clone() else {
            continue;
        };
        let with = |calls: &[Call]| {
            let mut candidate = plan.clone();
            candidate.steps[at] = Step::Batch {
                slot,
                calls: calls.to_vec(),
            };
            candidate
        };
        let mut calls = remove_chunks(calls, until, &mut |c| diverges(&with(c)));
        for i in 0..calls.len() {
            let Call::Plain(Request::Multi(ops)) = &calls[i] else {
                continue;
            };
            let ops = remove_chunks(ops.clone(), until, &mut |ops| {
                let mut smaller = calls.clone();
                smaller[i] = Call::Plain(Request::Multi(ops.to_vec()));
                diverges(&with(&smaller))
            });
            calls[i] = Call::Plain(Request::Multi(ops));
        }
        plan.steps[at] = Step::Batch { slot, calls };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{generate::plan, plan::Step};
    use super::shrink;

    #[test]
    fn what_remains_is_only_what_the_failure_needs() {
        let whole = plan(3, 2_000);
        let wanted = |steps: &[Step]| {
            let drops = steps.iter().filter(|s| matches!(s, Step::Drop { .. }));
            drops.count() >= 2
        };
        assert!(wanted(&whole.steps));
        let small = shrink(&whole, Duration::from_secs(10), &mut |p| wanted(&p.steps));
        assert_eq!(small.steps.len(), 2, "{small:?}");
    }
}
