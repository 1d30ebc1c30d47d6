//! The one screen that a server prints when it serves: where, on what, and what to try next.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Where the server is, once it is there.
#[derive(Clone, Debug)]
pub(crate) struct Screen {
    pub(crate) client: SocketAddr,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) data_dir: PathBuf,
    pub(crate) shards: u32,
}

impl Screen {
    /// Prints it from a thread of its own: whoever should read standard output may never do so.
    pub(crate) fn print(&self) {
        let text = self.text();
        // A server that has no thread, or whose output nobody reads, serves all the same.
        let _ = std::thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || io::stdout().write_all(text.as_bytes()));
    }

    fn text(&self) -> String {
        let connect = reachable(self.client);
        let mut screen = format!("oxkeeper {} serves\n\n", env!("CARGO_PKG_VERSION"));
        let mut line = |what: &str, text: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(screen, "  {what:<10} {text}");
        };
        line("clients", format!("{} (ZooKeeper's protocol)", self.client));
        if let Some(http) = self.http {
            let page = reachable(http);
            line("metrics", format!("http://{page}/metrics"));
            line("health", format!("http://{page}/health"));
        }
        let shards = if self.shards == 1 { "shard" } else { "shards" };
        line(
            "data",
            format!("{} ({} {shards})", self.data_dir.display(), self.shards),
        );
        line("stop", "Ctrl-C, or SIGTERM; it drains first".to_owned());
        let _ = write!(
            screen,
            "\nTry it with a client of the Debian packages zookeeper and zookeeper-bin:\n\
             \x20 /usr/share/zookeeper/bin/zkCli.sh -server {connect}\n\
             \x20 /usr/lib/zookeeper/bin/cli_mt {connect}\n\n",
        );
        screen
    }
}

/// An address that a client on this machine can connect to: listening on all is no place to go.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_says_where_everything_is_and_fits() {
        let screen = Screen {
            client: "0.0.0.0:2181".parse().unwrap(),
            http: Some("[::]:8080".parse().unwrap()),
            data_dir: "/data".into(),
            shards: 2,
        };
        let screen = screen.text();
        for part in [
            "0.0.0.0:2181",
            "http://[::1]:8080/metrics",
            "/data (2 shards)",
            "-server 127.0.0.1:2181",
            "cli_mt 127.0.0.1:2181",
            "Ctrl-C",
        ] {
            assert!(screen.contains(part), "{part} is missing in:\n{screen}");
        }
        assert!(screen.lines().count() <= 24);
    }
}
