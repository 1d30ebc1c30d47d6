//! The process's files: how many may be open, for every connection is one, and so is every file of the
//! store; and who may read what it writes.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

/// Below this, a warning: 10,000 clients and the store would not fit.
const OPEN_FILES_WANTED: u64 = 16 * 1024;

/// Raises the limit to the most that the system lets this process have.
pub(crate) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(problem) = setrlimit(Resource::Nofile, raised)
    {
        tracing::warn!(%problem, "cannot raise the limit on open files");
    }
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if current < OPEN_FILES_WANTED {
        tracing::warn!(
            open_files_max = current,
            "few files may be open at once, so few clients may connect: raise the hard limit \
             (`ulimit -Hn`, or LimitNOFILE= of a systemd unit)"
        );
    }
}

/// Lets no file or folder that this process makes, in whatever room, be read by others: they hold the
/// secret of session passwords, and all data.
pub(crate) fn keep_private() {
    umask(Mode::RWXG | Mode::RWXO);
}
