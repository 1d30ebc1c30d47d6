//! ZooKeeper's operation codes and the short names under which `cons` shows them.

use std::fmt;

/// The `type` of a request header; any number can arrive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpCode(pub i32);

macro_rules! operations {
    ($($(#[$doc:meta])* $constant:ident = $value:literal, $name:literal, $short:literal;)*) => {
        impl OpCode {
            $($(#[$doc])* pub const $constant: Self = Self($value);)*

            /// Every operation that a client may send, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$constant),*];

            /// The operation's name in ZooKeeper's protocol.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($name),)*
                    _ => None,
                }
            }

            /// What `cons` shows as a connection's last operation; `NA` for an unknown one.
            pub fn short_name(self) -> &'static str {
                match self.0 {
                    $($value => $short,)*
                    _ => "NA",
                }
            }
        }
    };
}

operations! {
    CREATE = 1, "create", "CREA";
    DELETE = 2, "delete", "DELE";
    EXISTS = 3, "exists", "EXIS";
    GET_DATA = 4, "getData", "GETD";
    SET_DATA = 5, "setData", "SETD";
    GET_ACL = 6, "getACL", "GETA";
    SET_ACL = 7, "setACL", "SETA";
    GET_CHILDREN = 8, "getChildren", "GETC";
    SYNC = 9, "sync", "SYNC";
    PING = 11, "ping", "PING";
    GET_CHILDREN2 = 12, "getChildren2", "GETC";
    /// Only inside a multi; alone it is answered like an unknown operation.
    CHECK = 13, "check", "CHEC";
    MULTI = 14, "multi", "MULT";
    CREATE2 = 15, "create2", "CREA";
    RECONFIG = 16, "reconfig", "RECO";
    CHECK_WATCHES = 17, "checkWatches", "CHKW";
    REMOVE_WATCHES = 18, "removeWatches", "REMW";
    CREATE_CONTAINER = 19, "createContainer", "CREA";
    /// Internal to ZooKeeper's servers; not for clients.
    DELETE_CONTAINER = 20, "deleteContainer", "DELE";
    CREATE_TTL = 21, "createTTL", "CREA";
    MULTI_READ = 22, "multiRead", "MLTR";
    AUTH = 100, "auth", "NA";
    SET_WATCHES = 101, "setWatches", "SETW";
    SASL = 102, "sasl", "NA";
    GET_EPHEMERALS = 103, "getEphemerals", "GETE";
    GET_ALL_CHILDREN_NUMBER = 104, "getAllChildrenNumber", "GETACN";
    SET_WATCHES2 = 105, "setWatches2", "STW2";
    ADD_WATCH = 106, "addWatch", "ADDW";
    WHO_AM_I = 107, "whoAmI", "HOMI";
    /// Internal to ZooKeeper's servers; not for clients.
    CREATE_SESSION = -10, "createSession", "SESS";
    CLOSE_SESSION = -11, "closeSession", "CLOS";
}

impl OpCode {
    /// The `type` of a multi's terminator and of its error results.
    pub const ERROR: Self = Self(-1);
}

impl fmt::Display for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "operation {}", self.0),
        }
    }
}

impl fmt::Debug for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
