// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask lints`: what can be said about the sources without running them.
//!
//! The guest module's are checked as the kernel's are: formatted by rustfmt, and
//! compiled with Clippy and with warnings as errors. Both are those of the
//! compiler that builds the module.

use crate::cache::Cache;
use crate::deny;
use crate::exec;
use crate::headers;
use crate::project;
use crate::roots::Root;
use crate::setup;
use crate::setup::Setup;
use crate::sources;
use crate::versions::Versions;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Raised when the checks change.
const REVISION: u32 = 1;

/// Options of `cargo xtask lints`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Format the guest module's sources instead; `cargo fmt` formats the rest.
    #[arg(long)]
    format: bool,
}

/// `cargo xtask lints`.
pub(crate) fn command(options: &Options) -> Result<()> {
    if options.format {
        return format(&setup::ensure(false)?.build);
    }
    let step = |what: &str| println!("==== {what}");
    is_formatted(&step)?;
    if let Some(left_out) = all(&setup::ensure(false)?, &step)? {
        println!("not checked: {left_out}");
    }
    Ok(())
}

/// Fails unless all but the guest module's sources are formatted. `step` is called before.
pub(crate) fn is_formatted(step: &dyn Fn(&str)) -> Result<()> {
    step("format");
    exec::shown(project::cargo().args(["fmt", "--all", "--check"]))
}

/// All other checks, with `step` called before each. Says what could not be checked.
pub(crate) fn all(setup: &Setup, step: &dyn Fn(&str)) -> Result<Option<String>> {
    step("lints");
    exec::shown(
        project::cargo()
            .args(["clippy", "--workspace", "--all-targets", "--all-features"])
            .args(["--quiet", "--", "--deny", "warnings"]),
    )?;

    step("the device without virtqueues");
    exec::shown(
        project::cargo()
            .args([
                "clippy",
                "--package",
                "virtio-tmem",
                "--no-default-features",
            ])
            .args(["--quiet", "--", "--deny", "warnings"]),
    )?;

    step("format and lints of the guest module");
    guest(&setup.cache, &setup.build, &setup.versions)?;

    step("licences and advisories");
    deny::check(&setup.cache)
}

/// Fails unless the sources are formatted and Clippy finds nothing. What was
/// found good is not looked at again until it changes.
fn guest(cache: &Cache, build: &Root, versions: &Versions) -> Result<()> {
    let sources = sources();
    let files = sources::files(&sources)?;
    let headers = headers::rust_headers(cache, build, versions)?;
    let name = format!(
        "lints-{}-{}-{REVISION}",
        versions.kernel,
        sources::hash(&[headers.as_bytes()], &files)?
    );
    cache.entry(&name, |dir| {
        println!("checking the guest module with rustfmt and Clippy");
        sources::copy_tree(&sources, &files, &dir.join("source"))?;
        let rustfmt = rustfmt("/mnt/source", &sources, &files, "--check");
        let status = build.script(dir, &rustfmt).status();
        if !status.context("cannot start unshare")?.success() {
            bail!("the guest module's sources are not formatted; run: cargo xtask lints --format");
        }
        let script = format!(
            "make -C /mnt/source KVER={} CLIPPY=1 KRUSTFLAGS=-Dwarnings KCFLAGS=-Werror; \
             rm -r /mnt/source",
            versions.kernel
        );
        exec::logged(
            "guest module",
            &mut build.script(dir, &script),
            &cache.log("lints"),
            |_| None,
        )
        .context("Clippy or the compiler finds fault with the guest module")
    })?;
    Ok(())
}

/// Formats the sources in place.
fn format(build: &Root) -> Result<()> {
    let sources = sources();
    let files = sources::files(&sources)?;
    let work = project::made()?.join("format");
    if work.exists() {
        fs::remove_dir_all(&work).context("cannot remove what the last run left")?;
    }
    sources::copy_tree(&sources, &files, &work)?;
    exec::shown(&mut build.script(&work, &rustfmt("/mnt", &sources, &files, "")))?;
    for file in &files {
        let formatted = work.join(file.strip_prefix(&sources).unwrap_or(file));
        let new =
            fs::read(&formatted).with_context(|| format!("cannot read {}", formatted.display()))?;
        let old = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        if new != old {
            println!("{}", file.display());
            fs::write(file, new).with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}

/// The command that formats, or checks, all `files`, which lie in `at`. Each is
/// named: rustfmt does not look into what a macro includes.
fn rustfmt(at: &str, sources: &Path, files: &[PathBuf], option: &str) -> String {
    let mut command = format!("cd {at}; exec rustfmt {option}");
    for file in files {
        if file.extension().is_some_and(|extension| extension == "rs") {
            let name = file.strip_prefix(sources).unwrap_or(file);
            command.push_str(&format!(" {}", name.display()));
        }
    }
    command
}

fn sources() -> PathBuf {
    project::root().join("guest")
}
