//! What a connection must hear when its proxy's link began anew with changes missing.

use crate::history::{Connection, Gap, History};
use crate::reply::Notification;

#[derive(Clone, Debug)]
pub(super) struct Catching<'a> {
    /// Those that happened while the connection was open, in order of time.
    gaps: Vec<&'a Gap>,
    /// By path, the kinds of event of which one must come before anything as new as the zxid is shown.
    expected: Vec<(i64, String, Vec<i32>)>,
}

impl<'a> Catching<'a> {
    pub(super) fn new(history: &'a History, connection: &Connection) -> Self {
        let open = |gap: &&Gap| {
            gap.proxy == connection.proxy
                && gap.at_us >= connection.opened_us
                && connection
                    .closed_us
                    .is_none_or(|closed| gap.at_us <= closed)
        };
        Self {
            gaps: history.gaps.iter().filter(open).collect(),
            expected: Vec::new(),
        }
    }

    /// The gap that begins here, if one does: nothing is seen from the one to the other.
    pub(super) fn begins(&self, seen: i64) -> Option<(i64, i64)> {
        let gap = self
            .gaps
            .iter()
            .find(|gap| gap.from_zxid <= seen && seen < gap.zxid)?;
        Some((gap.from_zxid, gap.zxid))
    }

    /// The next gap that is still to come.
    pub(super) fn next(&self, seen: i64) -> Option<(i64, i64)> {
        let gap = self.gaps.iter().find(|gap| seen < gap.zxid)?;
        Some((gap.from_zxid, gap.zxid))
    }

    pub(super) fn expect(&mut self, zxid: i64, events: Vec<(String, Vec<i32>)>) {
        let events = events.into_iter();
        self.expected
            .extend(events.map(|(path, kinds)| (zxid, path, kinds)));
    }

    /// Whether a notification is one that is expected here.
    pub(super) fn takes(&mut self, told: &Notification) -> bool {
        let is_it = |(_, path, kinds): &(i64, String, Vec<i32>)| {
            *path == told.path && kinds.contains(&told.kind)
        };
        let found = self.expected.iter().position(is_it);
        found.map(|at| self.expected.remove(at)).is_some()
    }

    /// Something as new as `zxid` is shown: nothing may be missing.
    pub(super) fn settle(&self, zxid: i64) -> Result<(), String> {
        let missing = self.expected.iter().find(|(due, ..)| *due <= zxid);
        match missing {
            None => Ok(()),
            Some((due, path, kinds)) => Err(format!(
                "zxid {zxid:#x} is shown, but nothing was said of {path} (one of {kinds:?}) after the gap before {due:#x}"
            )),
        }
    }
}
