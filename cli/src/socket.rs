// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Sockets that are made once, and removed at the end.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType};

/// Clients that may wait to be accepted; the kernel has a bound of its own.
const BACKLOG: i32 = 128;

/// Who may connect.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Group id of the socket; `None`: the process's.
    pub group: Option<u32>,
    /// Mode of the socket.
    pub mode: u32,
}

impl Access {
    /// Nobody but the process's user may connect.
    pub const OWNER_ONLY: Self = Self {
        group: None,
        mode: 0o600,
    };

    /// The members of `group` may connect, too, if there is one; or whoever `mode` lets.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn of(group: Option<&str>, mode: Option<u32>) -> Result<Self> {
        let group = group.map(group_id).transpose()?;
        let default = if group.is_some() { 0o660 } else { 0o600 };
        Ok(Self {
            group,
            mode: mode.unwrap_or(default),
        })
    }
}

/// A listening socket in the file system; dropping it removes the file, if it
/// is still the one that was made.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    file: File,
}

/// The socket's file.
#[derive(Debug)]
struct File {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// Then the next file there may have the same inode.
    is_removed: AtomicBool,
}

impl Drop for File {
    fn drop(&mut self) {
        self.remove();
    }
}

impl File {
    fn remove(&self) {
        if self.is_removed.swap(true, Relaxed) {
            return;
        }
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            // Nobody is left to be told.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl Socket {
    /// Makes a listening socket at `path`. A socket file there on which nobody
    /// listens is replaced.
    ///
    /// # Errors
    /// When somebody listens there, something else is there, or it cannot be
    /// made.
    pub fn bind(path: &Path, access: Access) -> Result<Self> {
        let at = path.display();
        remove_stale(path)?;
        let listener = listen(path).with_context(|| format!("cannot make the socket '{at}'"))?;
        let file = File {
            path: path.to_owned(),
            identity: identity(path)
                .with_context(|| format!("cannot look at the socket '{at}'"))?,
            is_removed: AtomicBool::new(false),
        };
        if let Some(group) = access.group {
            chown(path, None, Some(group))
                .with_context(|| format!("cannot give the socket '{at}' to group {group}"))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(access.mode))
            .with_context(|| format!("cannot set the mode of the socket '{at}'"))?;
        Ok(Self { listener, file })
    }

    /// The listening socket.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Has nobody connect any more, and removes the file.
    pub fn end(&self) {
        // Fails only if it does not listen any more.
        let _ = rustix::net::shutdown(&self.listener, Shutdown::Both);
        self.file.remove();
    }
}

/// A listening socket whose file nobody may open yet. The mode of the file is that of the
/// socket, which is set first: the process's mask would be another one for all threads.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::fs::fchmod(&socket, Mode::empty())?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let listening = rustix::net::listen(&socket, BACKLOG);
    if let Err(error) = listening {
        // Nobody has seen it.
        let _ = fs::remove_file(path);
        return Err(error.into());
    }
    Ok(socket.into())
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Removes a socket file on which nobody listens.
fn remove_stale(path: &Path) -> Result<()> {
    let at = path.display();
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at '{at}'")),
    };
    ensure!(
        metadata.file_type().is_socket(),
        "'{at}' exists and is no socket; remove it or give another path"
    );
    match UnixStream::connect(path) {
        Ok(_) => {
            bail!("somebody listens on '{at}' already; stop that process or give another path")
        }
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot tell whether '{at}' is in use"));
        }
    }
    fs::remove_file(path).with_context(|| format!("cannot remove the left-over socket '{at}'"))
}

/// The id of the group with this name, or of this number.
///
/// # Errors
/// When there is none.
pub fn group_id(group: &str) -> Result<u32> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let groups = fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
    groups
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next()? == group).then(|| fields.nth(1)?.parse().ok())?
        })
        .with_context(|| {
            format!("there is no group '{group}'; give a group of /etc/group or its number")
        })
}
