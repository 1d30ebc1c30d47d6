//! A session belongs to whoever knows its password, and is never given twice.

use std::collections::BTreeMap;

use oxkeeper_sim::Violation;

use crate::history::History;

pub(super) fn check(history: &History) -> Result<(), Violation> {
    let wrong = |what| {
        Err(Violation::new(
            "sessions belong to who knows the password",
            what,
        ))
    };
    let mut passwords: BTreeMap<i64, &[u8]> = BTreeMap::new();
    for (id, connection) in history.connections.iter().enumerate() {
        let Some(granted) = connection.granted.as_ref().filter(|it| it.session != 0) else {
            continue;
        };
        let (asked, session) = (&connection.asked, granted.session);
        let known = passwords.insert(session, &granted.password);
        if asked.session == 0 && known.is_some() {
            return wrong(format!(
                "connection {id} got session {session:#x}, which is not new"
            ));
        }
        if asked.session != 0 && (session != asked.session || known != Some(&asked.password[..])) {
            return wrong(format!(
                "connection {id} asked for session {:#x} with a wrong password and got {session:#x}",
                asked.session
            ));
        }
    }
    Ok(())
}
