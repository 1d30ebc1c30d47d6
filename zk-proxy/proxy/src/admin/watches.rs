//! `wchs`, `wchc`, `wchp`: who watches what. The watches on children only are in none of them, as in ZooKeeper.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use oxkeeper_model::SessionId;
use oxkeeper_session::Kinds;

use crate::service::Service;

pub(super) fn summary(service: &Service) -> String {
    let watches = data_watches(service);
    let paths: BTreeSet<_> = watches.iter().map(|(path, _)| path).collect();
    let sessions: BTreeSet<_> = watches.iter().map(|(_, session)| session.0).collect();
    let (connections, paths) = (sessions.len(), paths.len());
    format!(
        "{connections} connections watching {paths} paths\nTotal watches:{}\n",
        watches.len()
    )
}

fn data_watches(service: &Service) -> Vec<(String, SessionId)> {
    let data = Kinds::DATA.with(Kinds::PERSISTENT).with(Kinds::RECURSIVE);
    let watches = service.watches().into_iter();
    let of_data = watches.filter(|(_, _, kinds)| kinds.intersects(data));
    of_data.map(|(path, session, _)| (path, session)).collect()
}

pub(super) fn by_session(service: &Service) -> String {
    grouped(
        data_watches(service)
            .into_iter()
            .map(|(path, session)| (session.to_string(), path)),
    )
}

pub(super) fn by_path(service: &Service) -> String {
    grouped(
        data_watches(service)
            .into_iter()
            .map(|(path, session)| (path, session.to_string())),
    )
}

fn grouped(pairs: impl Iterator<Item = (String, String)>) -> String {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    pairs.for_each(|(key, member)| groups.entry(key).or_default().push(member));
    let mut text = String::new();
    for (key, members) in groups {
        let _ = writeln!(text, "{key}");
        members.iter().for_each(|member| {
            let _ = writeln!(text, "\t{member}");
        });
    }
    text + "\n"
}
