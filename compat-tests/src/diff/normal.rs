//! Turns frames into lines that are equal on two servers that behave alike.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::jute::Reader;
use crate::proto::{
    Acl, MultiResult, Reply, ReplyHeader, Request, Stat, WatchEvent, read_event, read_header,
    read_reply, xid,
};

/// Data longer than this is shown by length and a hash.
const SHOWN_BYTES: usize = 24;

const REPLY_HEADER_BYTES: usize = 16;

/// The names that one server's values get.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Zxid at the start of the plan.
    base_zxid: i64,
    sessions: HashMap<i64, String>,
    /// Time of each transaction, as seen in Stats. Invariant: one time per zxid.
    times: HashMap<i64, i64>,
    /// Stats at the start of nodes that outlive plans.
    lasting: HashMap<String, Stat>,
}

impl Names {
    pub(super) fn new(base_zxid: i64, lasting: HashMap<String, Stat>) -> Self {
        Self {
            base_zxid,
            lasting,
            ..Self::default()
        }
    }

    pub(super) fn name_session(&mut self, id: i64, name: String) {
        self.sessions.insert(id, name);
    }

    pub(super) fn session(&self, id: i64) -> String {
        match self.sessions.get(&id) {
            Some(name) => name.clone(),
            None if id == 0 => "0".to_owned(),
            None => format!("stranger {id:#x}"),
        }
    }

    pub(super) fn zxid(&self, zxid: i64) -> String {
        match zxid {
            -1 | 0 => zxid.to_string(),
            z if z <= self.base_zxid => "old".to_owned(),
            z => format!("+{}", z - self.base_zxid),
        }
    }

    fn time(&mut self, zxid: i64, time: i64) -> &'static str {
        if time == 0 {
            return "0";
        }
        if zxid <= self.base_zxid {
            return "old";
        }
        if *self.times.entry(zxid).or_insert(time) == time {
            "ok"
        } else {
            "OTHER THAN BEFORE FOR THIS ZXID"
        }
    }

    fn stat(&mut self, stat: &Stat, path: Option<&str>) -> String {
        let start = path
            .and_then(|p| self.lasting.get(if p.is_empty() { "/" } else { p }))
            .copied()
            .unwrap_or_default();
        format!(
            "Stat[c {} m {} p {} ct {} mt {} v {} cv {} av {} eph {} len {} ch {}]",
            self.zxid(stat.czxid),
            self.zxid(stat.mzxid),
            self.zxid(stat.pzxid),
            self.time(stat.czxid, stat.ctime),
            self.time(stat.mzxid, stat.mtime),
            stat.version.wrapping_sub(start.version),
            stat.cversion.wrapping_sub(start.cversion),
            stat.aversion.wrapping_sub(start.aversion),
            self.session(stat.ephemeral_owner),
            stat.data_length,
            stat.num_children,
        )
    }

    /// The line for a reply to `request`.
    pub(super) fn reply(
        &mut self,
        header: ReplyHeader,
        reply: &Reply,
        request: &Request,
    ) -> String {
        let mut line = format!(
            "reply xid {} op {} zxid {} err {} ",
            header.xid,
            request.op(),
            self.zxid(header.zxid),
            header.err
        );
        self.body(&mut line, reply, request);
        line
    }

    fn body(&mut self, line: &mut String, reply: &Reply, request: &Request) {
        let path = request_path(request);
        // Writing to a String cannot fail.
        let _ = match reply {
            Reply::Empty | Reply::Error(_) => Ok(()),
            Reply::Path(path) => write!(line, "{path:?}"),
            Reply::PathStat(created, stat) => {
                write!(line, "{created:?} {}", self.stat(stat, Some(created)))
            }
            Reply::Stat(stat) => write!(line, "{}", self.stat(stat, path)),
            Reply::Data(data, stat) => {
                write!(line, "{} {}", show(data.as_deref()), self.stat(stat, path))
            }
            Reply::Acl(acl, stat) => {
                write!(line, "{} {}", show_acl(acl), self.stat(stat, path))
            }
            Reply::Children(names) | Reply::Strings(names) => {
                write!(line, "{:?}", sorted(names))
            }
            Reply::ChildrenStat(names, stat) => {
                write!(line, "{:?} {}", sorted(names), self.stat(stat, path))
            }
            Reply::Int(n) => write!(line, "int {n}"),
            Reply::Identities(ids) => write!(line, "{:?}", sorted(ids)),
            Reply::Raw(bytes) => write!(line, "raw {}", show(Some(bytes))),
            Reply::Multi(results) => {
                self.multi(line, results, request);
                Ok(())
            }
        };
    }

    fn multi(&mut self, line: &mut String, results: &[MultiResult], request: &Request) {
        let ops: &[Request] = match request {
            Request::Multi(ops) | Request::MultiRead(ops) => ops,
            _ => &[],
        };
        for (i, result) in results.iter().enumerate() {
            let _ = write!(line, "{{type {} err {}", result.kind, result.header_err);
            if let Reply::Error(code) = result.reply {
                let _ = write!(line, " code {code}");
            }
            line.push(' ');
            self.body(line, &result.reply, ops.get(i).unwrap_or(request));
            line.push('}');
        }
    }

    fn event(&self, event: &WatchEvent) -> String {
        format!(
            "event zxid {} type {} state {} {:?}",
            self.zxid(event.zxid),
            event.kind,
            event.state,
            event.path
        )
    }
}

/// A frame as the comparison sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Event {
        zxid: i64,
        text: String,
    },
    Reply {
        header: ReplyHeader,
        text: String,
        auth: bool,
    },
}

/// Decodes one frame. `due` gives the request that a reply with this xid answers.
pub(super) fn read_line(
    names: &mut Names,
    frame: &[u8],
    due: impl FnOnce(i32) -> Option<Request>,
) -> Line {
    let mut r = Reader::new(frame);
    let header = match read_header(&mut r) {
        Ok(header) => header,
        Err(e) => return unreadable(frame, &e),
    };
    if header.xid == xid::NOTIFICATION {
        return match read_event(header, &mut r) {
            Ok(event) => Line::Event {
                zxid: event.zxid,
                text: names.event(&event),
            },
            Err(e) => unreadable(frame, &e),
        };
    }
    let Some(request) = due(header.xid) else {
        return unreadable(frame, &"a reply that was not due");
    };
    let text = match read_reply(request.op(), header.err, &mut r) {
        Ok(reply) => names.reply(header, &reply, &request),
        Err(e) => {
            let zxid = names.zxid(header.zxid);
            let body = hex(&frame[REPLY_HEADER_BYTES..]);
            format!(
                "reply xid {} zxid {zxid} err {}: {e}{body}",
                header.xid, header.err
            )
        }
    };
    Line::Reply {
        header,
        text,
        auth: matches!(request, Request::Auth { .. }),
    }
}

fn unreadable(frame: &[u8], why: &dyn std::fmt::Display) -> Line {
    Line::Event {
        zxid: 0,
        text: format!("unreadable frame ({why}){}", hex(frame)),
    }
}

fn hex(frame: &[u8]) -> String {
    frame.iter().take(64).fold(String::from(" "), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn sorted<T: Ord + Clone>(items: &[T]) -> Vec<T> {
    let mut items = items.to_vec();
    items.sort();
    items
}

fn show_acl(acl: &[Acl]) -> String {
    let mut acl = acl.to_vec();
    // One run is what the scheme "auth" became, in no defined order.
    let same_run = |a: &Acl, b: &Acl| {
        a.perms == b.perms && a.scheme == b.scheme && a.scheme.as_deref() == Some("digest")
    };
    for run in acl.chunk_by_mut(same_run) {
        run.sort();
    }
    let part = |s: &Option<String>| s.clone().unwrap_or_else(|| "null".to_owned());
    acl.iter().fold(String::from("acl"), |mut s, a| {
        let _ = write!(s, " {}:{}:{}", part(&a.scheme), part(&a.id), a.perms);
        s
    })
}

fn show(data: Option<&[u8]>) -> String {
    match data {
        None => "null".to_owned(),
        Some(bytes) if bytes.len() <= SHOWN_BYTES => format!("data {:02x?}", bytes),
        Some(bytes) => {
            // FNV-1a: enough to see that two long values differ.
            let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
                (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)
            });
            format!("data {} bytes {hash:016x}", bytes.len())
        }
    }
}

fn request_path(request: &Request) -> Option<&str> {
    match request {
        Request::Exists { path, .. }
        | Request::GetData { path, .. }
        | Request::SetData { path, .. }
        | Request::GetAcl { path }
        | Request::SetAcl { path, .. }
        | Request::GetChildren2 { path, .. } => path.as_deref(),
        _ => None,
    }
}
