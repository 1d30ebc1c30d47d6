//! Everything that may differ between the two servers, and why. Nothing else may.

/// One permitted difference.
#[derive(Debug)]
pub struct Allowed {
    /// What differs, and how the comparison deals with it.
    pub what: &'static str,
    pub why: &'static str,
}

/// Fields and orders that are renamed or sorted before the comparison.
pub const RENAMED: &[Allowed] = &[
    Allowed {
        what: "session ids: replaced by slot and generation",
        why: "clients only need them unique and not 0; ZooKeeper derives them from the clock",
    },
    Allowed {
        what: "passwords: only length, zero or not, and equality on reattach are compared",
        why: "secret; ZooKeeper's is a function of the id, ours a MAC",
    },
    Allowed {
        what: "ctime, mtime: compared as 'the time of transaction z', one time per zxid",
        why: "wall clocks; that one transaction has one time is checked on each server",
    },
    Allowed {
        what: "zxids: compared as differences from the start of the plan",
        why: "earlier plans and restarts move them",
    },
    Allowed {
        what: "Stat of / and /zookeeper: version, cversion, aversion as differences from the start",
        why: "these nodes outlive a plan",
    },
    Allowed {
        what: "order of children, of ephemerals and of identities: sorted",
        why: "hash order in ZooKeeper; its documentation promises none",
    },
    Allowed {
        what: "order of adjacent digest entries of an ACL with the same permissions: sorted",
        why: "the scheme auth becomes all identities of the connection, in hash order in ZooKeeper",
    },
    Allowed {
        what: "order of events of one session end: sorted within their zxid",
        why: "ZooKeeper deletes a session's ephemerals in hash order",
    },
    Allowed {
        what: "characters beyond U+FFFF in strings: read alike in either encoding",
        why: "Java writes them as two surrogates of three bytes each, which is not UTF-8",
    },
    Allowed {
        what: "bytes behind the header of a multiRead's -5: ignored",
        why: "ZooKeeper sends the results up to the broken one, which no client can read",
    },
    Allowed {
        what: "place of an auth reply among other replies: taken out and compared apart",
        why: "ZooKeeper answers auth from its I/O thread, ahead of the pipeline",
    },
];

/// Requests that are not sent because the real server must not be copied there.
pub const NOT_SENT: &[Allowed] = &[
    Allowed {
        what: "deleteContainer (20) from a client",
        why: "ZooKeeper deletes any node without asking the ACL: a security hole; ours answers -6",
    },
    Allowed {
        what: "createTTL with a non-TTL flag and ttl -1",
        why: "ends the real server's process; ours answers -8",
    },
    Allowed {
        what: "createSession (-10) on a session",
        why: "ZooKeeper sends a second handshake answer in the middle of the stream",
    },
    Allowed {
        what: "reattach with a wrong password while the session is connected",
        why: "ZooKeeper disconnects the owner before it looks at the password",
    },
    Allowed {
        what: "requests pipelined behind a closeSession",
        why: "ZooKeeper answers them with -112 or not at all, as its threads happen to run",
    },
    Allowed {
        what: "writes pipelined behind a setACL",
        why: "ZooKeeper checks them against the old ACL until the setACL happens to be applied",
    },
    Allowed {
        what: "requests before one that ends the connection, in the same batch",
        why: "ZooKeeper's answer to the fatal one may overtake and cut off theirs",
    },
    Allowed {
        what: "null ACL list inside a multi",
        why: "ZooKeeper meets a null pointer there and answers -5 without a zxid, but only if no \
              earlier operation failed",
    },
    Allowed {
        what: "createContainer with an ephemeral flag",
        why: "ZooKeeper makes a container, but treats it as an ephemeral until it is applied",
    },
    Allowed {
        what: "setWatches with a null list behind one that is not empty",
        why: "ZooKeeper sends the events of the first list, then fails",
    },
    Allowed {
        what: "getAllChildrenNumber of the empty path",
        why: "ZooKeeper counts the root itself there, for the path is an alias in its map",
    },
    Allowed {
        what: "2^31 creates below one parent",
        why: "ZooKeeper's sequence counter freezes there; ours goes on",
    },
    Allowed {
        what: "writes below /zookeeper/quota, setACL on /",
        why: "they outlive a plan and would change what later plans see",
    },
    Allowed {
        what: "requests of several sessions in flight at the same time",
        why: "their order is not defined; the load tests cover it",
    },
];
