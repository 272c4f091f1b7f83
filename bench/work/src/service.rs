// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A service in Python with a large heap, which is used when somebody asks, over a
//! unix socket.

use crate::histogram::Histogram;
use anyhow::Context;
use anyhow::Result;
use serde::Deserialize;
use serde::Serialize;
use std::io::Read;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What Python runs.
const SCRIPT: &str = include_str!("service.py");

/// What one use of all documents came to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Use {
    /// Documents that were used: all.
    pub documents: u64,
    /// Those whose text was not what it must be.
    pub wrong: u64,
    /// Times of the first access to each.
    pub touches: Histogram,
    /// All of them.
    pub touch_microseconds: u64,
    /// The whole use: accesses, comparing and renewing.
    pub microseconds: u64,
}

/// Becomes the service: fills `mib` MiB, then listens at `socket`.
///
/// # Errors
/// There is no Python.
pub fn run(mib: u64, seed: u64, socket: &Path) -> Result<()> {
    Err(python(mib, seed, socket).exec()).context("cannot start python3")
}

/// The service's process: without what users and sites add to Python.
fn python(mib: u64, seed: u64, socket: &Path) -> Command {
    let mut python = Command::new("python3");
    python
        .args(["-I", "-S", "-B", "-c", SCRIPT])
        .args([mib, seed].map(|number| number.to_string()))
        .arg(socket);
    python
}

/// Has all documents of the service behind `socket` used.
///
/// # Errors
/// Nobody listens there, or it ends before it answers.
pub fn ask(socket: &Path) -> Result<Use> {
    serde_json::from_str(&send(socket, "use\n")?).context("the service is gone")
}

fn send(socket: &Path, order: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("no service at {}", socket.display()))?;
    let mut text = String::new();
    stream
        .write_all(order.as_bytes())
        .and_then(|()| stream.read_to_string(&mut text))
        .context("the service does not answer")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Child;
    use std::time::Duration;
    use std::time::Instant;

    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn every_document_is_used_and_a_wrong_one_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let mut running = match python(3, 1, &socket).spawn() {
            Ok(child) => Running(child),
            Err(error) => {
                eprintln!("left out: the script is tried with python3 only ({error})");
                return;
            }
        };
        let begin = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            let ended = running.0.try_wait().unwrap();
            assert!(ended.is_none(), "the service ended: {ended:?}");
            assert!(begin.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(20));
        }
        for _ in 0..6 {
            let used = ask(&socket).unwrap();
            assert!((300..400).contains(&used.documents), "{}", used.documents);
            assert_eq!(used.wrong, 0);
            assert_eq!(used.touches.count(), used.documents);
        }
        send(&socket, "spoil\n").unwrap();
        assert_eq!(ask(&socket).unwrap().wrong, 1);
        // Each is renewed in one of four.
        let uses: Vec<Use> = (0..4).map(|_| ask(&socket).unwrap()).collect();
        assert_eq!(uses.last().map(|used| used.wrong), Some(0));
    }
}
