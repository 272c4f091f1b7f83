// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use super::{FILE, Ring, RingRead, SLOTS, State};
use crate::area::WINDOW;
use io_uring::squeue::Entry;
use io_uring::{opcode, types::Fd};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are read at a time, of which the file has so many.
const PIECE: usize = 4096;
const PIECES: u64 = 256;

/// A ring, if the kernel allows it to this process.
fn ring(file: &File) -> Option<Arc<Ring>> {
    match Ring::new(file) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            eprintln!("not tested: the kernel does not allow io_uring here");
            None
        }
        ring => Some(ring.unwrap()),
    }
}

/// A file of which each piece has its number everywhere.
fn file() -> File {
    let mut file = tempfile::tempfile().unwrap();
    for piece in 0..PIECES {
        file.write_all(&piece.to_le_bytes().repeat(PIECE / 8))
            .unwrap();
    }
    file
}

fn begin(ring: &Arc<Ring>, piece: u64) -> Option<RingRead> {
    ring.begin(piece * PIECE as u64, PIECE)
}

fn finish(read: RingRead) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; PIECE];
    read.finish(0, &mut bytes, &mut || true)?;
    Ok(bytes)
}

fn assert_is(piece: u64, bytes: &[u8]) {
    assert_eq!(bytes, piece.to_le_bytes().repeat(PIECE / 8), "{piece}");
}

fn count(ring: &Ring, state: State) -> usize {
    let slots = ring.slots();
    let is_it = slots.slots.iter().filter(|slot| slot.state == state);
    is_it.count()
}

#[test]
fn reads_are_under_way_together() {
    let Some(ring) = ring(&file()) else { return };
    let reads: Vec<_> = (0..64).map(|piece| begin(&ring, piece).unwrap()).collect();
    assert_eq!(count(&ring, State::UnderWay), 64);
    // Not in the order in which they were begun.
    for (piece, read) in (0..).zip(reads).collect::<Vec<_>>().into_iter().rev() {
        assert_is(piece, &finish(read).unwrap());
    }
    assert_eq!(count(&ring, State::Free), SLOTS as usize);
}

#[test]
fn a_part_of_what_was_read_is_given() {
    let Some(ring) = ring(&file()) else { return };
    let read = ring.begin(0, WINDOW).unwrap();
    let mut bytes = [0; 16];
    read.finish(PIECE - 8, &mut bytes, &mut || true).unwrap();
    assert_eq!(bytes[..8], 0_u64.to_le_bytes());
    assert_eq!(bytes[8..], 1_u64.to_le_bytes());
    assert!(ring.begin(0, WINDOW + 1).is_none());
}

#[test]
fn what_nobody_waits_for_frees_its_slot() {
    let Some(ring) = ring(&file()) else { return };
    for _ in 0..20 {
        let reads: Vec<_> = (0..)
            .map_while(|piece| begin(&ring, piece % PIECES))
            .collect();
        assert!(!reads.is_empty(), "no slot became free");
        drop(reads);
        // The kernel reads them in its own time.
        while count(&ring, State::Free) == 0 {
            ring.slots().take_completions(&ring.ring);
            thread::yield_now();
        }
    }
}

#[test]
fn more_than_there_are_slots_are_not_begun() {
    let Some(ring) = ring(&file()) else { return };
    let reads: Vec<_> = (0..).map_while(|piece| begin(&ring, piece)).collect();
    assert_eq!(reads.len(), SLOTS as usize);
    for (piece, read) in (0..).zip(reads) {
        assert_is(piece, &finish(read).unwrap());
    }
}

#[test]
fn an_end_of_the_file_is_an_error_of_that_read_alone() {
    let Some(ring) = ring(&file()) else { return };
    let [last, beyond] = [PIECES - 1, PIECES].map(|piece| begin(&ring, piece).unwrap());
    let half = ring.begin(PIECES * PIECE as u64 - 512, PIECE).unwrap();
    let ends = [beyond, half].map(|read| finish(read).unwrap_err().kind());
    assert_eq!(ends, [ErrorKind::UnexpectedEof; 2]);
    assert_is(PIECES - 1, &finish(last).unwrap());
}

#[test]
fn threads_get_what_they_asked_for() {
    let Some(ring) = ring(&file()) else { return };
    thread::scope(|scope| {
        for thread in 0..4 {
            let ring = &ring;
            scope.spawn(move || {
                for round in 0..300_u64 {
                    let first = (thread * 61 + round * 7) % PIECES;
                    let pieces = (first..first + 1 + round % 24).map(|piece| piece % PIECES);
                    let reads: Vec<_> = pieces
                        .filter_map(|piece| Some((piece, begin(ring, piece)?)))
                        .collect();
                    for (nth, (piece, read)) in reads.into_iter().enumerate() {
                        // Some are not wanted any more, and their slots are others' next.
                        if nth % 5 != 4 {
                            assert_is(piece, &finish(read).unwrap());
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn who_waits_for_what_never_comes_stops_when_it_is_told_to() {
    let (reader, mut writer) = io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    let Some(ring) = ring(&file) else { return };
    // One of them drives, the others wait for it.
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let (mut asked, mut bytes) = (0, [0; 8]);
                let read = ring.begin(0, 8).unwrap();
                let stopped = read.finish(0, &mut bytes, &mut || {
                    asked += 1;
                    asked < 3
                });
                assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
                assert_eq!(asked, 3);
            });
        }
    });
    // Who has ended has cancelled its own, perhaps; what comes now is for who waits now, or for nobody.
    let read = ring.begin(0, 8).unwrap();
    writer.write_all(&7_u64.to_le_bytes().repeat(4)).unwrap();
    let mut bytes = [0; 8];
    read.finish(0, &mut bytes, &mut || true).unwrap();
    assert_eq!(bytes, 7_u64.to_le_bytes());
    // The kernel may still write to what these have.
    let under_way: Vec<_> = (0..4).map(|_| ring.begin(0, 8).unwrap()).collect();
    drop(under_way);
    drop(ring);
    let _ = writer.write_all(&[0; 64]);
}

#[test]
fn who_waits_is_asked_whether_it_may_go_on_while_others_reads_end() {
    let (reader, _writer) = io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    let Some(ring) = ring(&file) else { return };
    // Somebody drives, whose reads end again and again.
    ring.slots().has_driver = true;
    let read = ring.begin(0, 8).unwrap();
    let waits = thread::spawn(move || {
        let mut asked = 0;
        let stopped = read.finish(0, &mut [0; 8], &mut || {
            asked += 1;
            asked < 100
        });
        stopped.unwrap_err().kind()
    });
    let start = Instant::now();
    while !waits.is_finished() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "it was not asked"
        );
        ring.changed.notify_all();
        thread::yield_now();
    }
    assert_eq!(waits.join().unwrap(), ErrorKind::Interrupted);
}

#[test]
fn what_was_read_is_taken_by_who_drives() {
    let Some(ring) = ring(&file()) else { return };
    ring.slots().has_driver = true;
    let read = begin(&ring, 3).unwrap();
    // As often as it is asked, it looks for what was read.
    let (asks, asked) = mpsc::channel();
    let waits = thread::spawn(move || {
        let mut bytes = vec![0; PIECE];
        let done = read.finish(0, &mut bytes, &mut || asks.send(()).is_ok());
        done.map(|()| bytes)
    });
    // The page cache has it, or the disk is done before this ends.
    while has_read(&ring) == 0 {
        asked.recv_timeout(Duration::from_secs(10)).unwrap();
    }
    asked.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(has_read(&ring), 1, "a driver would wait for what is gone");
    let mut slots = ring.slots();
    slots.has_driver = false;
    slots.take_completions(&ring.ring);
    ring.changed.notify_all();
    drop(slots);
    assert_is(3, &waits.join().unwrap().unwrap());
}

/// How many reads have ended that nobody has taken.
fn has_read(ring: &Ring) -> usize {
    let _slots = ring.slots();
    // SAFETY: who holds the lock has the queue alone.
    unsafe { ring.ring.completion_shared() }.len()
}

#[test]
fn what_a_thread_has_asked_for_is_read_or_fails_when_it_has_ended() {
    let (reader, mut writer) = io::pipe().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(reader));
    let Some(ring) = ring(&file) else { return };
    let mut bytes = [0; 8];
    let kept = thread::scope(|scope| {
        let asks = scope.spawn(|| {
            let kept = ring.begin(0, 8).unwrap();
            let other = ring.begin(0, 8).unwrap();
            // The kernel hears of both.
            let stopped = other.finish(0, &mut [0; 8], &mut || false);
            assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Interrupted);
            kept
        });
        asks.join().unwrap()
    });
    writer.write_all(&7_u64.to_le_bytes().repeat(2)).unwrap();
    // Nothing but `go_on` stops a read.
    match kept.finish(0, &mut bytes, &mut || true) {
        Ok(()) => assert_eq!(bytes, 7_u64.to_le_bytes()),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Other, "{error}"),
    }
}

#[test]
fn a_ring_can_do_nothing_but_read_its_file() {
    let own = file();
    let Some(ring) = ring(&own) else { return };
    let other = File::open("/dev/zero").unwrap();
    let mut bytes = [0_u8; 8];
    let (to, fd) = (bytes.as_mut_ptr(), Fd(other.as_raw_fd()));
    for entry in [
        opcode::Read::new(fd, to, 8).build(),
        opcode::Write::new(FILE, to, 8).build(),
        opcode::Fsync::new(FILE).build(),
        opcode::Nop::new().build(),
        opcode::OpenAt::new(fd, c"/".as_ptr()).build(),
        opcode::Close::new(fd).build(),
    ] {
        assert_eq!(
            answer(&ring, &entry),
            -Errno::ACCESS.raw_os_error(),
            "{entry:?}"
        );
    }
    let submitter = ring.ring.submitter();
    let refused = |done: io::Result<()>| {
        let error = done.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ACCESS.raw_os_error()));
    };
    refused(submitter.unregister_files());
    refused(
        submitter
            .register_files_update(0, &[other.as_raw_fd()])
            .map(drop),
    );
    refused(submitter.register_eventfd(other.as_raw_fd()));
    assert_is(3, &finish(begin(&ring, 3).unwrap()).unwrap());
}

/// What the kernel says to an entry.
fn answer(ring: &Ring, entry: &Entry) -> i32 {
    // SAFETY: nobody else uses the ring.
    let mut queue = unsafe { ring.ring.submission_shared() };
    // SAFETY: nothing is read or written if the ring does as it should; if not, to bytes that are there.
    unsafe { queue.push(entry) }.unwrap();
    drop(queue);
    ring.ring.submit_and_wait(1).unwrap();
    // SAFETY: as above.
    let completion = unsafe { ring.ring.completion_shared() }.next();
    completion.unwrap().result()
}
