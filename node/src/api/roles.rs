//! What a tenant's token or key may do. Roles only narrow: who has them all opens everything of its tenant, and nothing of another's.

use std::fmt;

/// One of three, as a token names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Change what the tenant's calls do: handlers, versions, prompts, keys of recordings.
    Deploy,
    /// Act on calls and recordings.
    Operate,
    /// See and download.
    Read,
}

impl Role {
    pub(super) const ALL: [Role; 3] = [Role::Deploy, Role::Operate, Role::Read];

    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Deploy => "deploy",
            Role::Operate => "operate",
            Role::Read => "read",
        }
    }

    fn of_name(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles([bool; 3]);

impl Roles {
    pub(super) const ALL: Roles = Roles([true; 3]);

    pub(super) fn have(self, role: Role) -> bool {
        self.0[role as usize]
    }

    /// Names with commas between, as they are stored and asked for. At least one, and none that is unknown.
    pub(super) fn read(text: &str) -> Result<Roles, String> {
        Roles::of(text.split(',').map(str::trim))
    }

    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Result<Roles, String> {
        let mut roles = Roles::default();
        for name in names {
            let role = Role::of_name(name).ok_or_else(|| format!("{name:.64?} is no role: deploy, operate and read are"))?;
            roles.0[role as usize] = true;
        }
        if roles == Roles::default() { Err("must name one role at least".into()) } else { Ok(roles) }
    }

    /// What stays of them where a JWT names some of ours. Roles of other systems say nothing about ours.
    pub(super) fn narrowed(self, claimed: Option<&[String]>) -> Roles {
        let ours: Vec<Role> = claimed.unwrap_or_default().iter().filter_map(|name| Role::of_name(name)).collect();
        let stays = |role: Role| self.have(role) && (ours.is_empty() || ours.contains(&role));
        Roles(Role::ALL.map(stays))
    }

    pub(super) fn names(self) -> Vec<&'static str> {
        Role::ALL.into_iter().filter(|role| self.have(*role)).map(Role::name).collect()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_read_as_they_are_written() {
        for (text, names) in
            [("read", vec!["read"]), ("read, deploy", vec!["deploy", "read"]), ("deploy,operate,read", vec!["deploy", "operate", "read"])]
        {
            let roles = Roles::read(text).expect(text);
            assert_eq!(roles.names(), names);
            assert_eq!(Roles::read(&roles.to_string()), Ok(roles));
        }
        for bad in ["", "all", "read,", "READ", "read;deploy"] {
            assert!(Roles::read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_jwt_narrows_and_never_widens() {
        let claimed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let operates = Roles::read("operate,read").expect("roles");
        assert_eq!(operates.narrowed(None), operates);
        assert_eq!(operates.narrowed(Some(&claimed(&["Calls.AccessMedia.All"]))), operates);
        assert_eq!(operates.narrowed(Some(&claimed(&["read", "x"]))).names(), ["read"]);
        assert_eq!(operates.narrowed(Some(&claimed(&["deploy"]))), Roles::default());
    }
}
