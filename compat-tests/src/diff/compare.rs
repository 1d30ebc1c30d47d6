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

impl Divergence {
    /// What kind of difference this is: event or reply, and the error code, of the first lines
    /// that differ. Shrinking keeps it, or it would end at some other, shorter difference.
    pub fn signature(&self) -> (String, String) {
        let same = self.equal_lines();
        let strip = |lines: &[String]| {
            let line = lines.get(same).map_or("", String::as_str);
            let unquoted: String = line.split('"').step_by(2).collect();
            let words = unquoted.split_whitespace().skip_while(|w| *w != "err");
            let code = words.take(2).collect::<Vec<_>>().join(" ");
            let kind = unquoted.split_whitespace().nth(2).unwrap_or("").to_owned();
            kind + " " + &code
        };
        (strip(&self.left), strip(&self.right))
    }

    fn equal_lines(&self) -> usize {
        let pairs = self.left.iter().zip(&self.right);
        pairs.take_while(|(l, r)| l == r).count()
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = self.equal_lines();
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
