// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The loaded module, by its ioctls. The only `unsafe` code of the program.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::ioctl::{Getter, NoArg, Setter, Updater, ioctl};

use crate::uapi::{self, Filter, GivenBack, SharedTarget, Status, Target, VerifiedTarget};

/// Where the kernel says that the module is loaded.
const LOADED: &str = "/sys/module/virtio_tmem";

/// What can be asked of the module; errors are those in `uapi`.
pub(crate) trait Module: Send + Sync + 'static {
    /// Attaches a filter.
    fn attach(&self, target: Target) -> Result<(), Errno>;

    /// Attaches a filter with a share.
    fn attach_shared(&self, target: SharedTarget) -> Result<(), Errno>;

    /// Attaches a filter with a verified share.
    fn attach_verified(&self, target: VerifiedTarget) -> Result<(), Errno>;

    /// Detaches a filter. May take long.
    fn detach(&self, target: Target) -> Result<(), Errno>;

    /// The filter at `position`, counted from 0; `NOENT` beyond the last.
    fn filter(&self, position: u32) -> Result<Filter, Errno>;

    /// The module and its device.
    fn status(&self) -> Result<Status, Errno>;

    /// Begins to give free memory back.
    fn give_back(&self) -> Result<(), Errno>;

    /// Ends it.
    fn keep(&self) -> Result<(), Errno>;

    /// Memory that is given back.
    fn given_back(&self) -> Result<GivenBack, Errno>;

    /// All filters. One that comes or goes meanwhile may be missing.
    ///
    /// # Errors
    /// When the module does not answer.
    fn filters(&self) -> Result<Vec<Filter>> {
        let mut filters = Vec::new();
        for position in 0.. {
            match self.filter(position) {
                Ok(filter) => filters.push(filter),
                Err(Errno::NOENT) => break,
                Err(error) => {
                    return Err(error).context("the module does not say what is attached");
                }
            }
        }
        Ok(filters)
    }
}

/// `/dev/tmem`.
pub(crate) struct Kernel(File);

impl Kernel {
    /// Opens it, and sees to it that the module and this program understand
    /// each other.
    ///
    /// # Errors
    /// A sentence with the way out.
    pub(crate) fn open() -> Result<Self> {
        Self::find()?.with_context(|| {
            let path = path();
            if Path::new(LOADED).exists() {
                format!(
                    "there is no {path}: the loaded module virtio_tmem is older than tmemctl; \
                     install the one that belongs to it"
                )
            } else {
                format!("there is no {path}: the module is not loaded; run `modprobe virtio_tmem`")
            }
        })
    }

    /// As [`Kernel::open`]; none when there is no such device.
    pub(crate) fn find() -> Result<Option<Self>> {
        let path = path();
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) => match error.kind() {
                ErrorKind::NotFound => return Ok(None),
                ErrorKind::PermissionDenied => {
                    bail!("{path} is for root only: run tmemctl as root")
                }
                _ => return Err(error).with_context(|| format!("cannot open {path}")),
            },
        };
        let module = Self(file);
        let foreign = || format!("{path} is not a device of the module virtio_tmem");
        check(&module.status().with_context(foreign)?)?;
        Ok(Some(module))
    }
}

fn path() -> String {
    format!("/dev/{}", uapi::DEVICE_NAME)
}

fn check(status: &Status) -> Result<()> {
    let (theirs, ours) = (status.version, uapi::VERSION);
    if theirs != ours {
        bail!(
            "the module's interface has version {theirs}, that of tmemctl {ours}: install a \
             tmemctl and a module that belong together, and load the module again"
        );
    }
    Ok(())
}

impl Module for Kernel {
    fn attach(&self, target: Target) -> Result<(), Errno> {
        // SAFETY: ATTACH reads as many bytes as its number says, which was
        // made of the array's size.
        let request = unsafe { Setter::<{ uapi::ATTACH }, _>::new(target.encode()) };
        // SAFETY: as above; the module keeps no pointer.
        unsafe { ioctl(&self.0, request) }
    }

    fn attach_shared(&self, target: SharedTarget) -> Result<(), Errno> {
        // SAFETY: ATTACH_SHARED reads as many bytes as its number says, which
        // was made of the array's size.
        let request = unsafe { Setter::<{ uapi::ATTACH_SHARED }, _>::new(target.encode()) };
        // SAFETY: as above; the module keeps no pointer.
        unsafe { ioctl(&self.0, request) }
    }

    fn attach_verified(&self, target: VerifiedTarget) -> Result<(), Errno> {
        // SAFETY: ATTACH_VERIFIED reads as many bytes as its number says, which
        // was made of the array's size.
        let request = unsafe { Setter::<{ uapi::ATTACH_VERIFIED }, _>::new(target.encode()) };
        // SAFETY: as above; the module keeps no pointer.
        unsafe { ioctl(&self.0, request) }
    }

    fn detach(&self, target: Target) -> Result<(), Errno> {
        // SAFETY: DETACH reads as many bytes as its number says, which was
        // made of the array's size.
        let request = unsafe { Setter::<{ uapi::DETACH }, _>::new(target.encode()) };
        // SAFETY: as above; the module keeps no pointer.
        unsafe { ioctl(&self.0, request) }
    }

    fn filter(&self, position: u32) -> Result<Filter, Errno> {
        let mut bytes = Filter {
            position,
            ..Filter::default()
        }
        .encode();
        // SAFETY: GET_FILTER reads and writes as many bytes as its number says,
        // which was made of the array's size. Any bytes are valid in it.
        let request = unsafe { Updater::<{ uapi::GET_FILTER }, _>::new(&mut bytes) };
        // SAFETY: as above; the module keeps no pointer.
        unsafe { ioctl(&self.0, request) }?;
        Ok(Filter::decode(&bytes))
    }

    fn status(&self) -> Result<Status, Errno> {
        // SAFETY: GET_STATUS writes all of the bytes that its number says,
        // which was made of the array's size. Any bytes are valid in it.
        let request = unsafe { Getter::<{ uapi::GET_STATUS }, [u8; Status::SIZE]>::new() };
        // SAFETY: as above; the module keeps no pointer.
        unsafe { ioctl(&self.0, request) }.map(|bytes| Status::decode(&bytes))
    }

    fn give_back(&self) -> Result<(), Errno> {
        // SAFETY: GIVE_BACK has no argument.
        let request = unsafe { NoArg::<{ uapi::GIVE_BACK }>::new() };
        // SAFETY: as above.
        unsafe { ioctl(&self.0, request) }
    }

    fn keep(&self) -> Result<(), Errno> {
        // SAFETY: KEEP has no argument.
        let request = unsafe { NoArg::<{ uapi::KEEP }>::new() };
        // SAFETY: as above.
        unsafe { ioctl(&self.0, request) }
    }

    fn given_back(&self) -> Result<GivenBack, Errno> {
        // SAFETY: GET_GIVEN_BACK writes all of the bytes that its number says,
        // which was made of the array's size. Any bytes are valid in it.
        let request = unsafe { Getter::<{ uapi::GET_GIVEN_BACK }, [u8; GivenBack::SIZE]>::new() };
        // SAFETY: as above; the module keeps no pointer.
        unsafe { ioctl(&self.0, request) }.map(|bytes| GivenBack::decode(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_versions_are_refused() {
        let with = |version| Status {
            version,
            ..Status::default()
        };
        assert!(check(&with(uapi::VERSION)).is_ok());
        let error = check(&with(uapi::VERSION + 1)).unwrap_err().to_string();
        assert!(error.contains("version 2"), "{error}");
        assert!(error.contains("belong together"), "{error}");
    }

    #[test]
    fn a_share_and_its_use_are_read_as_they_are_written() {
        let target = SharedTarget {
            major: 254,
            minor: 16,
            flags: SharedTarget::IMMUTABLE,
            share: std::array::from_fn(|at| u8::try_from(at).unwrap()),
        };
        assert_eq!(SharedTarget::decode(&target.encode()), target);
        let verified = VerifiedTarget {
            shared: target,
            hash_major: 254,
            hash_minor: 32,
            hashes: 8192,
            blocks: u64::MAX - 1,
        };
        assert_eq!(VerifiedTarget::decode(&verified.encode()), verified);
        let filter = Filter {
            known_bytes: u64::MAX,
            share: target.share,
            share_use: 3,
            is_verified: 1,
            nameless: u64::MAX - 2,
            ..Filter::default()
        };
        assert_eq!(Filter::decode(&filter.encode()), filter);
    }

    #[test]
    fn numbers_say_the_size_of_their_argument() {
        let size = |number: u32| usize::try_from(number >> 16 & 0x3fff).unwrap();
        assert_eq!(size(uapi::ATTACH), Target::SIZE);
        assert_eq!(size(uapi::DETACH), Target::SIZE);
        assert_eq!(size(uapi::ATTACH_SHARED), SharedTarget::SIZE);
        assert_eq!(size(uapi::ATTACH_VERIFIED), VerifiedTarget::SIZE);
        assert_eq!(size(uapi::GET_FILTER), Filter::SIZE);
        assert_eq!(size(uapi::GET_STATUS), Status::SIZE);
        assert_eq!(size(uapi::GIVE_BACK), 0);
        assert_eq!(size(uapi::KEEP), 0);
        assert_eq!(size(uapi::GET_GIVEN_BACK), GivenBack::SIZE);
    }
}
