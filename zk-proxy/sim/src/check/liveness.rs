//! When nothing is disturbed any more, everything is answered or closed, and new sessions can write.

use oxkeeper_sim::Violation;

/// How a run ended, some time after the last fault.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Clients that wait for an answer on an open connection, with how many requests.
    pub waiting: Vec<(usize, usize)>,
    /// Whether a client that came last could write, then read.
    pub writes: bool,
}

impl Ending {
    pub fn check(&self) -> Result<(), Violation> {
        let wrong = |what| {
            let property = "after the last fault everything is answered";
            Err(Violation::new(property, what))
        };
        if let Some((client, requests)) = self.waiting.first() {
            return wrong(format!("client {client} waits for {requests} answers"));
        }
        if !self.writes {
            return wrong("nobody can write".to_owned());
        }
        Ok(())
    }
}
