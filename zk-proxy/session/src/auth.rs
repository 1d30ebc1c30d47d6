//! Who a connection is, and access lists as clients write them.
//!
//! A connection collects identities: its address, and what it proved by auth packets. Lists are
//! normalised here before they enter the core: duplicates dropped, `auth` expanded, every scheme
//! and id checked. The core evaluates them ([`oxkeeper_model::permits`]) and knows no scheme but
//! `world`, `ip` and `super`. (ZooKeeper Programmer's Guide, "ZooKeeper access control using ACLs".)

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use oxkeeper_model::{Acl, AclEntry, Identities, Identity, Permission, SUPER_SCHEME, permits};
use oxkeeper_wire::AclRecord;
use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use thiserror::Error;

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
        (Some("digest"), Some(auth)) => Ok(with_digest(current, auth, super_digest)),
        (Some("ip"), _) => Ok(Arc::clone(current)),
        _ => Err(AuthError::Failed),
    }
}

fn with_digest(current: &Identities, auth: &[u8], super_digest: Option<&str>) -> Identities {
    let id = digest_id(&String::from_utf8_lossy(auth));
    let mut identities = current.to_vec();
    let is_super =
        super_digest.is_some_and(|expected| bool::from(expected.as_bytes().ct_eq(id.as_bytes())));
    if is_super {
        add(&mut identities, identity(SUPER_SCHEME, ""));
    }
    add(&mut identities, identity("digest", &id));
    Arc::from(identities)
}

fn add(identities: &mut Vec<Identity>, identity: Identity) {
    if !identities.contains(&identity) {
        identities.push(identity);
    }
}

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
pub(crate) fn normalise(
    acl: Option<&[AclRecord<'_>]>,
    identities: &[Identity],
) -> Result<Acl, AuthError> {
    if let Some([record]) = acl
        && is_open(record)
    {
        return Ok(OPEN.clone());
    }
    let mut distinct: Vec<&AclRecord<'_>> = Vec::new();
    for record in acl.unwrap_or_default() {
        if !is_repeated(record, &distinct)? {
            distinct.push(record);
        }
    }
    let mut entries = Vec::with_capacity(distinct.len());
    for record in distinct {
        expand(record, identities, &mut entries)?;
    }
    if entries.is_empty() {
        return Err(AuthError::InvalidAcl);
    }
    Ok(Arc::from(entries))
}

/// Whether an equal entry is there already. As in ZooKeeper, a null is found out by comparing it,
/// which happens only if everything before it in the entry is equal.
fn is_repeated(record: &AclRecord<'_>, earlier: &[&AclRecord<'_>]) -> Result<bool, AuthError> {
    for other in earlier {
        if record.permissions != other.permissions {
            continue;
        }
        let scheme = record.scheme.as_deref().ok_or(AuthError::NullId)?;
        if other.scheme.as_deref() != Some(scheme) {
            continue;
        }
        let id = record.id.as_deref().ok_or(AuthError::NullId)?;
        if other.id.as_deref() == Some(id) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn expand(
    record: &AclRecord<'_>,
    identities: &[Identity],
    entries: &mut Vec<AclEntry>,
) -> Result<(), AuthError> {
    let scheme = record.scheme.as_deref().ok_or(AuthError::InvalidAcl)?;
    let entry = |scheme: &str, id: &str| AclEntry {
        permissions: record.permissions,
        scheme: scheme.into(),
        id: id.into(),
    };
    if scheme == "auth" {
        let before = entries.len();
        let authenticated = identities
            .iter()
            .filter(|identity| is_authenticated(identity));
        entries.extend(authenticated.map(|identity| entry(&identity.scheme, &identity.id)));
        return if entries.len() == before {
            Err(AuthError::InvalidAcl)
        } else {
            Ok(())
        };
    }
    if !matches!(scheme, "world" | "ip" | "digest") {
        return Err(AuthError::InvalidAcl);
    }
    let id = record.id.as_deref().ok_or(AuthError::NullId)?;
    let valid = match scheme {
        "world" => id == "anyone",
        "ip" => is_address_range(id),
        _ => id.split(':').count() == 2,
    };
    if !valid {
        return Err(AuthError::InvalidAcl);
    }
    entries.push(entry(scheme, id));
    Ok(())
}

/// Whether an identity was proved, which an address is not.
fn is_authenticated(identity: &Identity) -> bool {
    matches!(&*identity.scheme, "digest" | "sasl" | "x509")
}

fn is_address_range(id: &str) -> bool {
    let (address, bits) = id.split_once('/').map_or((id, None), |(a, b)| (a, Some(b)));
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u32>().is_ok_and(|bits| bits <= most))
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
        assert_eq!(normalise(Some(&twice), &me).expect("valid").len(), 1);

        let auth = normalise(Some(&[record(31, "auth", "")]), &me).expect("valid");
        assert_eq!(&*auth[0].scheme, "digest");
        assert_eq!(
            normalise(Some(&[record(31, "auth", "")]), &local()),
            Err(AuthError::InvalidAcl)
        );

        for (scheme, id) in [
            ("world", "everyone"),
            ("super", ""),
            ("digest", "a"),
            ("digest", "a:b:c"),
            ("ip", "10.0.0.1/33"),
            ("ip", "host"),
            ("nonsense", "x"),
        ] {
            let list = [record(31, scheme, id)];
            assert_eq!(
                normalise(Some(&list), &me),
                Err(AuthError::InvalidAcl),
                "{scheme}:{id}"
            );
        }
        assert_eq!(normalise(None, &me), Err(AuthError::InvalidAcl));
        assert_eq!(normalise(Some(&[]), &me), Err(AuthError::InvalidAcl));
        let null = AclRecord {
            permissions: 31,
            scheme: Some("world".into()),
            id: None,
        };
        assert_eq!(normalise(Some(&[null]), &me), Err(AuthError::NullId));
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
