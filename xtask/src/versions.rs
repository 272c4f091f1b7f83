// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which guest kernel, compiler and QEMU are current. Asked of the mirror
//! once a day; the answer keys everything else in the cache.

use crate::apt::Apt;
use crate::cache::Cache;
use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::time::Duration;
use std::time::SystemTime;

/// How long an answer of the mirror is good for. Backports keeps the last few
/// kernels only, so an old answer names packages that are gone.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// What trixie and trixie-backports offer.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) struct Versions {
    /// Where from.
    pub(crate) mirror: String,
    /// The kernel's release, as `uname -r` says it.
    pub(crate) kernel: String,
    /// The version of the kernel's packages.
    pub(crate) kernel_package: String,
    /// The package with its sources.
    pub(crate) kernel_source: String,
    /// Version of trixie's rustc package.
    pub(crate) rustc: String,
    /// Version of trixie's bindgen package.
    pub(crate) bindgen: String,
    /// Version of QEMU in backports.
    pub(crate) qemu: String,
    /// Version of the source of trixie's busybox.
    pub(crate) busybox: String,
}

impl Versions {
    /// The current versions; asks `mirror` if the last answer is older than a
    /// day or `refresh` is set.
    pub(crate) fn current(cache: &Cache, mirror: &str, refresh: bool) -> Result<Self> {
        remembered(cache, "versions.json", (mirror, refresh), || {
            Self::ask(&Apt::update(cache, mirror)?, mirror)
        })
    }

    fn ask(apt: &Apt, mirror: &str) -> Result<Self> {
        let version = |name: &str| -> Result<String> {
            Ok(apt.candidate(name)?.field("Version")?.to_string())
        };
        let headers = apt.candidate("linux-headers-cloud-amd64")?;
        let kernel = kernel_release(headers.field("Depends")?)?;
        Ok(Self {
            mirror: mirror.to_string(),
            kernel_package: version(&format!("linux-headers-{kernel}"))?,
            kernel_source: source_package(&kernel)?,
            kernel,
            rustc: version("rustc")?,
            bindgen: version("bindgen")?,
            qemu: version("qemu-system-x86")?,
            busybox: apt.candidate("busybox")?.source_version()?.to_string(),
        })
    }
}

/// The answer in the cache's file `name`; asks anew if it is of another `mirror`, older
/// than a day, or `refresh` is set. An old answer is better than none.
pub(crate) fn remembered<T: Answer>(
    cache: &Cache,
    name: &str,
    (mirror, refresh): (&str, bool),
    ask: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let file = cache.path(name);
    let known: Option<T> = fs::read(&file)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .filter(|known: &T| known.mirror() == mirror);
    let age = fs::metadata(&file)
        .and_then(|data| data.modified())
        .ok()
        .and_then(|made| SystemTime::now().duration_since(made).ok());
    let known = match known {
        Some(known) if !refresh && age.is_some_and(|age| age < FRESH) => return Ok(known),
        known => known.filter(|_| !refresh),
    };
    println!("asking {mirror} for current versions (package lists, 10 MB)");
    let fresh = match (ask(), known) {
        (Err(error), Some(known)) => {
            println!("  {error:#}\n  going on with the versions of the last time");
            return Ok(known);
        }
        (fresh, _) => fresh?,
    };
    let text = serde_json::to_vec_pretty(&fresh).context("cannot encode the versions")?;
    let unfinished = file.with_extension("tmp");
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, &file))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(fresh)
}

/// What a mirror has answered.
pub(crate) trait Answer: DeserializeOwned + Serialize {
    /// Which mirror.
    fn mirror(&self) -> &str;
}

impl Answer for Versions {
    fn mirror(&self) -> &str {
        &self.mirror
    }
}

/// The kernel release in the Depends field of the headers' meta package.
fn kernel_release(depends: &str) -> Result<String> {
    release_after("linux-headers-", depends)
}

/// The kernel release in the Depends field of a meta package, in the name of the package
/// that begins with `prefix`.
pub(crate) fn release_after(prefix: &str, depends: &str) -> Result<String> {
    depends
        .split(',')
        .find_map(|dependency| {
            let name = dependency.split_whitespace().next()?;
            name.strip_prefix(prefix)
        })
        .map(str::to_string)
        .with_context(|| format!("the meta package depends on no {prefix}*: {depends}"))
}

/// `linux-source-7.2` for a release that begins with `7.2.`.
fn source_package(kernel: &str) -> Result<String> {
    let mut numbers = kernel.split(['.', '+', '-']);
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => Ok(format!("linux-source-{major}.{minor}")),
        _ => anyhow::bail!("the kernel release {kernel} has no two numbers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meta_package_names_the_kernel() {
        let depends = "linux-base, linux-headers-7.2.12+deb13-cloud-amd64 (= 7.2.12-1~bpo13+1)";
        let kernel = kernel_release(depends).unwrap();
        assert_eq!(kernel, "7.2.12+deb13-cloud-amd64");
        assert_eq!(source_package(&kernel).unwrap(), "linux-source-7.2");
        assert!(kernel_release("linux-base").is_err());
    }

    #[test]
    fn a_release_without_a_patch_level_has_a_source_package() {
        for kernel in ["7.3-cloud-amd64", "7.3-rc7-cloud-amd64", "7.3.0-amd64"] {
            assert_eq!(source_package(kernel).unwrap(), "linux-source-7.3");
        }
        assert!(source_package("cloud").is_err());
    }
}
