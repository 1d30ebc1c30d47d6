//! Access control lists and the one function that evaluates them.

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
        return match AddressRange::parse(&entry.id) {
            Some(range) => range.contains(&identity.id),
            None => false,
        };
    }
    entry.id == identity.id
}

/// The id of an entry of scheme `ip`: an address with an optional `/bits`. Numbers are read as ZooKeeper
/// reads them, with leading zeros and signs; an IPv6 address has no IPv4 one in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// With the host bits cleared.
    network: Address,
    mask: u128,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Address {
    V4(u32),
    V6(u128),
}

impl AddressRange {
    /// `None` if it is not one.
    pub fn parse(id: &str) -> Option<Self> {
        let (address, bits) = match id.split_once('/') {
            Some((address, bits)) => (Address::parse(address)?, Some(bits)),
            None => (Address::parse(id)?, None),
        };
        let most = match address {
            Address::V4(_) => 32,
            Address::V6(_) => 128,
        };
        let bits = bits.map_or(Some(most), |bits| number(bits, i64::from(most)))?;
        let mask = u128::MAX.checked_shl(most - bits).unwrap_or(0);
        Some(Self {
            network: address.masked(mask),
            mask,
        })
    }

    pub fn contains(self, address: &str) -> bool {
        Address::parse(address).is_some_and(|address| address.masked(self.mask) == self.network)
    }
}

impl Address {
    fn parse(text: &str) -> Option<Self> {
        match text.contains(':') {
            true => parse_v6(text).map(Self::V6),
            false => parse_v4(text).map(Self::V4),
        }
    }

    fn masked(self, mask: u128) -> Self {
        match self {
            Self::V4(address) => Self::V4(address & mask as u32),
            Self::V6(address) => Self::V6(address & mask),
        }
    }
}

fn parse_v4(text: &str) -> Option<u32> {
    let mut parts = text.split('.');
    let mut address = 0;
    for _ in 0..4 {
        address = address << 8 | number(parts.next()?, 255)?;
    }
    parts.next().is_none().then_some(address)
}

/// Eight groups, or fewer around one `::`.
fn parse_v6(text: &str) -> Option<u128> {
    let groups = |text: &str| -> Option<Vec<u16>> {
        match text {
            "" => Some(Vec::new()),
            text => text.split(':').map(group).collect(),
        }
    };
    let (head, tail) = match text.split_once("::") {
        Some((head, tail)) => (groups(head)?, groups(tail)?),
        None => (groups(text).filter(|groups| groups.len() == 8)?, Vec::new()),
    };
    let zeros = 8_usize.checked_sub(head.len() + tail.len())?;
    if zeros == 0 && text.contains("::") {
        return None;
    }
    let zeros = std::iter::repeat_n(0, zeros);
    let all = head.into_iter().chain(zeros).chain(tail);
    Some(all.fold(0, |address, group| address << 16 | u128::from(group)))
}

/// Up to four hexadecimal digits, or fewer with a sign, of which ZooKeeper takes the low bits.
fn group(text: &str) -> Option<u16> {
    let number = i32::from_str_radix(text, 16).ok()?;
    (text.len() <= 4).then_some(number as u16)
}

/// A number from 0 to `most`, as Java's `Integer.parseInt` reads it.
fn number(text: &str, most: i64) -> Option<u32> {
    let number = text.parse::<i32>().ok().map(i64::from)?;
    (0..=most).contains(&number).then_some(number as u32)
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
    }

    #[test]
    fn addresses_are_read_as_zookeeper_reads_them() {
        let contains = |range: &str, address: &str| {
            AddressRange::parse(range).map(|range| range.contains(address))
        };
        assert_eq!(contains("0.0.0.0/0", "10.1.2.3"), Some(true));
        assert_eq!(contains("010.001.2.3", "10.1.2.3"), Some(true));
        assert_eq!(contains("+10.-0.0.0/08", "10.1.2.3"), Some(true));
        assert_eq!(contains("10.1.2.3/31", "10.1.2.2"), Some(true));
        assert_eq!(contains("10.1.2.3/31", "10.1.2.4"), Some(false));
        assert_eq!(contains("10.0.0.0/0", "::1"), Some(false));
        assert_eq!(contains("::/0", "10.1.2.3"), Some(false));
        assert_eq!(contains("::", "::"), Some(true));
        assert_eq!(contains("2001:DB8::/32", "2001:db8::5"), Some(true));
        assert_eq!(contains("2001:db8::/32", "2001:db9::5"), Some(false));
        assert_eq!(contains("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"), Some(true));
        assert_eq!(contains("+1::2/+128", "1::2"), Some(true));
        assert_eq!(contains("-1::", "ffff::"), Some(true));
        for invalid in [
            "",
            "10",
            "1.2.3",
            "1.2.3.4.",
            "1.2.3.4.5",
            "1.2.3.256",
            "1.2.3.-1",
            "1.2.3.",
            ":::",
            "1::2::3",
            "g::1",
            "[::1]",
            "1:2:3",
            "1:2:3:4:5:6:7:8:9",
            "::1%lo",
            "00001::1",
            "1:",
            "::1.2.3.4",
            "::1/",
            "::1/129",
            "::1/-1",
            "::ffff:1.2.3.4",
            "1.2.3.4/",
            "1.2.3.4/33",
            "1.2.3.4/-1",
            "1.2.3.4/8/8",
            "1.2.3.x",
            " 1.2.3.4",
            "1.2.3.99999999999",
        ] {
            assert_eq!(AddressRange::parse(invalid), None, "{invalid}");
        }
    }
}
