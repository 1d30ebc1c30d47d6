//! What a command tells the person who ran it. If they do not look, nothing happens.

use std::fmt::Display;
use std::io::{self, Write};

/// A line on standard error.
pub(crate) fn tell(text: impl Display) {
    // There is no other place where this could be said.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The result of a command, on standard output. Whoever closed the pipe has read enough.
pub(crate) fn print(text: impl Display) -> io::Result<()> {
    let mut stdout = io::stdout();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(problem) if problem.kind() != io::ErrorKind::BrokenPipe => Err(problem),
        _ => Ok(()),
    }
}
