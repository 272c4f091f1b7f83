// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who is at the other end of a control socket.

use std::io;
use std::os::fd::AsFd;

use rustix::net::sockopt;

use super::Response;

mod groups;

/// The user and the groups of a process, as they were when it connected. The kernel says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Ids of its other groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// That of a connected socket.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn of(stream: &impl AsFd) -> io::Result<Self> {
        let credentials = sockopt::socket_peercred(stream)?;
        Ok(Self {
            uid: credentials.uid.as_raw(),
            gid: credentials.gid.as_raw(),
            groups: groups::of(stream.as_fd())?,
        })
    }
}

/// Who may use a control socket: root, a user, and the members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    uid: u32,
    group: Option<u32>,
}

impl Guard {
    /// For root and the user of this process.
    pub fn own() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            group: None,
        }
    }

    /// And for the members of `group`, if there is one.
    #[must_use]
    pub fn and_group(self, group: Option<u32>) -> Self {
        Self { group, ..self }
    }

    /// Whether `peer` may.
    pub fn admits(&self, peer: &Peer) -> bool {
        let is_member = |group| peer.gid == group || peer.groups.contains(&group);
        peer.uid == 0 || peer.uid == self.uid || self.group.is_some_and(is_member)
    }

    /// Judges who is at the other end.
    ///
    /// # Errors
    /// The answer to one who may not.
    pub(super) fn judge(&self, stream: &impl AsFd) -> Result<(), Response> {
        let refused = match Peer::of(stream) {
            Ok(peer) if self.admits(&peer) => return Ok(()),
            Ok(peer) => format!(
                "user {} may not use this socket; root, the program's own user and members of its control group may",
                peer.uid
            ),
            Err(error) => format!("the kernel does not say who you are: {error}"),
        };
        Err(Response::error(403, &refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn root_the_own_user_and_the_group_are_let_in() {
        let peer = |uid, gid, groups: &[u32]| Peer {
            uid,
            gid,
            groups: groups.to_vec(),
        };
        let guard = Guard {
            uid: 1000,
            group: Some(50),
        };
        for (peer, may) in [
            (peer(0, 0, &[]), true),
            (peer(1000, 1, &[]), true),
            (peer(1001, 50, &[]), true),
            (peer(1001, 1, &[7, 50]), true),
            (peer(1001, 1, &[7]), false),
            (peer(u32::MAX, 0, &[0]), false),
        ] {
            assert_eq!(guard.admits(&peer), may, "{peer:?}");
        }
        let alone = guard.and_group(None);
        assert!(!alone.admits(&peer(1001, 50, &[50])));
    }

    #[test]
    fn the_kernel_says_who_is_there() {
        let (one, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
        let groups: Vec<_> = rustix::process::getgroups().unwrap();
        let groups: Vec<_> = groups.iter().map(|group| group.as_raw()).collect();
        assert_eq!(peer.groups, groups);
        assert!(Guard::own().admits(&peer));
    }
}
