//! `dump`: sessions and connections by when they end unless something is heard of them, and who owns
//! which ephemeral znodes.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use std::time::Duration;

use oxkeeper_model::{Answer, Now, Query, SessionId};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::service::Service;

pub(super) async fn text(service: &Service) -> String {
    let sessions = match service.query(Query::Sessions).await {
        Ok(Answer::Sessions(sessions)) => sessions,
        _ => Vec::new(),
    };
    let now = service.clock.now();
    let mut heard_us = BTreeMap::new();
    let mut connections = Ends::new(now, service.options.handshake_timeout);
    for connection in service.connections() {
        let report = connection.report();
        let session = connection.session();
        let timeout = report
            .session
            .map_or(service.options.handshake_timeout, |(_, timeout_ms)| {
                Duration::from_millis(timeout_ms.into())
            });
        let who = format!("ip: /{} sessionId: {session}", connection.peer);
        connections.add(report.stats.last_response_us, timeout, who);
        heard_us.insert(session, report.stats.last_response_us);
    }
    let tick = Duration::from_millis(service.options.tick_time_ms.into());
    let mut ends = Ends::new(now, tick);
    for (session, timeout_ms, _) in &sessions {
        // Of one that has no connection here nobody but the shard knows more than that it lives.
        let heard_us = heard_us.get(session).copied().unwrap_or(now.monotonic_us);
        ends.add(
            heard_us,
            Duration::from_millis((*timeout_ms).into()),
            session,
        );
    }
    let ephemerals = ephemerals(service, &sessions).await;
    format!(
        "SessionTracker dump:\nSession {ends}{ephemerals}Connections dump:\nConnections {connections}"
    )
}

async fn ephemerals(service: &Service, sessions: &[(SessionId, u32, u64)]) -> String {
    let owners = || sessions.iter().filter(|(_, _, count)| *count > 0);
    let mut text = format!(
        "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n",
        owners().count()
    );
    for &(session, _, _) in owners() {
        let _ = writeln!(text, "{session}:");
        let query = Query::Ephemerals {
            session,
            prefix: String::new(),
        };
        if let Ok(Answer::Ephemerals(paths)) = service.query(query).await {
            for path in paths {
                let _ = writeln!(text, "\t{path}");
            }
        }
    }
    text
}

/// Who ends when, in the steps in which that is looked for.
struct Ends {
    now: Now,
    step: Duration,
    by_time: BTreeMap<OffsetDateTime, Vec<String>>,
}

impl Ends {
    fn new(now: Now, step: Duration) -> Self {
        Self {
            now,
            step,
            by_time: BTreeMap::new(),
        }
    }

    fn add(&mut self, heard_us: u64, timeout: Duration, who: impl Display) {
        let silent_ms = self.now.monotonic_us.saturating_sub(heard_us) / 1000;
        let end_ms = self.now.wall_ms - silent_ms as i64 + timeout.as_millis() as i64;
        let step_ms = (self.step.as_millis() as i64).max(1);
        let rounded_ms = (end_ms.div_euclid(step_ms) + 1) * step_ms;
        let end = OffsetDateTime::from_unix_timestamp(rounded_ms.div_euclid(1000));
        let group = self
            .by_time
            .entry(end.unwrap_or(OffsetDateTime::UNIX_EPOCH));
        group.or_default().push(who.to_string());
    }
}

impl Display for Ends {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: usize = self.by_time.values().map(Vec::len).sum();
        writeln!(f, "Sets ({})/({all}):", self.by_time.len())?;
        for (at, group) in &self.by_time {
            writeln!(f, "{} expire at {}:", group.len(), java_date(*at))?;
            for who in group {
                writeln!(f, "\t{who}")?;
            }
        }
        Ok(())
    }
}

/// As Java's `Date` prints itself.
fn java_date(at: OffsetDateTime) -> String {
    let format = format_description!(
        "[weekday repr:short] [month repr:short] [day] [hour]:[minute]:[second] UTC [year]"
    );
    at.format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_grouped_by_steps_and_counted() {
        let now = Now {
            monotonic_us: 7_000_000,
            wall_ms: 1_000_001_000,
        };
        let mut ends = Ends::new(now, Duration::from_secs(10));
        ends.add(7_000_000, Duration::from_secs(8), "a");
        ends.add(7_000_000, Duration::from_secs(9), "b");
        ends.add(2_000_000, Duration::from_secs(6), "c");
        assert_eq!(
            ends.to_string(),
            "Sets (2)/(3):\n\
             2 expire at Mon Jan 12 13:46:50 UTC 1970:\n\ta\n\tc\n\
             1 expire at Mon Jan 12 13:47:00 UTC 1970:\n\tb\n"
        );
    }
}
