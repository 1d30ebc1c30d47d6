//! The links between proxies and the shard.

use oxkeeper_link::{Event as LinkEvent, LinkError, Request};
use oxkeeper_model::CommandOutcome;
use oxkeeper_session::SessionOptions;
use oxkeeper_shard::{Input, LinkId};

use super::{Event, LinkState, Told, World};
use crate::history::Gap;
use crate::proxy::Proxy;

impl World {
    /// A proxy looks for the shard.
    pub(super) fn open_link(&mut self, proxy: usize, incarnation: u64) {
        let host = &mut self.proxies[proxy];
        if host.incarnation != incarnation || host.link.is_some() {
            return;
        }
        let Some(resume_after) = host.proxy.opens_link() else {
            return;
        };
        self.last_link += 1;
        let link = self.last_link;
        host.link = Some(link);
        let state = LinkState {
            proxy,
            proxy_incarnation: incarnation,
            open: false,
            resume_after,
            to_shard_us: 0,
            to_front_us: 0,
        };
        self.links.insert(link, state);
        let wait_us = self.network_us();
        self.schedule.after(wait_us, Event::LinkAtShard { link });
    }

    pub(super) fn link_at_shard(&mut self, link: u64) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let resume_after = state.resume_after;
        if !self.node.is_up() {
            return self.break_link(link);
        }
        let open = Input::Open {
            link: LinkId(link),
            resume_after,
        };
        self.step_node(open);
    }

    pub(super) fn link_gone(&mut self, link: u64) {
        self.step_node(Input::Close { link: LinkId(link) });
    }

    /// Cuts a link: what is on its way is lost, both ends notice sooner or later.
    pub(super) fn break_link(&mut self, link: u64) {
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        self.say(format_args!("link {link} of proxy {} breaks", state.proxy));
        let (shard_us, front_us) = (self.network_us(), self.network_us());
        self.schedule.after(shard_us, Event::LinkGone { link });
        let lost = Event::LinkLost {
            proxy: state.proxy,
            incarnation: state.proxy_incarnation,
        };
        self.schedule.after(front_us, lost);
    }

    /// Everything that a proxy sent goes on its way.
    pub(super) fn send_to_shard(&mut self, proxy: usize, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let at_us = self.now_us() + self.network_us();
        let Some(link) = self.proxies[proxy].link else {
            return;
        };
        if let Some(state) = self.links.get_mut(&link) {
            state.to_shard_us = at_us.max(state.to_shard_us + 1);
            let at_us = state.to_shard_us;
            self.schedule.at(at_us, Event::ToShard { link, requests });
        }
    }

    pub(super) fn send_to_front(&mut self, link: u64, what: Told) {
        let at_us = self.now_us() + self.network_us();
        if let Some(state) = self.links.get_mut(&link) {
            state.to_front_us = at_us.max(state.to_front_us + 1);
            let at_us = state.to_front_us;
            self.schedule.at(at_us, Event::ToFront { link, what });
        }
    }

    pub(super) fn events_to_front(&mut self, link: u64, what: Told) {
        let now = self.now();
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let (proxy, incarnation) = (state.proxy, state.proxy_incarnation);
        match what {
            Told::Events(mut events) => {
                self.sabotage.on_events(&mut events);
                if let Some(LinkEvent::Opened(opened)) = events.first() {
                    self.say(format_args!(
                        "link {link} of proxy {proxy} is open: {opened:?}"
                    ));
                    self.note_gap(proxy, opened);
                }
                self.note_grants(proxy, &events);
                self.proxies[proxy].proxy.deliver(now, &mut events);
            }
            Told::Closed => {
                self.links.remove(&link);
                return self.link_lost(proxy, incarnation);
            }
        }
        self.advance_proxy(proxy);
    }

    fn note_gap(&mut self, proxy: usize, opened: &oxkeeper_link::Opened) {
        let from_zxid = self.proxies[proxy].proxy.position();
        let zxid = oxkeeper_session::zxid(opened.position.revision);
        if opened.resumed {
            self.counters.count("resumes");
        } else if from_zxid > 0 {
            self.counters.count("gaps");
            self.history.gaps.push(Gap {
                at_us: self.schedule.now_us(),
                proxy,
                from_zxid,
                zxid,
            });
        }
    }

    fn note_grants(&mut self, proxy: usize, events: &[LinkEvent]) {
        for event in events {
            if let LinkEvent::Outcome {
                outcome: CommandOutcome::SessionGranted(Ok(grant)),
                ..
            } = event
            {
                let attachment = grant.attachment.0;
                self.grants.insert((proxy, grant.session.0), attachment);
            }
        }
    }

    /// A proxy learns that its link is gone.
    pub(super) fn link_lost(&mut self, proxy: usize, incarnation: u64) {
        if self.proxies[proxy].incarnation != incarnation {
            return;
        }
        self.proxies[proxy].link = None;
        self.proxies[proxy].proxy.link_closed(LinkError::Closed);
        self.advance_proxy(proxy);
        let wait_us = self.random.between(1_000, self.swarm.reopen_us);
        self.schedule
            .after(wait_us, Event::OpenLink { proxy, incarnation });
    }

    /// A proxy that is as new: nothing is left of what it knew.
    pub(super) fn renew_proxy(&mut self, proxy: usize) {
        let host = &mut self.proxies[proxy];
        let connections: Vec<usize> = host.proxy.connections().collect();
        host.incarnation += 1;
        let incarnation = host.incarnation;
        host.proxy = Proxy::new(SessionOptions {
            nonce_seed: self.random.next_u64(),
            ..self.session_options.clone()
        });
        let link = host.link.take();
        for connection in connections {
            self.schedule.after(20, Event::ClientHangsUp { connection });
        }
        if let Some(link) = link.filter(|link| self.links.remove(link).is_some()) {
            self.schedule.after(20, Event::LinkGone { link });
        }
        let wait_us = self.random.between(5_000, 100_000);
        self.schedule
            .after(wait_us, Event::OpenLink { proxy, incarnation });
    }

    pub(super) fn beat(&mut self, proxy: usize) {
        self.schedule
            .after(self.swarm.beat_us, Event::Beat { proxy });
        let now = self.now();
        self.proxies[proxy].proxy.beat(now);
        self.advance_proxy(proxy);
    }
}
