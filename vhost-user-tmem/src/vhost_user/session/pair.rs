// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A connection to the vhost-user-backend crate in this process. The crate accepts
//! connections itself, so there has to be a socket that it listens on. Nobody else can
//! connect to it: it is in a folder that is open to the daemon alone, and removed from
//! there at once.

use std::env;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};
use vhost::vhost_user::Listener;

/// A listening socket for the crate, with our end waiting there.
pub(in crate::vhost_user) fn pair() -> io::Result<(Listener, UnixStream)> {
    let runtime = env::var_os("RUNTIME_DIRECTORY").unwrap_or_default();
    let runtime: Vec<PathBuf> = env::split_paths(&runtime)
        .filter(|path| path.is_absolute())
        .collect();
    let folders = runtime
        .into_iter()
        .chain([env::temp_dir(), "/dev/shm".into()]);
    let mut outcome = Err(io::ErrorKind::NotFound.into());
    for folder in folders {
        outcome = pair_in(&folder);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn pair_in(parent: &Path) -> io::Result<(Listener, UnixStream)> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let folder = parent.join(format!(".tmem-{:016x}", u64::from_le_bytes(random)));
    DirBuilder::new().mode(0o700).create(&folder)?;
    let path = folder.join("s");
    let made = UnixListener::bind(&path).and_then(|listener| {
        let file = open(
            &path,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok((listener, file))
    });
    // What stays behind would do no harm.
    let _ = std::fs::remove_file(&path);
    let _ = std::fs::remove_dir(&folder);
    let (listener, file) = made?;
    let ours = UnixStream::connect(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    Ok((Listener::from(listener), ours))
}
