// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What `--disk` says.

use std::path::PathBuf;
use std::str::FromStr;

/// A disk as the command line describes it: a bare path, or
/// `path=PATH[,readonly=on|off][,format=raw]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// The file or block device.
    pub path: PathBuf,
    /// Whether the guest may only read it.
    pub read_only: bool,
    /// Whether it is raw for sure, whatever it looks like.
    pub is_raw: bool,
}

impl FromStr for DiskOptions {
    type Err = String;

    /// Reads the option's value. A bare path is everything that does not begin
    /// with `path=`, so it may contain `=` and `,`.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("path=") else {
            return bare(text);
        };
        let mut parts = rest.split(',');
        let path = parts.next().unwrap_or_default();
        if path.is_empty() {
            return Err("the path of the disk is missing after 'path='".into());
        }
        let (mut read_only, mut is_raw) = (None, None);
        for part in parts {
            let given = match part.split_once('=') {
                Some(("readonly", "on")) => read_only.replace(true),
                Some(("readonly", "off")) => read_only.replace(false),
                Some(("readonly", value)) => {
                    return Err(format!("readonly is on or off, not '{value}'"));
                }
                Some(("format", "raw")) => is_raw.replace(true),
                Some(("format", value)) => {
                    return Err(format!("a disk has format=raw, not '{value}'"));
                }
                _ => {
                    return Err(format!(
                        "'{part}' is no option of a disk; there are readonly=on or off and \
                         format=raw, and a path that contains a comma must be given without \
                         'path='"
                    ));
                }
            };
            if given.is_some() {
                let name = part.split('=').next().unwrap_or_default();
                return Err(format!("{name} is given twice"));
            }
        }
        Ok(Self {
            path: path.into(),
            read_only: read_only.unwrap_or(false),
            is_raw: is_raw.unwrap_or(false),
        })
    }
}

fn bare(path: &str) -> Result<DiskOptions, String> {
    if path.is_empty() {
        return Err("the path of the disk is missing".into());
    }
    // A path could end so, but it is a slip.
    let options = [",readonly=on", ",readonly=off", ",format=raw"];
    if options.iter().any(|option| path.ends_with(option)) {
        return Err(format!("options follow 'path=' only; write 'path={path}'"));
    }
    Ok(DiskOptions {
        path: path.into(),
        read_only: false,
        is_raw: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(path: &str, read_only: bool) -> Result<DiskOptions, String> {
        Ok(DiskOptions {
            path: path.into(),
            read_only,
            is_raw: false,
        })
    }

    #[test]
    fn a_bare_path_is_taken_as_it_is() {
        for path in [
            "debian.raw",
            "a=b",
            "x,y",
            "readonly=on",
            "/dev/sda",
            "./path=x",
        ] {
            assert_eq!(path.parse(), disk(path, false));
        }
    }

    #[test]
    fn options_follow_the_path() {
        assert_eq!("path=a=b.raw".parse(), disk("a=b.raw", false));
        assert_eq!("path=a.raw,readonly=on".parse(), disk("a.raw", true));
        assert_eq!("path=a.raw,readonly=off".parse(), disk("a.raw", false));
        assert_eq!("path=path=,readonly=on".parse(), disk("path=", true));
        let raw = disk("a.raw", true).map(|disk| DiskOptions {
            is_raw: true,
            ..disk
        });
        assert_eq!("path=a.raw,format=raw,readonly=on".parse(), raw);
    }

    #[test]
    fn mistakes_are_told_in_a_sentence() {
        for (text, told) in [
            ("", "is missing"),
            ("path=", "is missing"),
            ("path=,readonly=on", "is missing"),
            ("path=x,readonly=yes", "not 'yes'"),
            ("path=x,readonly", "'readonly' is no option"),
            ("path=x,readonly=on,readonly=off", "twice"),
            ("path=x,format=qcow2", "not 'qcow2'"),
            ("path=x,format=raw,format=raw", "format is given twice"),
            ("x.raw,format=raw", "write 'path=x.raw,format=raw'"),
            ("path=x,y", "must be given without 'path='"),
            ("path=x,", "'' is no option"),
            ("x.raw,readonly=on", "write 'path=x.raw,readonly=on'"),
        ] {
            let error = DiskOptions::from_str(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
