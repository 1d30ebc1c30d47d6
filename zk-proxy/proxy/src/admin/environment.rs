//! `envi`: what this process runs in, under the names of Java's properties. kazoo and others read the
//! server's version from here.

use std::path::PathBuf;

use rustix::process::geteuid;
use rustix::system::uname;

use super::four_letter::VERSION;

/// What ZooKeeper prints of a property that is not set; there is no JVM.
const NOT_SET: &str = "<NA>";

pub(super) fn text() -> String {
    let user = User::of_this_process();
    let memory = Memory::of_this_machine();
    let temp_dir = std::env::temp_dir();
    let dir = std::env::current_dir().unwrap_or_default();
    let uname = uname();
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={}\njava.version={NOT_SET}\n\
         java.vendor={NOT_SET}\njava.home={NOT_SET}\njava.class.path={NOT_SET}\n\
         java.library.path={NOT_SET}\njava.io.tmpdir={}\njava.compiler={NOT_SET}\nos.name={}\n\
         os.arch={}\nos.version={}\nuser.name={}\nuser.home={}\nuser.dir={}\n\
         os.memory.free={}MB\nos.memory.max={}MB\nos.memory.total={}MB\n",
        uname.nodename().to_string_lossy(),
        temp_dir.display(),
        uname.sysname().to_string_lossy(),
        java_arch(),
        uname.release().to_string_lossy(),
        user.name,
        user.home.display(),
        dir.display(),
        memory.available_mb,
        memory.total_mb,
        memory.total_mb,
    )
}

/// Java's name of the processor.
fn java_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    }
}

struct User {
    name: String,
    home: PathBuf,
}

impl User {
    /// By the system's list of users, as Java looks them up; not by variables that anyone may set.
    fn of_this_process() -> Self {
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let id = geteuid().as_raw().to_string();
        Self::find(&users, &id).unwrap_or_else(|| Self {
            name: "?".to_owned(),
            home: "?".into(),
        })
    }

    fn find(users: &str, id: &str) -> Option<Self> {
        users.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            let is_it = fields.nth(1) == Some(id);
            let home = fields.nth(2)?.into();
            is_it.then_some(Self { name, home })
        })
    }
}

/// Of the machine, since there is no heap of a JVM. 0 where the system does not tell.
struct Memory {
    available_mb: u64,
    total_mb: u64,
}

impl Memory {
    fn of_this_machine() -> Self {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let mb = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            kib.unwrap_or(0) / 1024
        };
        Self {
            available_mb: mb("MemAvailable:"),
            total_mb: mb("MemTotal:"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_id() {
        let users = "root:x:0:0:root:/root:/bin/bash\nbin:x:2:2::/bin:/usr/sbin/nologin\nodd\n";
        let bin = User::find(users, "2").expect("listed");
        assert_eq!(
            (bin.name.as_str(), bin.home.to_str()),
            ("bin", Some("/bin"))
        );
        assert!(User::find(users, "7").is_none());
    }
}
