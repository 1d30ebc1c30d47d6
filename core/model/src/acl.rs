//! Access control lists and the one function that evaluates them.

use std::net::IpAddr;
use std::sync::Arc;

/// What an operation needs on a record; the bits are ZooKeeper's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    Read = 1,
    Write = 2,
    Create = 4,
    Delete = 8,
    Admin = 16,
}

/// One grant: the permission bits for whoever has the identity `scheme:id`.
/// Bits without a meaning are kept as they came.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AclEntry {
    pub permissions: i32,
    pub scheme: Box<str>,
    pub id: Box<str>,
}

/// A record's list. Interned per shard, so that records with equal lists share one.
pub type Acl = Arc<[AclEntry]>;

/// Something a connection has proved to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    pub scheme: Box<str>,
    pub id: Box<str>,
}

/// All identities of a connection; shared by its requests.
pub type Identities = Arc<[Identity]>;

/// Scheme of the identity that passes every check.
pub const SUPER_SCHEME: &str = "super";

/// Whether one of `identities` has `permission` under `acl`. An empty list is open to all.
pub fn permits(acl: &[AclEntry], identities: &[Identity], permission: Permission) -> bool {
    if acl.is_empty()
        || identities
            .iter()
            .any(|identity| &*identity.scheme == SUPER_SCHEME)
    {
        return true;
    }
    acl.iter()
        .filter(|entry| entry.permissions & permission as i32 != 0)
        .any(|entry| {
            (&*entry.scheme == "world" && &*entry.id == "anyone")
                || identities.iter().any(|identity| grants(entry, identity))
        })
}

fn grants(entry: &AclEntry, identity: &Identity) -> bool {
    if entry.scheme != identity.scheme {
        return false;
    }
    if &*entry.scheme == "ip" {
        return address_in(&identity.id, &entry.id);
    }
    entry.id == identity.id
}

/// Whether `address` lies in `range`, an address with an optional `/bits`.
fn address_in(address: &str, range: &str) -> bool {
    let (network, bits) = match range.split_once('/') {
        Some((network, bits)) => (network, bits.parse::<u32>().ok()),
        None => (range, Some(u32::MAX)),
    };
    let (Ok(address), Ok(network), Some(bits)) =
        (address.parse::<IpAddr>(), network.parse::<IpAddr>(), bits)
    else {
        return false;
    };
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let shift = 32 - bits.min(32);
            u64::from(a.to_bits()) >> shift == u64::from(n.to_bits()) >> shift
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let shift = 128 - bits.min(128);
            shift == 128 || a.to_bits() >> shift == n.to_bits() >> shift
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(permissions: i32, scheme: &str, id: &str) -> AclEntry {
        AclEntry {
            permissions,
            scheme: scheme.into(),
            id: id.into(),
        }
    }

    fn identity(scheme: &str, id: &str) -> Identity {
        Identity {
            scheme: scheme.into(),
            id: id.into(),
        }
    }

    #[test]
    fn an_entry_grants_only_its_bits_to_its_identity() {
        let acl = [entry(1, "world", "anyone"), entry(2, "digest", "bob:x")];
        assert!(permits(&acl, &[], Permission::Read));
        assert!(!permits(&acl, &[], Permission::Write));
        assert!(permits(
            &acl,
            &[identity("digest", "bob:x")],
            Permission::Write
        ));
        assert!(!permits(
            &acl,
            &[identity("digest", "eve:x")],
            Permission::Write
        ));
        assert!(permits(&acl, &[identity("super", "")], Permission::Admin));
        assert!(permits(&[], &[], Permission::Admin));
    }

    #[test]
    fn ip_ranges_compare_the_leading_bits() {
        let acl = [entry(31, "ip", "10.1.0.0/16")];
        assert!(permits(
            &acl,
            &[identity("ip", "10.1.2.3")],
            Permission::Read
        ));
        assert!(!permits(
            &acl,
            &[identity("ip", "10.2.2.3")],
            Permission::Read
        ));
        assert!(address_in("10.1.2.3", "0.0.0.0/0"));
        assert!(address_in("::1", "::/0"));
        assert!(!address_in("::1", "10.0.0.0/8"));
        assert!(!address_in("10.0.0.1", "10.0.0.0/x"));
    }
}
