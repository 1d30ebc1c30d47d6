//! What happened in a run, as text: the same seed writes the same bytes.

use std::fmt::{self, Write};

/// Off, it costs nothing: lines are not even formatted.
#[derive(Debug)]
pub struct Trace {
    text: Option<String>,
}

impl Trace {
    pub fn off() -> Self {
        Self { text: None }
    }

    pub fn on() -> Self {
        Self {
            text: Some(String::new()),
        }
    }

    pub fn is_on(&self) -> bool {
        self.text.is_some()
    }

    /// One line, with the virtual time in seconds.
    pub fn line(&mut self, now_us: u64, what: fmt::Arguments<'_>) {
        if let Some(text) = &mut self.text {
            // A string takes everything.
            let _ = writeln!(text, "{:>10.6} {what}", now_us as f64 / 1e6);
        }
    }

    pub fn into_text(self) -> String {
        self.text.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_time_and_what_happened() {
        let mut trace = Trace::on();
        trace.line(1_500_000, format_args!("crash"));
        assert_eq!(trace.into_text(), "  1.500000 crash\n");
        let mut off = Trace::off();
        off.line(0, format_args!("crash"));
        assert!(!off.is_on() && off.into_text().is_empty());
    }
}
