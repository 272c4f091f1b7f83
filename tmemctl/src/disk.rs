// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Block devices: their numbers, and their names for people.

use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use rustix::fs::{FileType, major, minor, stat};

use crate::share::ShareId;
use crate::uapi::{Filter, Kind, SharedTarget, Target};

/// Where the kernel describes itself.
pub(crate) const SYS: &str = "/sys";

/// The number of a block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    /// Which driver.
    pub(crate) major: u32,
    /// Which device of it.
    pub(crate) minor: u32,
}

impl Number {
    /// The device as the module takes it.
    pub(crate) fn target(self, kind: Kind) -> Target {
        Target {
            major: self.major,
            minor: self.minor,
            kind: kind as u32,
        }
    }

    /// The same, with a share. With `is_immutable` nobody writes to it, even if that is possible.
    pub(crate) fn shared_target(self, share: ShareId, is_immutable: bool) -> SharedTarget {
        SharedTarget {
            major: self.major,
            minor: self.minor,
            flags: if is_immutable {
                SharedTarget::IMMUTABLE
            } else {
                0
            },
            share: share.0,
        }
    }

    /// The device that a filter is on.
    pub(crate) fn of(filter: &Filter) -> Self {
        Self {
            major: filter.major,
            minor: filter.minor,
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for Number {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once(':').ok_or(())?;
        Ok(Self {
            major: major.parse().map_err(|_| ())?,
            minor: minor.parse().map_err(|_| ())?,
        })
    }
}

/// The block device at `path`.
///
/// # Errors
/// A sentence that says what is there instead.
pub(crate) fn at(path: &str) -> Result<Number> {
    let found = match stat(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("there is no {path}"),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {path}")),
    };
    if FileType::from_raw_mode(found.st_mode) != FileType::BlockDevice {
        bail!("{path} is not a block device; name one, as /dev/vda1");
    }
    Ok(Number {
        major: major(found.st_rdev),
        minor: minor(found.st_rdev),
    })
}

/// The block device that a person names by its path or, if it need not be
/// there any more, by its number.
///
/// # Errors
/// As for [`at`].
pub(crate) fn named(name: &str) -> Result<Number> {
    name.parse().or_else(|()| at(name))
}

/// The name of a device below /dev, as the kernel's `sys` has it, or its number
/// when it is gone.
pub(crate) fn name(sys: &Path, number: Number) -> String {
    let dir = sys.join("dev/block").join(number.to_string());
    // What device-mapper's devices are called by people.
    if let Ok(name) = fs::read_to_string(dir.join("dm/name")) {
        return format!("/dev/mapper/{}", name.trim_end());
    }
    fs::read_to_string(dir.join("uevent"))
        .ok()
        .and_then(|text| {
            let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="));
            name.map(|name| format!("/dev/{name}"))
        })
        .unwrap_or_else(|| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_are_written() {
        let number = Number {
            major: 254,
            minor: 1,
        };
        assert_eq!("254:1".parse(), Ok(number));
        assert_eq!(number.to_string(), "254:1");
        for text in ["", "254", "254:", ":1", "a:b", "254:1:2", "/dev/vda"] {
            assert_eq!(text.parse::<Number>(), Err(()), "{text}");
        }
    }

    #[test]
    fn what_is_no_block_device_is_called_so() {
        for path in ["/dev/null", "/"] {
            let error = at(path).unwrap_err().to_string();
            assert!(error.contains("is not a block device"), "{error}");
        }
        let error = at("/dev/no such").unwrap_err().to_string();
        assert_eq!(error, "there is no /dev/no such");
    }

    #[test]
    fn devices_go_by_their_names_or_else_by_their_numbers() {
        let sys = tempfile::tempdir().unwrap();
        let make = |number: &str, file: &str, text: &str| {
            let file = sys.path().join("dev/block").join(number).join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        make(
            "254:1",
            "uevent",
            "MAJOR=254\nMINOR=1\nDEVNAME=vda1\nDEVTYPE=partition\n",
        );
        make("253:0", "uevent", "DEVNAME=dm-0\n");
        make("253:0", "dm/name", "vg-root\n");
        let called = |text: &str| name(sys.path(), text.parse().unwrap());
        assert_eq!(called("254:1"), "/dev/vda1");
        assert_eq!(called("253:0"), "/dev/mapper/vg-root");
        assert_eq!(called("8:1"), "8:1");
    }
}
