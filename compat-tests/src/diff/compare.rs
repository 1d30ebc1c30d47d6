//! Finds the first step at which two transcripts differ.

use std::fmt;

use super::runner::Transcript;

/// The first difference between two runs of one plan.
#[derive(Debug, Clone)]
pub struct Divergence {
    /// Index of the step in the plan.
    pub step: usize,
    pub left: Vec<String>,
    pub right: Vec<String>,
}

/// Compares step by step.
pub fn compare(left: &Transcript, right: &Transcript) -> Option<Divergence> {
    let steps = left.steps.len().max(right.steps.len());
    let nothing = Vec::new();
    (0..steps).find_map(|step| {
        let l = left.steps.get(step).unwrap_or(&nothing);
        let r = right.steps.get(step).unwrap_or(&nothing);
        (l != r).then(|| Divergence {
            step,
            left: l.clone(),
            right: r.clone(),
        })
    })
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = self
            .left
            .iter()
            .zip(&self.right)
            .take_while(|(l, r)| l == r)
            .count();
        writeln!(f, "step {} differs, after {same} equal lines", self.step)?;
        for (name, lines) in [("left ", &self.left), ("right", &self.right)] {
            for line in lines.iter().skip(same).take(6) {
                writeln!(f, "  {name} {line}")?;
            }
            if lines.len() == same {
                writeln!(f, "  {name} (nothing more)")?;
            }
        }
        Ok(())
    }
}
