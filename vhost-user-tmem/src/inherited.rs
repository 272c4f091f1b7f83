// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Listening sockets that whoever started the daemon opened for it: by number (`fd=N`), or by
//! name, as the service manager passes those of socket units on.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context, Result, bail, ensure};
use rustix::net::{AddressFamily, sockopt};
use tmem_host::keeper::PREFIX as KEPT;
use tmem_host::listen_fds;
use tmem_host::registry::Name;

use crate::settings::{Machine, Place};

/// What the service manager calls the control socket (`FileDescriptorName=`).
const CONTROL: &str = "control";

/// What it calls a TCP socket on which metrics can be read.
const METRICS: &str = "metrics";

/// What the names of machines' sockets begin with.
const MACHINE: &str = "vm-";

/// What was inherited.
#[derive(Debug, Default)]
pub struct Inherited {
    /// The control socket.
    pub control: Option<UnixListener>,
    /// A TCP socket for metrics.
    pub metrics: Option<TcpListener>,
    /// Sockets of machines.
    pub machines: BTreeMap<Name, UnixListener>,
}

impl Inherited {
    /// Takes over what the service manager passes on, and what `machines` name by number. To be
    /// called once, before the process opens anything itself.
    ///
    /// # Errors
    /// A sentence about the first that cannot be what it is said to be.
    pub fn take(machines: &[Machine]) -> Result<Self> {
        let mut all = Self::default();
        for machine in machines {
            if let Place::Fd(fd) = machine.place {
                all.machines.insert(machine.name.clone(), numbered(fd)?);
            }
        }
        // What is kept for the next daemon is not for here.
        for (name, fd) in listen_fds::take(|name| !name.starts_with(KEPT)) {
            all.add(&name, fd)
                .with_context(|| format!("the service manager passes on a socket '{name}'"))?;
        }
        Ok(all)
    }

    fn add(&mut self, name: &str, fd: OwnedFd) -> Result<()> {
        if name == METRICS {
            let listener = listener(fd, &[AddressFamily::INET, AddressFamily::INET6]).context(
                "it is no listening TCP socket: write ListenStream=127.0.0.1:PORT in its unit",
            )?;
            let is_new = self.metrics.replace(listener).is_none();
            ensure!(is_new, "there are two for the same");
            return Ok(());
        }
        let listener = listener(fd, &[AddressFamily::UNIX]).context(
            "it is no listening Unix stream socket: write ListenStream=/PATH in its unit",
        )?;
        let is_new = if name == CONTROL {
            self.control.replace(listener).is_none()
        } else if let Some(name) = name.strip_prefix(MACHINE) {
            let name = name.parse().map_err(anyhow::Error::msg)?;
            self.machines.insert(name, listener).is_none()
        } else {
            bail!("write FileDescriptorName={CONTROL}, {METRICS} or {MACHINE}NAME in its unit");
        };
        ensure!(is_new, "there are two for the same");
        Ok(())
    }
}

/// Takes over the listening socket inherited as `fd`.
fn numbered(fd: i32) -> Result<UnixListener> {
    ensure!(
        fd > 2,
        "--fd {fd} cannot be a listening socket; give its number, 3 or higher"
    );
    ensure!(
        fs::exists(format!("/proc/self/fd/{fd}")).unwrap_or(false),
        "file descriptor {fd} of --fd is not open; start the daemon with a listening socket as that number"
    );
    let owned = match listen_fds::take_number(fd) {
        Some(passed) => passed,
        // SAFETY: `fd` is open, as was just seen, and nothing else in this process owns it:
        // it was open when the process began, is no standard stream and none that the service
        // manager passes on, machines have different numbers, and this is called before the
        // process opens anything.
        None => unsafe { OwnedFd::from_raw_fd(fd) },
    };
    listener(owned, &[AddressFamily::UNIX]).with_context(|| {
        format!(
            "file descriptor {fd} of --fd is no listening Unix socket; pass one on which listen() was called"
        )
    })
}

fn listener<L: From<OwnedFd>>(fd: OwnedFd, families: &[AddressFamily]) -> Option<L> {
    let family = sockopt::socket_domain(&fd);
    let listens = family.is_ok_and(|family| families.contains(&family))
        && sockopt::socket_type(&fd) == Ok(rustix::net::SocketType::STREAM)
        && sockopt::socket_acceptconn(&fd) == Ok(true);
    let closes = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
    (listens && closes.is_ok()).then(|| fd.into())
}
