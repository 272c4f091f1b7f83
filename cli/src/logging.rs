// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Where log lines go: to stderr, which a service manager keeps.
//!
//! Those of a program that serves many are written by a thread of their own
//! ([`start_apart`]). Whoever reads stderr may be slow, or be gone: no other thread
//! waits for that. What does not fit into the queue meanwhile is lost, and counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use env_logger::{Builder, Target};
use log::LevelFilter;

/// Lines that wait to be written, at most.
const LINES: usize = 1024;

/// How long the last lines may take at the end of the program.
const END: Duration = Duration::from_millis(500);

/// Has the lines written that wait, when it is dropped at the end of the program;
/// but does not wait for long.
#[derive(Debug)]
#[must_use = "the last lines are written when this is dropped"]
pub struct Logging(SyncSender<Entry>);

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// To be told when all lines before it are written.
    End(Sender<()>),
}

/// Starts logging at `level`: who has something to say writes it.
///
/// The virtqueue and vhost-user crates log whatever a driver or a front end
/// does wrong, without limit; the device's counters and its own rate-limited
/// line tell the same, so those crates are heard at level trace only.
pub fn start(level: LevelFilter) {
    builder(level).init();
}

/// Starts logging as [`start`] does, with a thread that writes. It calls `prepare` before it
/// does.
///
/// # Errors
/// When there can be no thread.
pub fn start_apart(
    level: LevelFilter,
    prepare: impl FnOnce() + Send + 'static,
) -> io::Result<Logging> {
    let (queue, entries) = sync_channel(LINES);
    let lost = Arc::new(AtomicU64::new(0));
    let lines = Lines {
        queue: queue.clone(),
        lost: lost.clone(),
    };
    thread::Builder::new().name("log".into()).spawn(move || {
        prepare();
        write(&entries, &lost, &mut io::stderr());
    })?;
    builder(level).target(Target::Pipe(Box::new(lines))).init();
    Ok(Logging(queue))
}

fn builder(level: LevelFilter) -> Builder {
    let foreign = if level == LevelFilter::Trace {
        LevelFilter::Trace
    } else {
        LevelFilter::Off
    };
    // A filter is a prefix of the target: "vhost" alone would silence
    // vhost_user_tmem as well.
    let mut builder = Builder::new();
    builder
        .filter_level(level)
        .filter_module("virtio_queue", foreign)
        .filter_module("vhost_user_backend", foreign)
        .filter_module("vhost::", foreign)
        .filter_module("vm_memory", foreign)
        .format_target(false);
    builder
}

impl Drop for Logging {
    fn drop(&mut self) {
        let (done, end) = channel();
        if self.0.try_send(Entry::End(done)).is_ok() {
            // In vain if nobody reads.
            let _ = end.recv_timeout(END);
        }
    }
}

/// What the logger writes to. Never waits.
struct Lines {
    queue: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn write(entries: &Receiver<Entry>, lost: &AtomicU64, to: &mut impl Write) {
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                // There is nowhere to complain.
                let _ = to.write_all(&line);
                let lost = lost.swap(0, Relaxed);
                if lost > 0 {
                    let _ = writeln!(to, "[{lost} lines of the log are lost: it was not read]");
                }
            }
            Entry::End(done) => {
                let _ = done.send(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let (queue, entries) = sync_channel(2);
        let lost = Arc::new(AtomicU64::new(0));
        let mut lines = Lines {
            queue,
            lost: lost.clone(),
        };
        for line in ["one\n", "two\n", "three\n", "four\n"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        drop(lines);
        let mut said = Vec::new();
        write(&entries, &lost, &mut said);
        let said = String::from_utf8(said).unwrap();
        assert_eq!(
            said,
            "one\n[2 lines of the log are lost: it was not read]\ntwo\n"
        );
    }
}
