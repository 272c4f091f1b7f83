// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask package`: Debian packages of the programs and of the guest module, made by
//! debhelper in a root of its own.

use crate::exec;
use crate::man;
use crate::programs;
use crate::programs::Profile;
use crate::project;
use crate::roots;
use crate::setup;
use crate::setup::Setup;
use crate::sources;
use anyhow::Context;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

/// Options of `cargo xtask package`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the packages go [default: target/tmem/packages].
    out: Option<PathBuf>,
}

/// Which packages are made, as dpkg-buildpackage says it: all, or those for any architecture,
/// which have no programs of ours.
const ALL: &str = "binary";
const WITHOUT_PROGRAMS: &str = "all";

/// How the package begins that guests without the module have.
const ANY_GUEST: &str = "tmem-any-guest_";

/// `cargo xtask package`.
pub(crate) fn command(options: &Options) -> Result<()> {
    let out = match &options.out {
        Some(out) => out.clone(),
        None => project::made()?.join("packages"),
    };
    for package in make(&setup::ensure(false)?, &out, Profile::Release)? {
        println!("{}", package.display());
    }
    Ok(())
}

/// Makes all packages in the directory `out`; their files.
pub(crate) fn make(setup: &Setup, out: &Path, profile: Profile) -> Result<Vec<PathBuf>> {
    let programs = programs::packaged(profile)?;
    man::command()?;
    build(setup, ALL, &programs, out)
}

/// Makes those that have no programs, in seconds.
pub(crate) fn make_without_programs(setup: &Setup, out: &Path) -> Result<Vec<PathBuf>> {
    build(setup, WITHOUT_PROGRAMS, &[], out)
}

/// Which of the `packages` is for guests without the module.
pub(crate) fn any_guest(packages: &[PathBuf]) -> Result<PathBuf> {
    let is_it = |package: &&PathBuf| {
        let name = package.file_name().unwrap_or_default();
        name.to_string_lossy().starts_with(ANY_GUEST)
    };
    let package = packages.iter().find(is_it).cloned();
    package.with_context(|| format!("there is no {ANY_GUEST}*.deb"))
}

/// Makes the packages of a `kind` in the directory `out`; their files.
fn build(setup: &Setup, kind: &str, programs: &[PathBuf], out: &Path) -> Result<Vec<PathBuf>> {
    let root = roots::packager(&setup.cache, &setup.versions)?;
    let work = project::made()?.join("package");
    if work.exists() {
        fs::remove_dir_all(&work).context("cannot remove what the last run left")?;
    }
    let source = work.join("source");
    stage(&source, programs)?;
    // Nothing is compiled, so that compilers may be missing.
    let script = format!(
        "cd /mnt/source && dpkg-buildpackage --build={kind} --no-sign --no-check-builddeps"
    );
    let log = setup.cache.log("package");
    exec::logged("package", &mut root.script(&work, &script), &log, |line| {
        let made = line.strip_prefix("dpkg-deb: building package ")?;
        made.split('\'').nth(1).map(str::to_string)
    })?;
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut packages = Vec::new();
    for entry in fs::read_dir(&work).context("cannot read what was made")? {
        let made = entry.context("cannot read a directory")?.path();
        if made.extension().is_some_and(|extension| extension == "deb") {
            let package = out.join(made.file_name().unwrap_or_default());
            fs::copy(&made, &package)
                .with_context(|| format!("cannot write {}", package.display()))?;
            packages.push(package);
        }
    }
    packages.sort();
    Ok(packages)
}

/// Puts in place what the packages are made of. What goes with the programs is not there if they
/// are not.
fn stage(source: &Path, programs: &[PathBuf]) -> Result<()> {
    let (root, made) = (project::root(), project::made()?);
    copy_programs(programs, &source.join("bin"))?;
    let of_programs = [
        (made.join("man"), "man"),
        (made.join("completions"), "completions"),
    ];
    let of_programs = of_programs.into_iter().filter(|_| !programs.is_empty());
    for (from, to) in of_programs.chain([
        (root.join("guest"), "guest"),
        (root.join("dist/debian"), "debian"),
        (root.join("dist/any-guest"), "any-guest"),
        (root.join("dist/prometheus"), "prometheus"),
        (root.join("dist/grafana"), "grafana"),
    ]) {
        sources::copy_tree(&from, &sources::files(&from)?, &source.join(to))?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let module = source.join(format!("dkms/usr/src/virtio-tmem-{version}"));
    let guest = root.join("guest");
    sources::copy_tree(&guest, &sources::files(&guest)?, &module)?;
    // debhelper has its own way with this one.
    fs::remove_file(module.join("dkms.conf")).context("cannot remove dkms.conf")?;
    let hook = source.join("debian/kernel-hook");
    for folder in ["postinst.d", "header_postinst.d"] {
        let folder = source.join("hooks/etc/kernel").join(folder);
        fs::create_dir_all(&folder).context("cannot make a folder")?;
        fs::copy(&hook, folder.join("zz-virtio-tmem")).context("cannot copy the kernel's hook")?;
    }
    let changelog = format!(
        "virtio-tmem ({version}) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n \
         -- The virtio-tmem maintainers <maintainers@virtio-tmem.invalid>  \
         Thu, 01 Jan 1970 00:00:00 +0000\n"
    );
    fs::write(source.join("debian/changelog"), changelog).context("cannot write a changelog")
}

fn copy_programs(programs: &[PathBuf], to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for program in programs {
        let copy = to.join(program.file_name().unwrap_or_default());
        fs::copy(program, &copy).with_context(|| format!("cannot copy {}", program.display()))?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&copy, mode).context("cannot make a program executable")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_tmem_cold_has_its_words_and_defaults() {
        let dir = project::root().join("dist/any-guest");
        let script = fs::read_to_string(dir.join("tmem-cold")).unwrap();
        let page = fs::read_to_string(dir.join("tmem-cold.8")).unwrap();
        let mut found = Vec::new();
        for line in script.lines() {
            let is_word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
            // As `COLD=${COLD:-30}` and `on)`.
            if let Some((name, rest)) = line.split_once("=${") {
                let default = rest.strip_prefix(name).unwrap();
                let default = default.strip_prefix(":-").unwrap().trim_end_matches('}');
                found.push(format!("\n.BR {name} \" ({default})\"\n"));
            } else if let Some(word) = line.strip_suffix(')').filter(is_word) {
                found.push(format!("\n.B {word}\n"));
            }
        }
        assert_eq!(found.len(), 6, "{found:?}");
        for words in found {
            assert!(page.contains(&words), "{words}");
        }
    }
}
