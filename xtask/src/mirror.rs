// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The Debian mirror: the one that this machine's apt already uses.

use crate::exec;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::process::Command;

/// Suites by which Debian's archive is known when apt has no Release files.
const DEBIAN: [&str; 7] = [
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldstable",
    "stable",
    "testing",
];

/// `$TMEM_MIRROR`, else the mirror in the host's apt configuration.
pub(crate) fn find() -> Result<String> {
    if let Some(mirror) = std::env::var_os("TMEM_MIRROR").filter(|value| !value.is_empty()) {
        return mirror
            .into_string()
            .ok()
            .context("TMEM_MIRROR is not valid text");
    }
    let with_release = targets(&["--format", "$(REPO_URI)|$(ORIGIN)|$(LABEL)|$(CODENAME)"])?;
    let found = known_by_release(&with_release);
    // Without downloaded lists, as on a fresh machine, only names are known.
    let found = match found {
        Some(mirror) => Some(mirror.to_string()),
        None => {
            let format = ["--no-release-info", "--format", "$(REPO_URI)|$(RELEASE)"];
            known_by_name(&targets(&format)?).map(str::to_string)
        }
    };
    let Some(mirror) = found else {
        bail!(
            "this machine's apt configuration names no Debian mirror; \
             set TMEM_MIRROR to the address of one"
        );
    };
    Ok(mirror)
}

fn targets(arguments: &[&str]) -> Result<String> {
    exec::output(Command::new("apt-get").arg("indextargets").args(arguments))
        .context("cannot read this machine's apt configuration; set TMEM_MIRROR, and use Debian")
}

/// The first mirror whose Release file says that it is Debian's archive.
fn known_by_release(targets: &str) -> Option<&str> {
    targets.lines().find_map(|line| {
        let mut fields = line.split('|');
        let uri = fields.next()?;
        let debian = fields.next() == Some("Debian") && fields.next() == Some("Debian");
        (debian && usable(uri)).then_some(uri)
    })
}

/// The first mirror that carries a suite of Debian's archive.
fn known_by_name(targets: &str) -> Option<&str> {
    targets.lines().find_map(|line| {
        let (uri, suite) = line.split_once('|')?;
        (DEBIAN.contains(&suite) && usable(uri)).then_some(uri)
    })
}

/// A mirror that has all suites: not a disc, nor a local selection.
fn usable(uri: &str) -> bool {
    uri.starts_with("http://") || uri.starts_with("https://") || uri.starts_with("mirror+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_taken_before_security_and_others() {
        let targets = "https://a.example/apt/|Other|Other|bookworm\n\
                       http://b.example/security/|Debian|Debian-Security|bookworm-security\n\
                       cdrom://disc/|Debian|Debian|bookworm\n\
                       http://c.example/debian/|Debian|Debian|bookworm\n";
        assert_eq!(known_by_release(targets), Some("http://c.example/debian/"));
    }

    #[test]
    fn without_lists_the_suite_names_decide() {
        let targets = "https://a.example/apt/|nodistro\n\
                       http://b.example/security/|bookworm-security\n\
                       http://c.example/debian/|bookworm\n";
        assert_eq!(known_by_name(targets), Some("http://c.example/debian/"));
        assert_eq!(known_by_name("http://u.example/ubuntu/|noble\n"), None);
    }
}
