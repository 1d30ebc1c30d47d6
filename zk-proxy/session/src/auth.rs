//! Who a connection is, and access lists as clients write them.
//!
//! A connection collects identities: its address, and what it proved by auth packets. Lists are
//! normalised here before they enter the core: duplicates dropped, `auth` expanded, every scheme
//! and id checked. The core evaluates them ([`oxkeeper_model::permits`]) and knows no scheme but
//! `world`, `ip` and `super`. (ZooKeeper Programmer's Guide, "ZooKeeper access control using ACLs".)

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use oxkeeper_model::{
    Acl, AclEntry, AddressRange, Identities, Identity, Permission, SUPER_SCHEME, permits,
};
use oxkeeper_wire::AclRecord;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use thiserror::Error;

use crate::limits::{IDENTITIES_BYTES_MAX, IDENTITIES_MAX};

/// Why an access list or an auth packet was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum AuthError {
    #[error("invalid access control list")]
    InvalidAcl,
    /// An id or a scheme is null: the request counts as garbled.
    #[error("null in an access control list")]
    NullId,
    #[error("authentication failed")]
    Failed,
    /// With `auth` expanded it takes more room than there is.
    #[error("the access control list is too large")]
    TooLarge,
}

fn identity(scheme: &str, id: &str) -> Identity {
    Identity {
        scheme: scheme.into(),
        id: id.into(),
    }
}

/// What every connection is before it authenticates.
pub(crate) fn identities_of(address: IpAddr, skip_acl: bool) -> Identities {
    let address = identity("ip", &address.to_canonical().to_string());
    if skip_acl {
        return Arc::from([identity(SUPER_SCHEME, ""), address]);
    }
    Arc::from([address])
}

/// The identities after an auth packet.
pub(crate) fn authenticate(
    current: &Identities,
    scheme: Option<&str>,
    auth: Option<&[u8]>,
    super_digest: Option<&str>,
) -> Result<Identities, AuthError> {
    match (scheme, auth) {
        (Some("digest"), Some(auth)) => with_digest(current, auth, super_digest),
        (Some("ip"), _) => Ok(Arc::clone(current)),
        _ => Err(AuthError::Failed),
    }
}

fn with_digest(
    current: &Identities,
    auth: &[u8],
    super_digest: Option<&str>,
) -> Result<Identities, AuthError> {
    let id = digest_id(&String::from_utf8_lossy(auth));
    let mut identities = current.to_vec();
    let is_super =
        super_digest.is_some_and(|expected| bool::from(expected.as_bytes().ct_eq(id.as_bytes())));
    if is_super {
        add(&mut identities, identity(SUPER_SCHEME, ""));
    }
    add(&mut identities, identity("digest", &id));
    if identities.len() > IDENTITIES_MAX || identities_bytes(&identities) > IDENTITIES_BYTES_MAX {
        tracing::info!("refusing an identity: the connection has too many");
        return Err(AuthError::Failed);
    }
    Ok(Arc::from(identities))
}

fn add(identities: &mut Vec<Identity>, identity: Identity) {
    if !identities.contains(&identity) {
        identities.push(identity);
    }
}

/// What the identities take in each write.
pub(crate) fn identities_bytes(identities: &[Identity]) -> usize {
    let bytes =
        |identity: &Identity| ENTRY_OVERHEAD_BYTES + identity.scheme.len() + identity.id.len();
    identities.iter().map(bytes).sum()
}

/// What an identity or an entry of a list takes beside its texts, encoded, at most.
const ENTRY_OVERHEAD_BYTES: usize = 24;

/// `user:password` → `user:<base64 of SHA-1 of the whole>`.
pub(crate) fn digest_id(user_and_password: &str) -> String {
    let user = user_and_password.split(':').next().unwrap_or_default();
    let hash = BASE64.encode(Sha1::digest(user_and_password.as_bytes()));
    format!("{user}:{hash}")
}

/// The list of most records, shared by all of them: whoever may connect may do everything.
static OPEN: LazyLock<Acl> = LazyLock::new(|| anyone(ALL));

/// Permissions of ZooKeeper's `OPEN_ACL_UNSAFE`.
pub(crate) const ALL: i32 = 31;

/// A list that gives everyone the same permissions.
pub(crate) fn anyone(permissions: i32) -> Acl {
    Arc::from([AclEntry {
        permissions,
        scheme: "world".into(),
        id: "anyone".into(),
    }])
}

fn is_open(record: &AclRecord<'_>) -> bool {
    let who = (record.scheme.as_deref(), record.id.as_deref());
    record.permissions == ALL && who == (Some("world"), Some("anyone"))
}

/// A client's list as it is stored. `auth` stands for whatever the connection has authenticated to.
/// What it takes is taken off `room_bytes`.
pub(crate) fn normalise(
    acl: Option<&[AclRecord<'_>]>,
    identities: &[Identity],
    room_bytes: &mut usize,
) -> Result<Acl, AuthError> {
    if let Some([record]) = acl
        && is_open(record)
    {
        return Ok(OPEN.clone());
    }
    let mut seen = Seen::default();
    let mut entries = Entries {
        list: Vec::new(),
        room_bytes,
    };
    let mut distinct = Vec::new();
    for record in acl.unwrap_or_default() {
        if seen.is_new(record)? {
            distinct.push(record);
        }
    }
    for record in distinct {
        entries.expand(record, identities)?;
    }
    if entries.list.is_empty() {
        return Err(AuthError::InvalidAcl);
    }
    Ok(Arc::from(entries.list))
}

/// The distinct entries of a list so far.
#[derive(Default)]
struct Seen<'r> {
    permissions: BTreeSet<i32>,
    /// With the permissions.
    schemes: BTreeSet<(i32, &'r str)>,
    entries: BTreeSet<(i32, &'r str, &'r str)>,
}

impl<'r> Seen<'r> {
    /// Whether no equal entry is there. As in ZooKeeper, a null is found out by comparing it, which
    /// happens only if everything before it in the entry is equal to another's.
    fn is_new(&mut self, record: &'r AclRecord<'_>) -> Result<bool, AuthError> {
        let permissions = record.permissions;
        let is_first = self.permissions.insert(permissions);
        let Some(scheme) = record.scheme.as_deref() else {
            return if is_first {
                Ok(true)
            } else {
                Err(AuthError::NullId)
            };
        };
        let is_first = self.schemes.insert((permissions, scheme));
        let Some(id) = record.id.as_deref() else {
            return if is_first {
                Ok(true)
            } else {
                Err(AuthError::NullId)
            };
        };
        Ok(self.entries.insert((permissions, scheme, id)))
    }
}

struct Entries<'a> {
    list: Vec<AclEntry>,
    room_bytes: &'a mut usize,
}

impl Entries<'_> {
    fn expand(&mut self, record: &AclRecord<'_>, identities: &[Identity]) -> Result<(), AuthError> {
        let scheme = record.scheme.as_deref().ok_or(AuthError::InvalidAcl)?;
        if scheme == "auth" {
            let before = self.list.len();
            for identity in identities.iter().filter(|one| is_authenticated(one)) {
                self.push(record.permissions, &identity.scheme, &identity.id)?;
            }
            let found = self.list.len() > before;
            return if found {
                Ok(())
            } else {
                Err(AuthError::InvalidAcl)
            };
        }
        if !matches!(scheme, "world" | "ip" | "digest") {
            return Err(AuthError::InvalidAcl);
        }
        let id = record.id.as_deref().ok_or(AuthError::NullId)?;
        let valid = match scheme {
            "world" => id == "anyone",
            "ip" => AddressRange::parse(id).is_some(),
            _ => is_digest(id),
        };
        if !valid {
            return Err(AuthError::InvalidAcl);
        }
        self.push(record.permissions, scheme, id)
    }

    fn push(&mut self, permissions: i32, scheme: &str, id: &str) -> Result<(), AuthError> {
        let bytes = ENTRY_OVERHEAD_BYTES + scheme.len() + id.len();
        let left = self.room_bytes.checked_sub(bytes);
        *self.room_bytes = left.ok_or(AuthError::TooLarge)?;
        self.list.push(AclEntry {
            permissions,
            scheme: scheme.into(),
            id: id.into(),
        });
        Ok(())
    }
}

/// `user:hash`; colons at the end do not count, as Java splits.
fn is_digest(id: &str) -> bool {
    id.trim_end_matches(':').split(':').count() == 2
}

/// Whether an identity was proved, which an address is not.
fn is_authenticated(identity: &Identity) -> bool {
    matches!(&*identity.scheme, "digest" | "sasl" | "x509")
}

/// The list as `getACL` shows it: digests are masked for whoever may not administer the record.
pub(crate) fn visible(acl: &Acl, identities: &[Identity]) -> Acl {
    if permits(acl, identities, Permission::Admin) {
        return Arc::clone(acl);
    }
    acl.iter()
        .map(|entry| match entry.id.split_once(':') {
            Some((user, _)) if &*entry.scheme == "digest" => AclEntry {
                id: format!("{user}:x").into(),
                ..entry.clone()
            },
            _ => entry.clone(),
        })
        .collect()
}

/// An identity's name for `whoAmI`: a digest's user, an address, nothing for the super user.
pub(crate) fn user_of(identity: &Identity) -> &str {
    match &*identity.scheme {
        "digest" => identity.id.split(':').next().unwrap_or_default(),
        _ => &identity.id,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn record<'a>(permissions: i32, scheme: &'a str, id: &'a str) -> AclRecord<'a> {
        AclRecord {
            permissions,
            scheme: Some(scheme.into()),
            id: Some(id.into()),
        }
    }

    fn local() -> Identities {
        identities_of(IpAddr::V4(Ipv4Addr::LOCALHOST), false)
    }

    #[test]
    fn a_digest_is_the_hash_of_user_and_password() {
        assert_eq!(
            digest_id("user1:12345"),
            "user1:+owfoSBn/am19roBPzR1/MfCblE="
        );
    }

    #[test]
    fn identities_accumulate_without_duplicates() {
        let once = authenticate(&local(), Some("digest"), Some(b"a:b"), None).expect("digest");
        let twice = authenticate(&once, Some("digest"), Some(b"a:b"), None).expect("digest");
        let both = authenticate(&twice, Some("digest"), Some(b"c:d"), None).expect("digest");
        assert_eq!((once.len(), twice.len(), both.len()), (2, 2, 3));
    }

    #[test]
    fn the_super_digest_adds_the_super_identity() {
        let expected = digest_id("super:secret");
        let right = authenticate(
            &local(),
            Some("digest"),
            Some(b"super:secret"),
            Some(&expected),
        )
        .expect("digest");
        let wrong = authenticate(
            &local(),
            Some("digest"),
            Some(b"super:guess"),
            Some(&expected),
        )
        .expect("digest");
        assert!(
            right
                .iter()
                .any(|identity| &*identity.scheme == SUPER_SCHEME)
        );
        assert!(
            !wrong
                .iter()
                .any(|identity| &*identity.scheme == SUPER_SCHEME)
        );
    }

    #[test]
    fn unknown_schemes_and_world_cannot_authenticate() {
        for scheme in [Some("world"), Some("kerberos"), None] {
            assert_eq!(
                authenticate(&local(), scheme, Some(b"x"), None),
                Err(AuthError::Failed)
            );
        }
        assert_eq!(
            authenticate(&local(), Some("digest"), None, None),
            Err(AuthError::Failed)
        );
        assert_eq!(
            authenticate(&local(), Some("ip"), Some(b""), None),
            Ok(local())
        );
    }

    #[test]
    fn lists_are_normalised_or_refused() {
        let me = authenticate(&local(), Some("digest"), Some(b"a:b"), None).expect("digest");
        let twice = [record(31, "world", "anyone"), record(31, "world", "anyone")];
        assert_eq!(
            normalise(Some(&twice), &me, &mut room())
                .expect("valid")
                .len(),
            1
        );

        let auth = normalise(Some(&[record(31, "auth", "")]), &me, &mut room()).expect("valid");
        assert_eq!(&*auth[0].scheme, "digest");
        assert_eq!(
            normalise(Some(&[record(31, "auth", "")]), &local(), &mut room()),
            Err(AuthError::InvalidAcl)
        );

        for (scheme, id) in [
            ("world", "everyone"),
            ("super", ""),
            ("digest", "a"),
            ("digest", "bob:"),
            ("digest", ":"),
            ("ip", "::1.2.3.4"),
            ("ip", "10.0.0.1/-1"),
            ("digest", "a:b:c"),
            ("ip", "10.0.0.1/33"),
            ("ip", "host"),
            ("nonsense", "x"),
        ] {
            let list = [record(31, scheme, id)];
            assert_eq!(
                normalise(Some(&list), &me, &mut room()),
                Err(AuthError::InvalidAcl),
                "{scheme}:{id}"
            );
        }
        assert_eq!(
            normalise(None, &me, &mut room()),
            Err(AuthError::InvalidAcl)
        );
        assert_eq!(
            normalise(Some(&[]), &me, &mut room()),
            Err(AuthError::InvalidAcl)
        );
        let null = AclRecord {
            permissions: 31,
            scheme: Some("world".into()),
            id: None,
        };
        assert_eq!(
            normalise(Some(&[null]), &me, &mut room()),
            Err(AuthError::NullId)
        );
    }

    #[test]
    fn identities_are_limited_in_number_and_in_bytes() {
        let mut identities = local();
        for count in 1..IDENTITIES_MAX {
            let auth = format!("{count}:x");
            let more = authenticate(&identities, Some("digest"), Some(auth.as_bytes()), None);
            identities = match more {
                Ok(more) => more,
                Err(_) => break,
            };
            assert!(identities_bytes(&identities) <= IDENTITIES_BYTES_MAX);
        }
        assert!(identities.len() > 300, "ZooKeeper's clients may have many");
        let one_more = authenticate(&identities, Some("digest"), Some(b"one:more"), None);
        assert_eq!(one_more, Err(AuthError::Failed));
        let again = authenticate(&identities, Some("digest"), Some(b"1:x"), None);
        assert_eq!(again, Ok(identities), "it has that one already");
        let long = vec![b'u'; IDENTITIES_BYTES_MAX];
        let long = authenticate(&local(), Some("digest"), Some(&long), None);
        assert_eq!(long, Err(AuthError::Failed));
    }

    #[test]
    fn what_auth_expands_to_must_fit() {
        let me = authenticate(&local(), Some("digest"), Some(b"a:b"), None).expect("digest");
        let list = [record(1, "auth", ""), record(2, "auth", "")];
        let mut room = 100;
        let one = normalise(Some(&list[..1]), &me, &mut room).expect("there is room");
        assert_eq!((one.len(), room), (1, 40));
        let both = normalise(Some(&list), &me, &mut 100);
        assert_eq!(both, Err(AuthError::TooLarge));
    }

    #[test]
    fn a_list_of_a_hundred_thousand_entries_is_normalised_at_once() {
        let ids: Vec<_> = (0..100_000).map(|id| format!("user{id}:hash")).collect();
        let list: Vec<_> = ids.iter().map(|id| record(1, "digest", id)).collect();
        let twice: Vec<_> = list.iter().chain(&list).cloned().collect();
        let acl = normalise(Some(&twice), &local(), &mut usize::MAX.clone()).expect("valid");
        assert_eq!(acl.len(), list.len());
    }

    fn room() -> usize {
        1 << 20
    }

    #[test]
    fn digests_are_masked_without_admin() {
        let acl: Acl = Arc::from([AclEntry {
            permissions: 1,
            scheme: "digest".into(),
            id: "bob:hash".into(),
        }]);
        assert_eq!(&*visible(&acl, &local())[0].id, "bob:x");
        assert_eq!(
            &*visible(&acl, &[identity(SUPER_SCHEME, "")])[0].id,
            "bob:hash"
        );
    }
}
