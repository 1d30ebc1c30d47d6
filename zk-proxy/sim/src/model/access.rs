//! Who may do what.

use std::rc::Rc;

use crate::op::Ace;

/// A znode's list: (permissions, scheme, id).
pub type Acl = Rc<[(i32, String, String)]>;

#[derive(Clone, Copy, Debug)]
pub enum Permission {
    Read = 1,
    Write = 2,
    Create = 4,
    Delete = 8,
    Admin = 16,
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    pub session: i64,
    /// Ids of scheme digest that the connection has proved.
    pub digests: Vec<&'static str>,
}

/// The user bob, as lists name him.
pub const BOB: &str = "bob:fyVmFCwVbTJYrznoSu1koqYEYF0=";

/// What a digest's credentials prove: the user, and the SHA-1 of the whole in base64.
pub(super) const CREDENTIALS: [(&str, &str); 2] = [
    ("bob:secret", BOB),
    ("eve:secret", "eve:vcGMCUlWFMiXiG/KAGnEJMiG2ww="),
];

pub(super) fn anyone(permissions: i32) -> Acl {
    Rc::from([(permissions, "world".to_owned(), "anyone".to_owned())])
}

impl Caller {
    pub fn authenticate(&mut self, credentials: &str) {
        let known = CREDENTIALS.iter().find(|(text, _)| *text == credentials);
        if let Some((_, id)) = known
            && !self.digests.contains(id)
        {
            self.digests.push(id);
        }
    }

    pub fn may(&self, acl: &Acl, permission: Permission) -> bool {
        acl.iter()
            .filter(|(permissions, ..)| permissions & permission as i32 != 0)
            .any(|(_, scheme, id)| match scheme.as_str() {
                "world" => id == "anyone",
                "digest" => self.digests.contains(&id.as_str()),
                _ => false,
            })
    }

    /// A list as a client sends it → as it is kept; `None` if it is not valid.
    pub(super) fn normalise(&self, acl: &[Ace]) -> Option<Acl> {
        let mut distinct: Vec<&Ace> = Vec::new();
        for ace in acl {
            if !distinct.contains(&ace) {
                distinct.push(ace);
            }
        }
        let mut kept = Vec::new();
        for ace in distinct {
            let entry = |id: &str| (ace.permissions, id.to_owned());
            match ace.scheme {
                "auth" if self.digests.is_empty() => return None,
                "auth" => {
                    for digest in &self.digests {
                        let (permissions, id) = entry(digest);
                        kept.push((permissions, "digest".to_owned(), id));
                    }
                }
                "world" if ace.id == "anyone" => {
                    let (permissions, id) = entry(ace.id);
                    kept.push((permissions, "world".to_owned(), id));
                }
                "digest" if ace.id.matches(':').count() == 1 => {
                    let (permissions, id) = entry(ace.id);
                    kept.push((permissions, "digest".to_owned(), id));
                }
                _ => return None,
            }
        }
        (!kept.is_empty()).then(|| Rc::from(kept))
    }

    /// The list as getACL shows it: digests are masked unless the caller may administer the znode.
    pub(super) fn shown(&self, acl: &Acl) -> Vec<(i32, String, String)> {
        let admin = self.may(acl, Permission::Admin);
        let masked = |(permissions, scheme, id): &(i32, String, String)| {
            let id = match id.split_once(':') {
                Some((user, _)) if scheme == "digest" && !admin => format!("{user}:x"),
                _ => id.clone(),
            };
            (*permissions, scheme.clone(), id)
        };
        acl.iter().map(masked).collect()
    }
}
