// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl vm save` and `tmemctl vm restore`: files that hold the pages of a virtual machine; and
//! `tmemctl vm clone`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::json;
use tmem_cli::size;

use super::api::{Api, read};
use crate::cli::{VmClone, VmImage};
use crate::{progress, warn};

/// What was in an image.
#[derive(Debug, Deserialize)]
struct Totals {
    pages: u64,
    bytes: u64,
    missing_pages: u64,
}

/// `tmemctl vm save`.
pub(super) fn save(api: &Api, path: &str, wanted: &VmImage) -> Result<()> {
    let totals = if is_standard(&wanted.file) {
        let stdout = io::stdout().lock();
        ensure!(
            !stdout.is_terminal(),
            "an image is nothing for a terminal: name a file, or pass it on with a pipe"
        );
        fetch(api, path, stdout)?
    } else {
        let part = Part::new(&wanted.file)?;
        let totals = fetch(api, path, &part.file);
        // A daemon that has nothing to send leaves nothing behind.
        let totals = totals.with_context(|| wanted.file.display().to_string())?;
        part.keep()?;
        totals
    };
    let Totals {
        pages,
        bytes,
        missing_pages,
    } = totals;
    eprintln!("{}", saved(&wanted.name, pages, bytes));
    if missing_pages > 0 {
        warn(&format!(
            "{missing_pages} pages cannot be read from the spill area and are not in it: the guest gets errors for them"
        ));
    }
    Ok(())
}

/// What was saved, and what that is in the snapshot's stead.
fn saved(name: &str, pages: u64, bytes: u64) -> String {
    let said = format!("saved {pages} pages of {name} in {}", size::show(bytes));
    match (pages.saturating_mul(4096)).checked_sub(bytes) {
        Some(less) if less > 0 => format!(
            "{said}: {} less than they took in its memory",
            size::show(less)
        ),
        _ => said,
    }
}

/// `tmemctl vm restore`.
pub(super) fn restore(api: &Api, path: &str, wanted: &VmImage) -> Result<()> {
    let said = if is_standard(&wanted.file) {
        api.send(path, &mut Shown::new(io::stdin().lock()))?
    } else {
        let what = || wanted.file.display().to_string();
        let file = File::open(&wanted.file).with_context(what)?;
        api.send(path, &mut Shown::new(file)).with_context(what)?
    };
    tell_of(&wanted.name, &read(said)?);
    Ok(())
}

/// `tmemctl vm clone`.
pub(super) fn clone(api: &Api, path: &str, wanted: &VmClone) -> Result<()> {
    let body = match wanted.copy {
        true => json!({ "to": wanted.clone, "copy": true }),
        false => json!({ "to": wanted.clone }),
    };
    tell_of(&wanted.clone, &api.change("POST", path, Some(&body))?);
    Ok(())
}

/// What a machine has now that is to be restored.
fn tell_of(name: &str, totals: &Totals) {
    let Totals {
        pages,
        missing_pages,
        ..
    } = totals;
    eprintln!(
        "{name} has {pages} pages; restore its memory now: they are kept for its grace period"
    );
    if *missing_pages > 0 {
        warn(&format!(
            "{missing_pages} ephemeral pages found no room: the guest reads them from its disk"
        ));
    }
}

fn fetch(api: &Api, path: &str, to: impl Write) -> Result<Totals> {
    read(api.fetch(path, &mut Shown::new(to))?)
}

fn is_standard(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// A file that is not there under its name before it is whole.
struct Part {
    file: File,
    at: PathBuf,
    name: PathBuf,
    is_kept: bool,
}

impl Part {
    fn new(name: &Path) -> Result<Self> {
        let mut at = name.as_os_str().to_owned();
        at.push(".part");
        let at = PathBuf::from(at);
        let mut options = OpenOptions::new();
        // Pages of a guest are nobody else's.
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&at);
        let file = file.with_context(|| at.display().to_string())?;
        Ok(Self {
            file,
            at,
            name: name.to_owned(),
            is_kept: false,
        })
    }

    fn keep(mut self) -> Result<()> {
        let what = || self.name.display().to_string();
        self.file.sync_all().with_context(what)?;
        fs::rename(&self.at, &self.name).with_context(what)?;
        self.is_kept = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_kept {
            // The error that keeps it from being whole is told.
            let _ = fs::remove_file(&self.at);
        }
    }
}

/// What is written or read, with its bytes on the terminal.
struct Shown<T> {
    of: T,
    bytes: u64,
    next: Instant,
}

impl<T> Shown<T> {
    fn new(of: T) -> Self {
        Self {
            of,
            bytes: 0,
            next: Instant::now(),
        }
    }

    fn more(&mut self, bytes: usize) {
        const EVERY: Duration = Duration::from_millis(200);
        self.bytes = self.bytes.saturating_add(bytes as u64);
        if progress::is_shown() && Instant::now() >= self.next {
            progress::draw(&size::show(self.bytes));
            self.next = Instant::now() + EVERY;
        }
    }
}

impl<T> Drop for Shown<T> {
    fn drop(&mut self) {
        if progress::is_shown() {
            progress::draw("");
        }
    }
}

impl<T: Write> Write for Shown<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.of.write(bytes)?;
        self.more(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.of.flush()
    }
}

impl<T: Read> Read for Shown<T> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.of.read(to)?;
        self.more(read);
        Ok(read)
    }
}
