//! Sessions that were heard of, until their shard has been told.

use std::collections::BTreeMap;

use oxkeeper_model::SessionId;

use crate::link::{Request, SessionBeat};

/// The last beat of each session, since the last flush and of the flush before. The latter is
/// repeated on a new link: nobody knows whether it arrived.
#[derive(Debug, Default)]
pub(super) struct Beats {
    fresh: BTreeMap<SessionId, SessionBeat>,
    sent: BTreeMap<SessionId, SessionBeat>,
}

impl Beats {
    pub(super) fn heard(&mut self, beat: SessionBeat) {
        self.fresh.insert(beat.session, beat);
    }

    /// One request for all that were heard of since the last time.
    pub(super) fn flush(&mut self) -> Option<Request> {
        if self.fresh.is_empty() {
            return None;
        }
        self.sent = std::mem::take(&mut self.fresh);
        Some(request(&self.sent))
    }

    pub(super) fn repeat(&mut self) -> Option<Request> {
        self.sent.append(&mut self.fresh);
        (!self.sent.is_empty()).then(|| request(&self.sent))
    }
}

fn request(beats: &BTreeMap<SessionId, SessionBeat>) -> Request {
    Request::Heartbeat {
        beats: beats.values().copied().collect(),
    }
}
