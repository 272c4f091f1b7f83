// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! An apt of our own in the cache: it knows the suites that it is given and
//! answers which versions there are, without touching the host's apt.

use crate::cache::Cache;
use crate::exec;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// What comes from backports, and nothing else does: a blanket
/// `-t trixie-backports` would bring a rustc that does not match the kernel's.
pub(crate) const PREFERENCES: &str = "\
Package: linux-headers-cloud-amd64 src:qemu src:seabios src:ipxe
Pin: release n=trixie-backports
Pin-Priority: 600
";

/// The two lines of sources.list.
pub(crate) fn sources(mirror: &str) -> [String; 2] {
    ["trixie", "trixie-backports"].map(|suite| source(mirror, suite))
}

/// The line of sources.list for `suite`.
pub(crate) fn source(mirror: &str, suite: &str) -> String {
    format!("deb {mirror} {suite} main")
}

/// apt's lists of some suites.
pub(crate) struct Apt {
    dir: PathBuf,
    suites: String,
}

/// One version of a package.
pub(crate) struct Package {
    fields: String,
}

impl Apt {
    /// Downloads the lists of trixie and trixie-backports from `mirror`.
    pub(crate) fn update(cache: &Cache, mirror: &str) -> Result<Self> {
        let dir = cache.path("apt");
        Self::lists(cache, dir, "trixie and trixie-backports", &sources(mirror))
    }

    /// Downloads the lists of `suite` alone from `mirror`.
    pub(crate) fn update_suite(cache: &Cache, mirror: &str, suite: &str) -> Result<Self> {
        let dir = cache.path("apt").join(suite);
        Self::lists(cache, dir, suite, &[source(mirror, suite)])
    }

    fn lists(cache: &Cache, dir: PathBuf, suites: &str, sources: &[String]) -> Result<Self> {
        let suites = suites.to_string();
        let apt = Self { dir, suites };
        for part in ["lists/partial", "cache/archives/partial", "empty"] {
            let part = apt.dir.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        for (name, text) in [
            ("status", ""),
            ("preferences", PREFERENCES),
            ("sources.list", &(sources.join("\n") + "\n")),
        ] {
            let file = apt.dir.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        let mut update = apt.command("apt-get");
        update.args(["update", "--error-on=any"]);
        exec::logged("package lists", &mut update, &cache.log("apt"), |_| None).with_context(
            || {
                format!(
                    "cannot read {} ({}); is TMEM_MIRROR right, and the network up?",
                    apt.suites,
                    sources.join(", ")
                )
            },
        )?;
        Ok(apt)
    }

    /// The version of `name` that would be installed.
    pub(crate) fn candidate(&self, name: &str) -> Result<Package> {
        let fields =
            exec::output(
                self.command("apt-cache")
                    .args(["show", "--no-all-versions", name]),
            );
        let Ok(fields) = fields else {
            bail!("there is no package {name} in {}", self.suites);
        };
        Ok(Package { fields })
    }

    /// Downloads the source package `name` of trixie in this `version` into the directory `to`.
    pub(crate) fn download_source(
        cache: &Cache,
        mirror: &str,
        (name, version): (&str, &str),
        to: &Path,
    ) -> Result<()> {
        let dir = cache.path("apt").join("sources");
        let line = format!("deb-src {mirror} trixie main");
        let apt = Self::lists(cache, dir, "trixie's sources", &[line])?;
        let mut get = apt.command("apt-get");
        get.args(["source", "--download-only"]);
        get.arg(format!("{name}={version}")).current_dir(to);
        exec::output(&mut get).map(|_| ())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let at = |name: &str| self.dir.join(name).display().to_string();
        for option in [
            format!("Dir::State={}", at("")),
            format!("Dir::State::lists={}", at("lists")),
            format!("Dir::State::status={}", at("status")),
            format!("Dir::Cache={}", at("cache")),
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            format!("Dir::Etc::sourceparts={}", at("empty")),
            format!("Dir::Etc::preferences={}", at("preferences")),
            format!("Dir::Etc::preferencesparts={}", at("empty")),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            // Only package lists: no translations, no icons.
            "Acquire::Languages=none".into(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".into(),
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".into(),
            "APT::Sandbox::User=root".into(),
        ] {
            command.arg("-o").arg(option);
        }
        // A keyring that only the sources of the host name by Signed-By.
        if let Some(keys) = keyring() {
            command
                .arg("-o")
                .arg(format!("Dir::Etc::Trusted={}", keys.display()));
        }
        command.env("LC_ALL", "C");
        command
    }
}

/// The keyring of Debian's archive, where it is not among the host's own.
fn keyring() -> Option<&'static Path> {
    [
        "/usr/share/keyrings/debian-archive-keyring.gpg",
        "/usr/share/keyrings/debian-archive-keyring.pgp",
    ]
    .into_iter()
    .map(Path::new)
    .find(|keys| keys.exists())
}

impl Package {
    /// The field `name`, or a sentence that it is missing.
    pub(crate) fn field(&self, name: &str) -> Result<&str> {
        self.fields
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
            .with_context(|| format!("apt shows no field {name}"))
    }

    /// The version of the source that it was built from, if it was built more often than that
    /// was changed.
    pub(crate) fn source_version(&self) -> Result<&str> {
        let source = self.field("Source").unwrap_or_default();
        let version = source
            .split_once(" (")
            .and_then(|(_, it)| it.strip_suffix(')'));
        version.map_or_else(|| self.field("Version"), Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let package = Package {
            fields: "Package: a\nDepends-Not: c\nDepends: b (= 1)\n".into(),
        };
        assert_eq!(package.field("Depends").unwrap(), "b (= 1)");
        assert!(package.field("Version").is_err());
    }

    #[test]
    fn a_source_has_the_version_of_its_package_unless_it_says_another() {
        for (fields, version) in [
            ("Version: 2\nSource: busybox (1:1.37.0-6)\n", "1:1.37.0-6"),
            ("Version: 2\nSource: busybox\n", "2"),
            ("Version: 2\n", "2"),
        ] {
            let fields = fields.to_string();
            assert_eq!(Package { fields }.source_version().unwrap(), version);
        }
    }
}
