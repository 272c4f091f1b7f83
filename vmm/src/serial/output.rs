// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A port's output: a bounded buffer, filled by vCPUs and written by a thread.
//!
//! * A line is written at once; a beginning of a line that is not continued
//!   is written after [`REST_OF_LINE`]. So lines cost one write each, prompts
//!   and echoes do not wait noticeably, and a long output costs few writes.
//! * If what is connected takes nothing, the buffer fills: a whole boot log
//!   fits in. Then the guest waits as long as at least something is taken
//!   every [`PATIENCE`], as with a slow terminal: nothing is lost. When it
//!   takes nothing for that long, the guest goes on and the output is dropped
//!   (and counted, and told in the log) until something is taken again.
//! * When what is connected is gone (a closed socket or pipe), all output is
//!   dropped.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Bytes that may wait to be written.
const CAPACITY: usize = 1 << 20;

/// Bytes that are written at once. A slow terminal (4800 baud and more) takes
/// that many within [`PATIENCE`].
const CHUNK: usize = 512;

/// How long the rest of a line is waited for.
const REST_OF_LINE: Duration = Duration::from_millis(1);

/// How long a vCPU waits for any byte to be taken.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 1000 });

/// Output that waits to be written.
#[derive(Default)]
pub(super) struct Output {
    state: Mutex<State>,
    /// The thread waits for output here.
    more: Condvar,
    /// vCPUs wait for room here.
    room: Condvar,
}

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    thread: Thread,
    /// vCPUs that wait for room.
    waiting: usize,
    /// Nothing has been taken for [`PATIENCE`].
    stuck: bool,
    /// Bytes that were dropped since that was told.
    dropped: u64,
    /// No output comes any more.
    ended: bool,
    /// Nothing takes output any more.
    gone: bool,
}

/// What the writing thread does.
#[derive(Default, PartialEq, Eq)]
enum Thread {
    /// It looks for output by itself.
    #[default]
    Busy,
    /// Waits for any byte.
    Idle,
    /// Waits for the rest of a line.
    Line,
}

impl Output {
    /// Waits, but not for ever, until there is room.
    pub(super) fn wait_for_room(&self) {
        let mut state = self.lock();
        while state.is_full() && !state.stuck && !state.ended {
            state.waiting += 1;
            let (next, wait) = self
                .room
                .wait_timeout(state, PATIENCE)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.waiting -= 1;
            // Whoever writes wakes the waiting vCPUs.
            state.stuck = wait.timed_out();
        }
    }

    /// Takes a byte. Does not wait: without room, it is dropped.
    pub(super) fn push(&self, byte: u8) {
        let mut state = self.lock();
        if state.gone {
            return;
        }
        if state.is_full() {
            state.dropped += 1;
            return;
        }
        state.bytes.push_back(byte);
        let wake = match state.thread {
            Thread::Busy => false,
            Thread::Idle => true,
            Thread::Line => byte == b'\n' || state.bytes.len() >= CHUNK,
        };
        if wake {
            state.thread = Thread::Busy;
            self.more.notify_one();
        }
    }

    /// No output comes any more: [`Output::write_to`] returns when it has
    /// written all.
    pub(super) fn finish(&self) {
        let mut state = self.lock();
        state.ended = true;
        state.thread = Thread::Busy;
        self.more.notify_one();
        self.room.notify_all();
    }

    /// Writes all output to `file`, until the end of either. `name` is for the
    /// log.
    pub(super) fn write_to(&self, file: &OwnedFd, name: &str) {
        let mut failed = false;
        while let Some(chunk) = self.next() {
            match self.write_chunk(file, &chunk) {
                Ok(()) => failed = false,
                Err(Errno::PIPE | Errno::CONNRESET) => {
                    log::debug!("nobody reads {name} any more; the guest's output is dropped");
                    break;
                }
                // A full disk, say: there may be room later.
                Err(error) => {
                    if !failed {
                        log::warn!("the guest's output is lost, {name}: {error}");
                    }
                    failed = true;
                }
            }
            let dropped = std::mem::take(&mut self.lock().dropped);
            if dropped > 0 {
                log::warn!("{dropped} bytes of the guest's output were dropped, {name} took none");
            }
        }
        let mut state = self.lock();
        state.gone = true;
        state.bytes = VecDeque::new();
        self.room.notify_all();
    }

    /// The next bytes to write; nothing at the end.
    pub(super) fn next(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        while state.bytes.is_empty() {
            if state.ended {
                return None;
            }
            state.thread = Thread::Idle;
            state = self
                .more
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if !state.ended && state.bytes.len() < CHUNK && !state.bytes.contains(&b'\n') {
            state.thread = Thread::Line;
            (state, _) = self
                .more
                .wait_timeout_while(state, REST_OF_LINE, |state| state.thread == Thread::Line)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.thread = Thread::Busy;
        let len = state.bytes.len().min(CHUNK);
        Some(state.bytes.drain(..len).collect())
    }

    fn write_chunk(&self, file: &OwnedFd, mut chunk: &[u8]) -> rustix::io::Result<()> {
        while !chunk.is_empty() {
            match rustix::io::write(file, chunk) {
                Ok(written) => {
                    chunk = chunk.get(written..).unwrap_or_default();
                    self.taken();
                }
                Err(Errno::INTR) => {}
                // A terminal's files are shared with other programs, which may
                // make them non-blocking.
                Err(Errno::AGAIN) => match poll(&mut [PollFd::new(file, PollFlags::OUT)], None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Something was taken.
    fn taken(&self) {
        let mut state = self.lock();
        state.stuck = false;
        if state.waiting > 0 {
            self.room.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.bytes.len() >= CAPACITY && !self.gone
    }
}

/// [`Output`] as a file. Never fails.
pub(super) struct Writer(pub(super) Option<Arc<Output>>);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(output) = &self.0 {
            bytes.iter().for_each(|byte| output.push(*byte));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
