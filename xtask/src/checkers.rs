// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `cargo xtask checkers`: the module on a kernel that checks itself, with
//! lockdep, KASAN and others, as a program of User-Mode Linux. See
//! docs/checkers.md.

mod disks;
mod verdict;

use crate::archive::Archive;
use crate::archive::CHARACTER_DEVICE;
use crate::archive::DIRECTORY;
use crate::archive::FILE;
use crate::archive::PROGRAM;
use crate::exec;
use crate::programs;
use crate::programs::Profile;
use crate::project;
use crate::roots;
use crate::setup;
use crate::uml_kernel;
use crate::uml_kernel::Flavour;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

/// RAM of the guest in MiB: the disks in memory, and what KASAN keeps of freed
/// memory.
const MEMORY: &str = "mem=640M";

/// What the host grants.
const QUOTA: &str = "48M";

/// Files of the root that give programs in the guest real content.
const CONTENT: [&str; 2] = ["libstdc++.so.6", "libm.so.6"];

/// For the daemon to listen.
const PROMPT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);

/// Options of `cargo xtask checkers`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Time of each phase; one of them takes twice as long.
    #[arg(long, default_value_t = 40)]
    seconds: u64,
    /// CPUs of the guest.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4))]
    cpus: u32,
    /// From which the random choices follow.
    #[arg(long, default_value_t = 1)]
    seed: u32,
    /// Only these phases, in this order.
    #[arg(long, value_delimiter = ',')]
    phases: Vec<String>,
    /// Look for memory that nothing points to any more; slower.
    #[arg(long)]
    kmemleak: bool,
    /// Parameters of the module.
    #[arg(long, value_delimiter = ',')]
    parameters: Vec<String>,
}

/// `cargo xtask checkers`.
pub(crate) fn command(options: &Options) -> Result<()> {
    let setup = setup::ensure(false)?;
    let root = roots::checkers(&setup.cache, &setup.versions)?;
    let kernel = uml_kernel::make(&setup.cache, &root, &setup.versions, Flavour::Checkers)?;
    let guest = project::root().join("guest");
    let module = kernel.module(&setup.cache, &root, &guest, "module")?;
    let tools = roots::tools(&setup.cache, &setup.versions)?;
    println!("building the daemon and what runs in the guest");
    let daemon = programs::daemon(Profile::Dev)?;
    let initramfs = project::made()?.join("checkers.cpio");
    write_initramfs(&root, &module, &initramfs)?;
    // Others may use the cache meanwhile.
    let program = kernel.program();
    drop(setup);

    let work = project::made()?.join("checkers");
    if work.exists() {
        fs::remove_dir_all(&work).context("cannot remove the last run's disks")?;
    }
    fs::create_dir(&work).context("cannot make a directory for the run")?;
    let socket = work.join("guest.sock");
    let disks = disks::make(&tools, &work)?;
    let _daemon = Daemon::start(&daemon, &socket, &work.join("daemon.log"))?;
    let log = work.join("console.log");
    let mut guest = Command::new(program);
    guest
        // Both are pipes: User-Mode Linux can wait for them, and says so when not.
        .args([MEMORY, "rdinit=/init", "con=null", "con0=fd:2,fd:1"])
        .arg(format!("initrd={}", initramfs.display()))
        // KASAN sees what the slab allocator would look for.
        .arg("slab_debug=-")
        // Free pages are filled, and looked at when they are used again.
        .arg("page_poison=on")
        // A tickless guest with several CPUs may oversleep.
        .arg("nohz=off")
        .arg(format!("kmemleak={}", if options.kmemleak { "on" } else { "off" }))
        // It finds memory that it can run programs in.
        .env_remove("TMPDIR")
        .arg(format!("ncpus={}", options.cpus))
        // How its programs run: under ptrace there is one CPU.
        .args((options.cpus > 1).then_some("seccomp=on"))
        .arg(format!("virtio_uml.device={}:60", socket.display()))
        .args(disks)
        .arg(format!("TMEM_SECONDS={}", options.seconds))
        .arg(format!("TMEM_SEED={}", options.seed))
        .arg(format!("TMEM_PARAMETERS={}", options.parameters.join(",")));
    if !options.phases.is_empty() {
        guest.arg(format!("TMEM_PHASES={}", options.phases.join(",")));
    }
    println!("starting the guest; its console is in {}", log.display());
    let ended = exec::logged("guest", &mut guest, &log, |line| {
        verdict::is_worth_showing(line).then(|| line.trim_end().to_string())
    });
    let console = fs::read(&log).context("cannot read the console's log")?;
    let found = verdict::of(&String::from_utf8_lossy(&console));
    if !found.is_empty() {
        bail!(
            "{} things were found, the first: {}\nThe whole log: {}",
            found.len(),
            found.join("\n"),
            log.display()
        );
    }
    ended?;
    println!("nothing was found");
    Ok(())
}

/// The guest's programs: all are linked statically.
fn write_initramfs(root: &roots::Root, module: &Path, to: &Path) -> Result<()> {
    let mut archive = Archive::default();
    let programs = programs::in_guest()?;
    let load = programs::load()?;
    archive.add("dev/console", CHARACTER_DEVICE, Some((5, 1)), &[])?;
    for name in ["bin", "sbin", "lib"] {
        archive.link(name, &format!("usr/{name}"))?;
    }
    for name in ["proc", "sys", "run", "tmp", "mnt", "usr/sbin"] {
        archive.add(name, DIRECTORY, None, &[])?;
    }
    let init = project::root().join("tests/checkers/init");
    archive.file("init", PROGRAM, &init)?;
    let busybox = root.file("usr/bin/busybox");
    archive.file("usr/bin/busybox", PROGRAM, &busybox)?;
    archive.file("usr/bin/workload", PROGRAM, &programs.agent)?;
    archive.file("usr/bin/tmemctl", PROGRAM, &programs.tmemctl)?;
    archive.file("usr/bin/load", PROGRAM, &load)?;
    archive.file("usr/lib/virtio_tmem.ko", FILE, module)?;
    for name in CONTENT {
        let file = root.file(&format!("usr/lib/x86_64-linux-gnu/{name}"));
        archive.file(&format!("usr/lib/{name}"), FILE, &file)?;
    }
    archive.finish(to)
}

/// A daemon that ends with this.
struct Daemon(Child);

impl Daemon {
    fn start(program: &Path, socket: &Path, log: &Path) -> Result<Self> {
        let output = fs::File::create(log).context("cannot write the daemon's log")?;
        let child = Command::new(program)
            .arg("--socket-path")
            .arg(socket)
            // Enough for swap, less than the guest's disks: pages are evicted.
            .args(["--quota", QUOTA, "--swap-size", "256M"])
            .args(["--memory-limit", "256M", "--grace", "5"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .context("cannot start the daemon")?;
        let mut daemon = Self(child);
        let start = Instant::now();
        while !socket.exists() {
            let ended = daemon.0.try_wait().context("the daemon is lost")?;
            if ended.is_some() || start.elapsed() > PROMPT {
                bail!("the daemon does not start: see {}", log.display());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(daemon)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended with its guest.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
