//! Proof that a batch of runs met what it is there to meet.

use std::collections::BTreeMap;
use std::fmt;

/// How often things happened, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<&'static str, u64>);

impl Counters {
    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    pub fn count(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub fn merge(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add(name, *count);
        }
    }

    /// Those of `names` that never happened.
    pub fn missing(&self, names: &[&'static str]) -> Vec<&'static str> {
        let never = |name: &&&'static str| self.get(name) == 0;
        names.iter().filter(never).copied().collect()
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in &self.0 {
            writeln!(f, "{count:>10} {name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_happened_is_named() {
        let (mut all, mut one) = (Counters::default(), Counters::default());
        one.count("crashes");
        one.add("gaps", 0);
        all.merge(&one);
        all.merge(&one);
        assert_eq!(all.get("crashes"), 2);
        assert_eq!(all.missing(&["crashes", "gaps", "cuts"]), ["gaps", "cuts"]);
    }
}
