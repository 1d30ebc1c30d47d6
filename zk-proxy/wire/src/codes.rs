//! ZooKeeper's error codes; nowhere else in the workspace do these numbers appear.

use std::fmt;

/// An error code of a reply header. Unknown numbers are representable: a client may meet newer servers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(pub i32);

macro_rules! codes {
    ($($(#[$doc:meta])* $constant:ident = $value:literal, $name:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $constant: Self = Self($value);)*

            /// ZooKeeper's name of the code, `None` for one that it does not define.
            pub fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

codes! {
    OK = 0, "Ok";
    SYSTEM_ERROR = -1, "SystemError";
    /// Also marks the operations after the failed one in a failed multi.
    RUNTIME_INCONSISTENCY = -2, "RuntimeInconsistency";
    DATA_INCONSISTENCY = -3, "DataInconsistency";
    /// Made by clients only.
    CONNECTION_LOSS = -4, "ConnectionLoss";
    MARSHALLING_ERROR = -5, "MarshallingError";
    UNIMPLEMENTED = -6, "Unimplemented";
    /// Made by clients only.
    OPERATION_TIMEOUT = -7, "OperationTimeout";
    BAD_ARGUMENTS = -8, "BadArguments";
    UNKNOWN_SESSION = -12, "UnknownSession";
    NEW_CONFIG_NO_QUORUM = -13, "NewConfigNoQuorum";
    RECONFIG_IN_PROGRESS = -14, "ReconfigInProgress";
    /// A threshold: codes below it concern one operation.
    API_ERROR = -100, "APIError";
    NO_NODE = -101, "NoNode";
    NO_AUTH = -102, "NoAuth";
    BAD_VERSION = -103, "BadVersion";
    NO_CHILDREN_FOR_EPHEMERALS = -108, "NoChildrenForEphemerals";
    NODE_EXISTS = -110, "NodeExists";
    NOT_EMPTY = -111, "NotEmpty";
    SESSION_EXPIRED = -112, "SessionExpired";
    INVALID_CALLBACK = -113, "InvalidCallback";
    INVALID_ACL = -114, "InvalidACL";
    AUTH_FAILED = -115, "AuthFailed";
    SESSION_MOVED = -118, "SessionMoved";
    NOT_READ_ONLY = -119, "NotReadOnly";
    EPHEMERAL_ON_LOCAL_SESSION = -120, "EphemeralOnLocalSession";
    NO_WATCHER = -121, "NoWatcher";
    /// Made by clients only.
    REQUEST_TIMEOUT = -122, "RequestTimeout";
    RECONFIG_DISABLED = -123, "ReconfigDisabled";
    SESSION_CLOSED_REQUIRE_SASL_AUTH = -124, "SessionClosedRequireSaslAuth";
    QUOTA_EXCEEDED = -125, "QuotaExceeded";
    THROTTLED_OP = -127, "ThrottledOp";
}

impl ErrorCode {
    pub fn is_ok(self) -> bool {
        self == Self::OK
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({})", self.0),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
