// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A device of device-mapper that does as it is told.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NAME: &str = "spill";

/// The device, and what is below it.
pub(crate) struct Area {
    disk: PathBuf,
    /// Of 512 bytes.
    sectors: u64,
}

impl Area {
    /// Above `disk`, which is passed on to.
    pub(crate) fn new(disk: &Path) -> Self {
        let name = disk.file_name().unwrap();
        let size = Path::new("/sys/class/block").join(name).join("size");
        let sectors = std::fs::read_to_string(size).unwrap();
        let this = Self {
            disk: disk.to_owned(),
            sectors: sectors.trim().parse().unwrap(),
        };
        this.create();
        this
    }

    /// What the daemon is given.
    pub(crate) fn path() -> PathBuf {
        Path::new("/dev/mapper").join(NAME)
    }

    pub(crate) fn sectors(&self) -> u64 {
        self.sectors
    }

    fn all(&self, target: &str) -> String {
        format!("0 {} {target}\n", self.sectors)
    }

    fn linear_of(&self, from: u64, sectors: u64) -> String {
        format!("{from} {sectors} linear {} {from}\n", self.disk.display())
    }

    fn is_linear(&self) -> String {
        self.linear_of(0, self.sectors)
    }

    /// Makes the device, after it was removed.
    pub(crate) fn create(&self) {
        run(&["create", "--noudevsync", NAME], &self.is_linear());
        // There may be no udev here that would do so.
        let path = Self::path();
        if !path.exists() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let number = output(&["info", "-c", "--noheadings", "-o", "minor", NAME]);
            symlink(format!("/dev/dm-{}", number.trim()), path).unwrap();
        }
    }

    fn table(&self, table: &str) {
        run(&["reload", "--noudevsync", NAME], table);
        // It waits for what is under way.
        run(&["resume", "--noudevsync", NAME], "");
    }

    /// It works.
    pub(crate) fn heal(&self) {
        self.table(&self.is_linear());
    }

    /// Each read and each write takes so long.
    pub(crate) fn delay(&self, milliseconds: u64) {
        let target = format!("delay {} 0 {milliseconds}", self.disk.display());
        self.table(&self.all(&target));
    }

    /// Reads and writes are not answered until it is released. What is under way ends before.
    pub(crate) fn hold() -> Held {
        run(&["suspend", "--noflush", "--nolockfs", NAME], "");
        Held
    }

    /// No write succeeds.
    pub(crate) fn fail_writes(&self) {
        let target = format!("flakey {} 0 0 3600 1 error_writes", self.disk.display());
        self.table(&self.all(&target));
    }

    /// Nothing succeeds.
    pub(crate) fn fail(&self) {
        self.table(&self.all("error"));
    }

    /// Nothing succeeds in a part of it.
    pub(crate) fn fail_part(&self, from: u64, sectors: u64) {
        let end = from + sectors;
        let mut table = self.linear_of(0, from);
        table += &format!("{from} {sectors} error\n");
        table += &self.linear_of(end, self.sectors - end);
        self.table(&table);
    }

    /// The device goes, while it is in use: nothing succeeds any more.
    pub(crate) fn vanish() {
        // It stays for as long as it is open, with a table of errors.
        let _ = command(&["remove", "--noudevsync", "--force", NAME]).status();
    }

    /// The device goes for good, once nobody has it open.
    pub(crate) fn remove() {
        run(&["remove", "--noudevsync", "--retry", NAME], "");
        let _ = std::fs::remove_file(Self::path());
    }
}

/// Reads and writes are not answered before this is dropped: also when a test has failed, or nobody who
/// waits for one could end.
#[must_use]
pub(crate) struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        let _ = command(&["resume", "--noudevsync", NAME]).status();
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new("dmsetup");
    command
        .args(words)
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn output(words: &[&str]) -> String {
    let output = command(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Runs dmsetup with a table.
fn run(words: &[&str], table: &str) {
    let mut command = command(words);
    command.stdin(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let _ = input.write_all(table.as_bytes());
    drop(input);
    let status = child.wait().unwrap();
    assert!(status.success(), "dmsetup {words:?}: {table}");
}
