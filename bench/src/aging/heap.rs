// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages of the heap of a live Python: of objects, where the documents of
//! [`tmem_work::service`] are mostly text.

use crate::corpus;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use tmem_store::Page;

/// What Python runs.
const SCRIPT: &str = include_str!("heap.py");

/// Ends the process on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes up to `want` pages of the heap, spread over all of it.
pub(super) fn pages(want: usize) -> Result<Vec<Page>> {
    let mut python = Command::new("python3");
    python
        .args(["-I", "-S", "-B", "-c", SCRIPT])
        .arg(want.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let child = python
        .spawn()
        .context("heap pages are those of a live Python: cannot start python3")?;
    let mut python = Running(child);
    let output = python.0.stdout.take().context("python3 has no output")?;
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .context("cannot read what python3 says")?;
    ensure!(
        line.trim() == "ready",
        "python3 ended before its heap was full"
    );
    corpus::pages_of(python.0.id(), want).context("cannot read the heap of python3")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heap_has_the_pages_that_are_wanted() {
        if Command::new("python3").arg("-V").output().is_err() {
            eprintln!("left out: there is no python3");
            return;
        }
        let pages = pages(3000).unwrap();
        assert!((2900..=3000).contains(&pages.len()), "{}", pages.len());
        let zeros = pages.iter().filter(|page| corpus::is_same_filled(page));
        assert!(zeros.count() < 30);
    }
}
