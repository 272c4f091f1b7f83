// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Pages of raw disks, written and read.

use crate::aio::{Direction, Page, Queue};
use crate::clock::{self, Clock};
use crate::order::{Answer, Pages};
use anyhow::{Context as _, Result, bail};
use rustix::thread::{Pid, gettid};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Writes at a time beside reads.
const BESIDE: usize = 32;

/// Real time priority of who reads beside writes: what is measured is the disk, and not who gets
/// the guest's CPU.
const PRIORITY: libc::c_int = 10;

/// What pages of disks have in them: page `n` has that of number `n`, modulo how many there are.
pub struct Content(Vec<Page>);

impl Content {
    /// Takes `pages` pages from the head of `disk`.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn read(disk: &Path, pages: usize) -> Result<Self> {
        let file = File::open(disk).with_context(|| format!("cannot open {}", disk.display()))?;
        let mut content = vec![Page::default(); pages];
        for (number, page) in content.iter_mut().enumerate() {
            let offset = (number * Page::SIZE) as u64;
            file.read_exact_at(&mut page.0, offset)
                .with_context(|| format!("cannot read {}", disk.display()))?;
        }
        Ok(Self(content))
    }

    fn page(&self, number: u64) -> Result<&[u8; Page::SIZE]> {
        let count = self.0.len().max(1) as u64;
        let page = self.0.get(usize::try_from(number % count)?);
        Ok(&page.context("there is no content yet")?.0)
    }
}

/// Opens a disk for direct I/O.
fn open(disk: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(disk)
        .with_context(|| format!("cannot open {}", disk.display()))
}

/// The pages in a random order, again and again in another.
struct Numbers {
    order: Vec<u64>,
    next: usize,
    random: fastrand::Rng,
}

impl Numbers {
    fn new(first: u64, pages: u64, seed: u64) -> Self {
        Self {
            order: (first..first + pages).collect(),
            next: usize::MAX,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn next(&mut self) -> u64 {
        if self.next >= self.order.len() {
            self.random.shuffle(&mut self.order);
            self.next = 0;
        }
        let number = self.order.get(self.next).copied().unwrap_or_default();
        self.next += 1;
        number
    }
}

/// Writes.
///
/// # Errors
/// When the disk fails.
pub fn write(wanted: &Pages, content: &Content, clock: &Clock) -> Result<Answer> {
    transfer(wanted, content, clock, Direction::Write)
}

/// Reads, and compares.
///
/// # Errors
/// When the disk fails, and when a page is another than was written.
pub fn read(wanted: &Pages, content: &Content, clock: &Clock) -> Result<Answer> {
    if !wanted.beside_writes {
        return transfer(wanted, content, clock, Direction::Read);
    }
    let (is_over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_without_end(wanted, content, &is_over, &written));
        while written.load(Ordering::Relaxed) < BESIDE as u64 && !writer.is_finished() {
            std::thread::yield_now();
        }
        let before = written.load(Ordering::Relaxed);
        let answer = with_priority(|| transfer(wanted, content, clock, Direction::Read));
        let after = written.load(Ordering::Relaxed);
        is_over.store(true, Ordering::Relaxed);
        match writer.join() {
            Ok(outcome) => outcome?,
            Err(_) => bail!("who writes has panicked"),
        }
        let mut answer = answer?;
        answer.written = after - before;
        Ok(answer)
    })
}

fn write_without_end(
    wanted: &Pages,
    content: &Content,
    is_over: &AtomicBool,
    written: &AtomicU64,
) -> Result<()> {
    let disk = open(&wanted.disk)?;
    let mut queue = Queue::new(&disk, BESIDE)?;
    let behind = wanted.first + wanted.pages;
    let mut numbers = Numbers::new(behind, wanted.pages, !wanted.seed);
    let mut free: Vec<usize> = (0..BESIDE).collect();
    let mut batch = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        batch.clear();
        for slot in &free {
            let number = numbers.next();
            let page = queue.page(*slot).context("no such slot")?;
            page.copy_from_slice(content.page(number)?);
            batch.push((*slot, Direction::Write, number));
        }
        queue.send(&batch)?;
        queue.wait(&mut free)?;
        written.fetch_add(free.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Runs `what` before all others of this guest.
fn with_priority<T>(what: impl FnOnce() -> T) -> T {
    schedule(libc::SCHED_FIFO, PRIORITY);
    let result = what();
    schedule(libc::SCHED_OTHER, 0);
    result
}

fn schedule(policy: libc::c_int, priority: libc::c_int) {
    let thread: Pid = gettid();
    let parameter = libc::sched_param {
        sched_priority: priority,
    };
    let thread = thread.as_raw_nonzero().get();
    // SAFETY: the kernel reads `parameter`, which lives. If it refuses, as on a machine of others,
    // nothing has changed.
    unsafe { libc::sched_setscheduler(thread, policy, &raw const parameter) };
}

fn transfer(
    wanted: &Pages,
    content: &Content,
    clock: &Clock,
    direction: Direction,
) -> Result<Answer> {
    let disk = open(&wanted.disk)?;
    let numbers = Numbers::new(wanted.first, wanted.pages, wanted.seed);
    match wanted.depth {
        1 => one_by_one(&disk, wanted.count, numbers, content, clock, direction),
        depth => {
            let queue = Queue::new(&disk, depth)?;
            many(
                queue,
                depth,
                wanted.count,
                numbers,
                content,
                clock,
                direction,
            )
        }
    }
}

/// One request after the other, with an ordinary system call.
fn one_by_one(
    disk: &File,
    count: u64,
    mut numbers: Numbers,
    content: &Content,
    clock: &Clock,
    direction: Direction,
) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut page = Page::default();
    let mut taken = std::time::Duration::ZERO;
    for _ in 0..count {
        let number = numbers.next();
        let offset = number * Page::SIZE as u64;
        let expected = content.page(number)?;
        match direction {
            Direction::Read => page.0.fill(0),
            Direction::Write => page.0.copy_from_slice(expected),
        }
        let start = clock::now();
        let moved = match direction {
            Direction::Read => disk.read_at(&mut page.0, offset),
            Direction::Write => disk.write_at(&page.0, offset),
        };
        let time = clock.between(start, clock::now());
        let moved = moved.with_context(|| format!("page {number}"))?;
        if moved != Page::SIZE || page.0 != *expected {
            bail!("page {number} is another than was written");
        }
        answer.times.add(time);
        taken += time;
    }
    answer.count = count;
    answer.bytes = count * Page::SIZE as u64;
    answer.nanoseconds = u64::try_from(taken.as_nanos())?;
    Ok(answer)
}

/// `depth` requests at a time.
fn many(
    mut queue: Queue,
    depth: usize,
    count: u64,
    mut numbers: Numbers,
    content: &Content,
    clock: &Clock,
    direction: Direction,
) -> Result<Answer> {
    let mut answer = Answer::default();
    let mut slots = vec![(0, 0); depth];
    let mut free: Vec<usize> = (0..depth).collect();
    let mut batch = Vec::new();
    let (mut sent, mut done) = (0, 0);
    let start = clock::now();
    while done < count {
        batch.clear();
        for slot in free.drain(..) {
            if sent == count {
                break;
            }
            let number = numbers.next();
            if direction == Direction::Write {
                let page = queue.page(slot).context("no such slot")?;
                page.copy_from_slice(content.page(number)?);
            }
            *slots.get_mut(slot).context("no such slot")? = (number, clock::now());
            batch.push((slot, direction, number));
            sent += 1;
        }
        if !batch.is_empty() {
            queue.send(&batch)?;
        }
        queue.wait(&mut free)?;
        let now = clock::now();
        for slot in &free {
            let (number, since) = slots.get(*slot).copied().context("no such slot")?;
            answer.times.add(clock.between(since, now));
            let page = queue.page(*slot).context("no such slot")?;
            if direction == Direction::Read && page != content.page(number)? {
                bail!("page {number} is another than was written");
            }
            done += 1;
        }
    }
    answer.count = count;
    answer.bytes = count * Page::SIZE as u64;
    answer.nanoseconds = u64::try_from(clock.between(start, clock::now()).as_nanos())?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn wanted(disk: &Path, depth: usize) -> Pages {
        Pages {
            disk: disk.into(),
            first: 0,
            pages: 64,
            count: 200,
            depth,
            seed: 5,
            beside_writes: false,
        }
    }

    /// A file system without direct I/O cannot be asked.
    fn disk() -> Option<tempfile::NamedTempFile> {
        let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for number in 0..128_u8 {
            file.write_all(&[number; Page::SIZE]).unwrap();
        }
        open(file.path()).ok().map(|_| file)
    }

    #[test]
    fn every_page_is_compared() {
        let Some(disk) = disk() else { return };
        let content = Content::read(disk.path(), 128).unwrap();
        let clock = Clock::new();
        for depth in [1, 8] {
            let mut wanted = wanted(disk.path(), depth);
            let answer = write(&wanted, &content, &clock).unwrap();
            assert_eq!((answer.count, answer.times.count()), (200, 200));
            assert!(answer.nanoseconds > 0);
            wanted.beside_writes = true;
            let answer = read(&wanted, &content, &clock).unwrap();
            assert_eq!(answer.bytes, 200 * 4096);
        }
        let file = open(disk.path()).unwrap();
        file.write_at(&Page([1; Page::SIZE]).0, 0).unwrap();
        for depth in [1, 8] {
            let error = read(&wanted(disk.path(), depth), &content, &clock).unwrap_err();
            assert!(error.to_string().contains("page 0"), "{error}");
        }
    }

    #[test]
    fn every_page_has_its_turn() {
        let mut numbers = Numbers::new(3, 5, 1);
        for _ in 0..2 {
            let mut turn: Vec<_> = (0..5).map(|_| numbers.next()).collect();
            turn.sort_unstable();
            assert_eq!(turn, [3, 4, 5, 6, 7]);
        }
    }
}
