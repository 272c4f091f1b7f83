// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Debian roots. Two of Debian 13 are part of every setup: one to build the guest module
//! in, which also gives the guest its kernel and programs, and one that QEMU runs out of.

use crate::apt;
use crate::cache::Cache;
use crate::exec;
use crate::versions::Versions;
use anyhow::Context;
use anyhow::Result;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

/// Raised when the list of packages or files below changes.
const BUILD_REVISION: u32 = 3;
const QEMU_REVISION: u32 = 1;
const GUEST_REVISION: u32 = 1;
const TOOLS_REVISION: u32 = 4;
const CHECKERS_REVISION: u32 = 1;
const PYTHON_REVISION: u32 = 1;
const PACKAGER_REVISION: u32 = 1;
const PROMETHEUS_REVISION: u32 = 1;
const VALKEY_REVISION: u32 = 1;
const RECIPES_REVISION: u32 = 1;
const STOCK_REVISION: u32 = 1;

/// Disk space of the two roots, and what is downloaded for them.
pub(crate) const BUILD_SIZE: &str = "1.6 GB on disk, 420 MB download";
pub(crate) const QEMU_SIZE: &str = "0.2 GB on disk, 60 MB download";

const GUEST_SIZE: &str = "0.2 GB on disk, 60 MB download";
const TOOLS_SIZE: &str = "0.1 GB on disk, 20 MB download";
const PYTHON_SIZE: &str = "40 MB on disk, 10 MB download";
const PACKAGER_SIZE: &str = "0.4 GB on disk, 90 MB download";
const PROMETHEUS_SIZE: &str = "0.3 GB on disk, 80 MB download";
const VALKEY_SIZE: &str = "40 MB on disk, 10 MB download";
const RECIPES_SIZE: &str = "0.3 GB on disk, 80 MB download";
const STOCK_SIZE: &str = "0.2 GB on disk, 40 MB download";
const CHECKERS_SIZE: &str = "1.6 GB on disk, 450 MB download";

/// Beside the kernel's packages: compilers, what checks the module's sources,
/// and the guest's programs.
const BUILD_PACKAGES: &[&str] = &[
    "rustc",
    "rust-src",
    "rust-clippy",
    "rustfmt",
    "dkms",
    "bindgen",
    "make",
    "gcc",
    "libc6-dev",
    "kmod",
    "xz-utils",
    "zstd",
    "dpkg-dev",
    "busybox-static",
    "musl-tools",
];

/// qemu-utils brings the storage daemon that the benchmark compares with.
const QEMU_PACKAGES: &[&str] = &["qemu-system-x86", "qemu-utils", "seabios", "ipxe-qemu"];

/// What a small Debian server has beyond the essential packages.
const GUEST_PACKAGES: &[&str] = &["systemd", "systemd-sysv", "udev", "kmod"];

/// What makes file systems and checks them, disks above disks, and trees of hashes.
const TOOLS_PACKAGES: &[&str] = &[
    "e2fsprogs",
    "xfsprogs",
    "btrfs-progs",
    "dmsetup",
    "mdadm",
    "cryptsetup-bin",
];

/// A service in a guest is run by it.
const PYTHON_PACKAGES: &[&str] = &["python3-minimal"];

/// What makes Debian packages.
const PACKAGER_PACKAGES: &[&str] = &["debhelper", "dh-dkms", "dpkg-dev"];

/// What scrapes metrics, and judges rules.
const PROMETHEUS_PACKAGES: &[&str] = &["prometheus"];

/// Remote memory, and what makes clusters of it.
const VALKEY_PACKAGES: &[&str] = &["valkey-server", "valkey-tools"];

/// What starts machines, and what looks at the daemon's answers.
const RECIPES_PACKAGES: &[&str] = &[
    "qemu-system-x86",
    "seabios",
    "ipxe-qemu",
    "libvirt-clients",
    "libvirt-daemon-driver-qemu",
    "systemd",
    "jq",
];

/// What a whole kernel is built with: KASAN and Rust go together with clang only.
const CHECKERS_PACKAGES: &[&str] = &[
    "rustc",
    "rust-src",
    "bindgen",
    "make",
    "gcc",
    "libc6-dev",
    "kmod",
    "xz-utils",
    "flex",
    "bison",
    "bc",
    "clang",
    "lld",
    "llvm",
    "busybox-static",
    "libstdc++6",
];

/// Left out of the build root: nothing here reads documentation, or links
/// against LLVM, or builds anything of Rust's sources but its library.
const LEFT_OUT: &[&str] = &[
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/lib/llvm-*/lib/*.a",
    "path-exclude=/usr/src/rustc-*/*",
    "path-include=/usr/src/rustc-*/library/*",
    "path-include=/usr/src/rustc-*/Cargo.*",
];

/// Variants of mmdebstrap: a system that programs run in, and one that is only
/// unpacked: nothing is configured, nothing runs in a chroot.
const MINIMAL: &str = "minbase";
const UNPACKED: &str = "extract";

/// A directory with a Debian system in it.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    dir: PathBuf,
}

/// The cache's name of the build root.
pub(crate) fn build_name(versions: &Versions) -> String {
    format!(
        "build-{}-{}-rustc-{}-{BUILD_REVISION}",
        versions.kernel, versions.kernel_package, versions.rustc
    )
}

/// The cache's name of QEMU's root.
pub(crate) fn qemu_name(versions: &Versions) -> String {
    let version = versions.qemu.replace(':', "_");
    format!("qemu-{version}-{QEMU_REVISION}")
}

/// The cache's name of the guest's root.
pub(crate) fn guest_name(versions: &Versions) -> String {
    format!("guest-{}-{GUEST_REVISION}", versions.kernel_package)
}

/// The cache's name of the root with the tools for file systems. Debian's
/// stable release fixes them, if at all, without changing what they do.
pub(crate) fn tools_name() -> String {
    format!("tools-trixie-{TOOLS_REVISION}")
}

/// The root to build in, made if it is not there.
pub(crate) fn build(cache: &Cache, versions: &Versions) -> Result<Root> {
    let kernel = &versions.kernel;
    let exact = &versions.kernel_package;
    let mut packages = owned(BUILD_PACKAGES);
    for part in ["headers", "binary", "modules"] {
        packages.push(format!("linux-{part}-{kernel}={exact}"));
    }
    packages.push(format!("{}={exact}", versions.kernel_source));
    let name = build_name(versions);
    make(cache, versions, &name, "build root", MINIMAL, &packages)
}

/// The root that QEMU runs out of, made if it is not there.
pub(crate) fn qemu(cache: &Cache, versions: &Versions) -> Result<Root> {
    let name = qemu_name(versions);
    let packages = owned(QEMU_PACKAGES);
    make(cache, versions, &name, "QEMU root", UNPACKED, &packages)
}

/// A Debian 13 system with systemd, made if it is not there: a guest that is
/// set up as a person's would be.
pub(crate) fn guest(cache: &Cache, versions: &Versions) -> Result<Root> {
    let name = guest_name(versions);
    announce(cache, &name, "a Debian guest with systemd", GUEST_SIZE);
    let packages = owned(GUEST_PACKAGES);
    make(cache, versions, &name, "guest root", MINIMAL, &packages)
}

/// The root that the tools for file systems run out of, made if it is not
/// there.
pub(crate) fn tools(cache: &Cache, versions: &Versions) -> Result<Root> {
    let name = tools_name();
    announce(cache, &name, "tools for file systems", TOOLS_SIZE);
    let packages = owned(TOOLS_PACKAGES);
    make(cache, versions, &name, "tools root", UNPACKED, &packages)
}

/// The cache's name of the root with Python.
pub(crate) fn python_name() -> String {
    format!("python-trixie-{PYTHON_REVISION}")
}

/// The root that a guest's Python is taken out of, made if it is not there.
pub(crate) fn python(cache: &Cache, versions: &Versions) -> Result<Root> {
    let name = python_name();
    announce(cache, &name, "Python for guests", PYTHON_SIZE);
    let packages = owned(PYTHON_PACKAGES);
    make(cache, versions, &name, "Python root", UNPACKED, &packages)
}

/// The cache's name of the root to make Debian packages in.
pub(crate) fn packager_name() -> String {
    format!("packager-trixie-{PACKAGER_REVISION}")
}

/// The root to make Debian packages in, made if it is not there.
pub(crate) fn packager(cache: &Cache, versions: &Versions) -> Result<Root> {
    let name = packager_name();
    announce(
        cache,
        &name,
        "a root to make Debian packages in",
        PACKAGER_SIZE,
    );
    let packages = owned(PACKAGER_PACKAGES);
    make(cache, versions, &name, "packager root", MINIMAL, &packages)
}

/// The cache's name of the root with Prometheus.
pub(crate) fn prometheus_name() -> String {
    format!("prometheus-trixie-{PROMETHEUS_REVISION}")
}

/// The root that Prometheus runs out of, made if it is not there.
pub(crate) fn prometheus(cache: &Cache, versions: &Versions) -> Result<Root> {
    let name = prometheus_name();
    announce(cache, &name, "Prometheus", PROMETHEUS_SIZE);
    let packages = owned(PROMETHEUS_PACKAGES);
    make(
        cache,
        versions,
        &name,
        "Prometheus root",
        UNPACKED,
        &packages,
    )
}

/// The cache's name of the root with Valkey.
pub(crate) fn valkey_name() -> String {
    format!("valkey-trixie-{VALKEY_REVISION}")
}

/// The root that Valkey runs out of, made if it is not there.
pub(crate) fn valkey(cache: &Cache, versions: &Versions) -> Result<Root> {
    let name = valkey_name();
    announce(cache, &name, "Valkey", VALKEY_SIZE);
    let packages = owned(VALKEY_PACKAGES);
    make(cache, versions, &name, "Valkey root", UNPACKED, &packages)
}

/// The cache's name of the root to try recipes in.
pub(crate) fn recipes_name(versions: &Versions) -> String {
    let qemu = versions.qemu.replace(':', "_");
    format!("recipes-trixie-{qemu}-{RECIPES_REVISION}")
}

/// The root to try recipes in, made if it is not there.
pub(crate) fn recipes(cache: &Cache, versions: &Versions) -> Result<Root> {
    let name = recipes_name(versions);
    announce(cache, &name, "a root to try recipes in", RECIPES_SIZE);
    let packages = owned(RECIPES_PACKAGES);
    make(cache, versions, &name, "recipes root", MINIMAL, &packages)
}

/// The cache's name of the root to build the kernel for `checkers` in.
pub(crate) fn checkers_name(versions: &Versions) -> String {
    format!(
        "checkers-root-{}-rustc-{}-{CHECKERS_REVISION}",
        versions.kernel_package, versions.rustc
    )
}

/// That root, made if it is not there.
pub(crate) fn checkers(cache: &Cache, versions: &Versions) -> Result<Root> {
    let mut packages = owned(CHECKERS_PACKAGES);
    packages.push(format!(
        "{}={}",
        versions.kernel_source, versions.kernel_package
    ));
    let name = checkers_name(versions);
    announce(cache, &name, "a root to build kernels in", CHECKERS_SIZE);
    make(cache, versions, &name, "checkers root", MINIMAL, &packages)
}

/// The cache's name of the root with the kernel `package` of `suite`.
pub(crate) fn stock_name(suite: &str, package: &str, version: &str) -> String {
    format!("stock-{suite}-{package}-{version}-{STOCK_REVISION}")
}

/// The root that the kernel `package` of `suite` on `mirror` is unpacked in, made if it is
/// not there.
pub(crate) fn stock(
    cache: &Cache,
    (mirror, suite): (&str, &str),
    package: &str,
    version: &str,
) -> Result<Root> {
    let name = stock_name(suite, package, version);
    announce(cache, &name, "a stock kernel for guests", STOCK_SIZE);
    let sources = [apt::source(mirror, suite)];
    let packages = [format!("{package}={version}")];
    make_of(cache, (suite, &sources), &name, suite, UNPACKED, &packages)
}

fn owned(packages: &[&str]) -> Vec<String> {
    packages.iter().map(|package| (*package).into()).collect()
}

/// Says what is to be made, for roots that are not part of every setup.
fn announce(cache: &Cache, name: &str, what: &str, size: &str) {
    if !cache.has(name) {
        println!("to be made: {what}, {size}: {name}");
    }
}

/// The root with `packages`, made if it is not there; `what` says which, while it
/// is.
fn make(
    cache: &Cache,
    versions: &Versions,
    name: &str,
    what: &str,
    variant: &str,
    packages: &[String],
) -> Result<Root> {
    let sources = apt::sources(&versions.mirror);
    make_of(cache, ("trixie", &sources), name, what, variant, packages)
}

/// The same of another `suite` and its sources.
fn make_of(
    cache: &Cache,
    (suite, sources): (&str, &[String]),
    name: &str,
    what: &str,
    variant: &str,
    packages: &[String],
) -> Result<Root> {
    let dir = cache.entry(name, |dir| {
        let mut make = debootstrap(cache, variant, packages)?;
        if variant == MINIMAL {
            for option in LEFT_OUT {
                make.arg(format!("--dpkgopt={option}"));
            }
        }
        make.arg(suite).arg(dir).args(sources);
        run(&mut make, what, &cache.log(name))
    })?;
    Ok(Root { dir })
}

fn debootstrap(cache: &Cache, variant: &str, packages: &[String]) -> Result<Command> {
    let preferences = cache.path("preferences");
    fs::write(&preferences, apt::PREFERENCES)
        .with_context(|| format!("cannot write {}", preferences.display()))?;
    let mode = if rustix::process::geteuid().is_root() {
        "root"
    } else {
        "unshare"
    };
    let mut make = Command::new("mmdebstrap");
    make.env("LC_ALL", "C")
        .arg(format!("--mode={mode}"))
        .arg("--format=directory")
        .arg("--architectures=amd64")
        .arg(format!("--variant={variant}"))
        .arg(format!("--include={}", packages.join(",")))
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg("--aptopt=Acquire::Languages \"none\"")
        .arg("--aptopt=Acquire::Retries \"3\"")
        .arg(format!(
            "--aptopt=Dir::Etc::preferences \"{}\"",
            preferences.display()
        ));
    Ok(make)
}

fn run(make: &mut Command, label: &str, log: &Path) -> Result<()> {
    let result = exec::logged(label, make, log, |line| {
        line.strip_prefix("I: ")
            .filter(|text| text.ends_with("...") || text.starts_with("success"))
            .map(|text| text.trim_end_matches('.').to_string())
    });
    if result.is_err() && !rustix::process::geteuid().is_root() {
        return result.context(
            "mmdebstrap needs user namespaces and a range in /etc/subuid to make a Debian root \
             as an ordinary user; without them, run `cargo xtask setup` as root",
        );
    }
    result
}

impl Root {
    /// The root's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file of the root, by its path in it.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.dir.join(path.trim_start_matches('/'))
    }

    /// A program of the root, run on the host without chroot: through the
    /// root's own loader and libraries.
    pub(crate) fn program(&self, path: &str) -> Command {
        let (loader, arguments) = self.loaded(path);
        let mut command = Command::new(loader);
        command.args(arguments);
        command
    }

    /// The loader, and its arguments up to the program's own.
    pub(crate) fn loaded(&self, path: &str) -> (PathBuf, Vec<OsString>) {
        let loader = self.file("usr/lib64/ld-linux-x86-64.so.2");
        let libraries = [
            "usr/lib/x86_64-linux-gnu",
            "usr/lib/x86_64-linux-gnu/systemd",
        ]
        .map(|dir| self.file(dir).display().to_string());
        let arguments = vec![
            "--library-path".into(),
            libraries.join(":").into(),
            self.file(path).into(),
        ];
        (loader, arguments)
    }

    /// A shell script run as root inside the root, with /dev and /proc, and
    /// with the host's directory `shared` at /mnt. Mounts are its own and
    /// vanish with it.
    pub(crate) fn script(&self, shared: &Path, script: &str) -> Command {
        self.in_namespace("", shared, script)
    }

    /// As [`Self::script`], and what the script changes in the root vanishes
    /// with it, too.
    pub(crate) fn passing_script(&self, shared: &Path, script: &str) -> Command {
        // An ordinary user may not write the attributes that overlayfs uses by itself.
        let option = if rustix::process::geteuid().is_root() {
            ""
        } else {
            ",userxattr"
        };
        // In the root's own /mnt, which is covered by what is seen afterwards.
        let prepare = format!(
            "over=$1/mnt; mount -t tmpfs none \"$over\"; \
             mkdir \"$over/upper\" \"$over/work\" \"$over/root\"; \
             mount -t overlay -o \"lowerdir=$1,upperdir=$over/upper,workdir=$over/work{option}\" \
             none \"$over/root\"; set -- \"$over/root\" \"$2\" \"$3\"; "
        );
        self.in_namespace(&prepare, shared, script)
    }

    /// Runs `prepare` with mounts of its own, and then the script in `$1`.
    fn in_namespace(&self, prepare: &str, shared: &Path, script: &str) -> Command {
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--map-root-user", "--map-auto"]);
        }
        command
            .args(["--mount", "--propagation", "private", "--", "sh", "-euc"])
            .arg(format!(
                "{prepare}mount --rbind /dev \"$1/dev\"; mount --rbind /proc \"$1/proc\"; \
                 mount --bind \"$2\" \"$1/mnt\"; \
                 exec chroot \"$1\" /bin/sh -euc \"$3\""
            ))
            .arg("sh")
            .arg(&self.dir)
            .arg(shared)
            .arg(script)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8");
        command
    }
}
