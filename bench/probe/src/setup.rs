// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a guest needs before there is anything to measure.

use anyhow::{Context as _, Result, bail};
use rustix::mount::{MountFlags, mount};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// For a device to appear.
const APPEARS: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);

/// Where readers of files are, as far as their memory goes.
const READERS: &str = "/cgroup/readers";

/// What is reclaimed at a time, in bytes: half of what a filter has copies of at most. The host takes
/// that within the pause that follows.
const RECLAIM: u64 = 1 << 20;

/// What the kernel shows, and where.
const MOUNTS: [(&str, &str); 6] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("configfs", "/config"),
    ("tmpfs", "/run"),
    ("cgroup2", "/cgroup"),
];

/// Mounts what the kernel shows.
///
/// # Errors
/// When it shows too little.
pub fn mount_all() -> Result<()> {
    for (kind, at) in MOUNTS {
        fs::create_dir_all(at).with_context(|| format!("cannot make {at}"))?;
        match mount(kind, at, kind, MountFlags::empty(), None) {
            // The kernel mounts devices by itself, if it is built so.
            Ok(()) | Err(rustix::io::Errno::BUSY) => {}
            // Not every kernel has it. What needs it says so.
            Err(_) if kind == "configfs" || kind == "cgroup2" => {}
            Err(why) => return Err(why).with_context(|| format!("cannot mount {at}")),
        }
    }
    Ok(())
}

/// Loads a module, and waits for the device that comes with it.
///
/// # Errors
/// When the kernel refuses it, and when the device does not appear.
pub fn insert(module: &Path, parameters: &str, device: Option<&Path>) -> Result<()> {
    let file = File::open(module).with_context(|| format!("cannot open {}", module.display()))?;
    let parameters = std::ffi::CString::new(parameters).context("parameters of a module")?;
    rustix::system::finit_module(&file, &parameters, 0)
        .with_context(|| format!("cannot load {}", module.display()))?;
    device.map_or(Ok(()), appear)
}

/// Waits for a device.
fn appear(device: &Path) -> Result<()> {
    let start = Instant::now();
    while !device.exists() {
        if start.elapsed() > APPEARS {
            bail!("no {} appears", device.display());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Makes `/dev/zram0` of so many MiB, with LZ4.
///
/// # Errors
/// When there is no zram.
pub fn zram(mib: u64) -> Result<()> {
    let zram = Path::new("/sys/block/zram0");
    set(&zram.join("comp_algorithm"), "lz4")?;
    set(&zram.join("disksize"), &format!("{mib}M"))
}

/// Makes a disk in memory that answers after a time.
///
/// # Errors
/// When the kernel has no null_blk.
pub fn slow_disk(name: &str, mib: u64, nanoseconds: u64) -> Result<()> {
    let disk = Path::new("/config/nullb").join(name);
    fs::create_dir(&disk).context("cannot make a disk of null_blk")?;
    for (setting, value) in [
        ("size", mib),
        ("memory_backed", 1),
        ("blocksize", 4096),
        // Many requests at once, each answered by a timer of its own.
        ("queue_mode", 2),
        ("hw_queue_depth", 128),
        ("irqmode", if nanoseconds == 0 { 0 } else { 2 }),
        ("completion_nsec", nanoseconds),
        ("power", 1),
    ] {
        set(&disk.join(setting), &value.to_string())?;
    }
    Ok(())
}

/// Copies a disk onto another.
///
/// # Errors
/// When one of them fails.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let named = || format!("cannot copy {} to {}", from.display(), to.display());
    appear(to)?;
    let mut source = File::open(from).with_context(named)?;
    let mut target = OpenOptions::new()
        .write(true)
        .open(to)
        .with_context(named)?;
    io::copy(&mut source, &mut target).with_context(named)?;
    target.sync_all().with_context(named)
}

/// Mounts a file system of ext4 that is read only.
///
/// # Errors
/// When there is none.
pub fn mount_files(disk: &Path, at: &Path) -> Result<()> {
    fs::create_dir_all(at).with_context(|| format!("cannot make {}", at.display()))?;
    let flags = MountFlags::NOATIME | MountFlags::RDONLY;
    mount(disk, at, "ext4", flags, None).with_context(|| format!("cannot mount {}", disk.display()))
}

/// Runs a program, and gives back what it wrote to standard output.
///
/// # Errors
/// When it fails; with what it said.
pub fn run(words: &[String]) -> Result<String> {
    let (program, arguments) = words.split_first().context("no program")?;
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}", words.join(" "), said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} writes no text"))
}

/// What is in a file.
///
/// # Errors
/// When it cannot be read.
pub fn show(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Makes this program one whose memory for files can be reclaimed apart from all else.
///
/// # Errors
/// When the kernel has no control groups for memory.
pub fn join_readers() -> Result<()> {
    if Path::new(READERS).exists() {
        return Ok(());
    }
    set(Path::new("/cgroup/cgroup.subtree_control"), "+memory")?;
    fs::create_dir(READERS).context("cannot make a control group")?;
    set(&Path::new(READERS).join("cgroup.procs"), "0")
}

/// Has the kernel reclaim what readers have in its page cache, as it does when memory is short: a
/// little at a time. What is left of it then is dropped.
///
/// # Errors
/// When the kernel has no control groups for memory.
pub fn evict() -> Result<()> {
    join_readers()?;
    let group = Path::new(READERS);
    let stat = fs::read_to_string(group.join("memory.stat")).context("no readers")?;
    let cached = stat.lines().find_map(|line| line.strip_prefix("file "));
    let cached: u64 = cached.context("no memory of files")?.parse()?;
    let part = format!("{RECLAIM} swappiness=0");
    for _ in 0..cached.div_ceil(RECLAIM) {
        // It fails when less is reclaimed than asked for, and what was reclaimed stays so.
        let _ = set(&group.join("memory.reclaim"), &part);
        std::thread::sleep(PAUSE);
    }
    set(Path::new("/proc/sys/vm/drop_caches"), "1")
}

/// Writes `value` to a file of the kernel.
fn set(file: &Path, value: &str) -> Result<()> {
    fs::write(file, value).with_context(|| format!("cannot write {value} to {}", file.display()))
}
