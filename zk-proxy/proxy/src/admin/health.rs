//! Whether clients are served: asked, not remembered.

use std::time::Duration;

use oxkeeper_model::Query;
use thiserror::Error;

use crate::service::Service;

/// Why clients are not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unwell {
    #[error("clients cannot connect: the task that accepts them has ended")]
    NotAccepting,
    #[error("the shard does not serve")]
    NotServing,
    #[error("the shard has not answered within {} ms", .0.as_millis())]
    Slow(Duration),
}

/// Has the shard answer a question, in its turn among those of clients. A full queue is no illness: the
/// question waits with those of clients, and is sent when there is room.
pub(crate) async fn ask_shard(service: &Service, within: Duration) -> Result<(), Unwell> {
    match tokio::time::timeout(within, service.query(Query::Barrier)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(Unwell::NotServing),
        Err(_) => Err(Unwell::Slow(within)),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use oxkeeper_link::{Event, Link, LinkError, LinkSink, Opened, Request, Shard, Token};
    use oxkeeper_model::{Answer, Position};
    use oxkeeper_session::SessionOptions;
    use parking_lot::Mutex;

    use super::*;
    use crate::admin::NodeSamples;
    use crate::options::ProxyOptions;

    /// Refuses so many requests as busy, then answers, or is silent, or is gone.
    #[derive(Clone, Copy)]
    enum Then {
        Answers,
        IsSilent,
        IsGone,
    }

    struct FakeLink {
        busy: AtomicUsize,
        then: Then,
        sink: Arc<Mutex<Box<dyn LinkSink>>>,
    }

    impl Link for FakeLink {
        fn send(&self, requests: &mut Vec<Request>) -> Result<(), LinkError> {
            if self.busy.load(Relaxed) > 0 {
                self.busy.fetch_sub(1, Relaxed);
                return Err(LinkError::Busy);
            }
            let tokens: Vec<_> = requests.drain(..).filter_map(token_of).collect();
            match self.then {
                Then::IsGone => return Err(LinkError::Closed),
                Then::IsSilent => {}
                Then::Answers => {
                    let sink = Arc::clone(&self.sink);
                    let answered = |token| Event::Answered {
                        token,
                        query: Query::Barrier,
                        answer: Answer::Barrier,
                    };
                    let mut events = tokens.into_iter().map(answered).collect();
                    std::thread::spawn(move || sink.lock().deliver(&mut events));
                }
            }
            Ok(())
        }
    }

    fn token_of(request: Request) -> Option<Token> {
        match request {
            Request::Command { token, .. } | Request::Query { token, .. } => Some(token),
            Request::Heartbeat { .. } => None,
        }
    }

    struct FakeShard(usize, Then);

    impl Shard for FakeShard {
        fn open(
            &self,
            _: Option<Position>,
            sink: Box<dyn LinkSink>,
        ) -> Result<Arc<dyn Link>, LinkError> {
            let sink = Arc::new(Mutex::new(sink));
            let opened = Event::Opened(Opened {
                position: Position::default(),
                resumed: false,
            });
            let receiver = Arc::clone(&sink);
            std::thread::spawn(move || receiver.lock().deliver(&mut vec![opened]));
            Ok(Arc::new(FakeLink {
                busy: AtomicUsize::new(self.0),
                then: self.1,
                sink,
            }))
        }
    }

    async fn health(busy: usize, then: Then, within: Duration) -> Result<(), Unwell> {
        let options = ProxyOptions {
            client_address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tick_time_ms: 2000,
            max_client_connections: 0,
            max_connections: 0,
            four_letter_words: Vec::new(),
            session: SessionOptions::default(),
            handshake_timeout: Duration::from_secs(1),
            node_samples: NodeSamples::default(),
            data_dir: "/data".into(),
        };
        let shard = Arc::new(FakeShard(busy, then));
        let service = Service::start(options, shard).expect("it opens");
        let ticking = async {
            loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
                service.tick();
            }
        };
        tokio::select! {
            health = ask_shard(&service, within) => health,
            () = ticking => unreachable!("it goes on"),
        }
    }

    #[tokio::test]
    async fn a_shard_is_well_if_it_answers() {
        let patience = Duration::from_secs(60);
        assert_eq!(health(0, Then::Answers, patience).await, Ok(()));
        assert_eq!(health(3, Then::Answers, patience).await, Ok(()));
        let gone = health(0, Then::IsGone, patience).await;
        assert_eq!(gone, Err(Unwell::NotServing));
        let moment = Duration::from_millis(20);
        let silent = health(0, Then::IsSilent, moment).await;
        assert_eq!(silent, Err(Unwell::Slow(moment)));
        let full = health(usize::MAX, Then::Answers, moment).await;
        assert_eq!(full, Err(Unwell::Slow(moment)));
    }
}
