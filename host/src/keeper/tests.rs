// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use super::*;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};

use rustix::event::{EventfdFlags, eventfd};

use record::Record;

fn memory() -> OwnedFd {
    memory_file("test").unwrap()
}

#[test]
fn record_is_read_as_it_was_written_last() {
    let file = memory();
    let (record, nothing) = Record::open::<Vec<u64>>(file.try_clone().unwrap(), |_| true).unwrap();
    assert_eq!(nothing, None);
    for last in 1..20 {
        let content: Vec<u64> = (0..last).collect();
        record.write(&content).unwrap();
        record.set_word(3, last);
        let (again, read) = Record::open::<Vec<u64>>(file.try_clone().unwrap(), |_| true).unwrap();
        assert_eq!(read, Some(content));
        assert_eq!((again.word(3), again.word(4)), (last, 0));
    }
}

/// As if there were none, but it is told.
#[test]
fn record_of_another_version_is_not_read() {
    let written = || {
        let file = File::from(memory());
        let copy = || file.try_clone().unwrap().into();
        let (record, _) = Record::open::<Vec<u64>>(copy(), |_| true).unwrap();
        assert!(!record.is_lost());
        record.write(&vec![7u64]).unwrap();
        record.set_word(3, 9);
        file
    };
    let (record, none) = Record::open::<String>(written().into(), |_| true).unwrap();
    assert_eq!((none, record.is_lost(), record.word(3)), (None, true, 0));
    let (record, none) = Record::open::<Vec<u64>>(written().into(), |_| false).unwrap();
    assert_eq!((none, record.is_lost(), record.word(3)), (None, true, 0));
    // The layout itself.
    let file = written();
    file.write_all_at(b"\x02", 7).unwrap();
    let copy = file.try_clone().unwrap().into();
    let (record, none) = Record::open::<Vec<u64>>(copy, |_| true).unwrap();
    assert_eq!((none, record.is_lost(), record.word(3)), (None, true, 0));
    // From then on it is one of this version.
    record.write(&vec![8u64]).unwrap();
    let (record, content) = Record::open::<Vec<u64>>(file.into(), |_| true).unwrap();
    assert_eq!((content, record.is_lost()), (Some(vec![8]), false));
}

/// The file after the first `cut` bytes of the last write: a whole record at each.
#[test]
fn record_is_whole_wherever_its_writer_ends() {
    let file = memory();
    let (record, _) = Record::open::<Vec<u32>>(file.try_clone().unwrap(), |_| true).unwrap();
    let old: Vec<u32> = vec![1; 40];
    let new: Vec<u32> = vec![2; 50];
    record.write(&vec![0u32; 60]).unwrap();
    record.write(&old).unwrap();
    let mut reader = File::from(file.try_clone().unwrap());
    let mut before = Vec::new();
    reader.rewind().unwrap();
    reader.read_to_end(&mut before).unwrap();
    record.write(&new).unwrap();
    let mut after = Vec::new();
    reader.rewind().unwrap();
    reader.read_to_end(&mut after).unwrap();
    let changed: Vec<usize> = (0..before.len())
        .filter(|at| before[*at] != after[*at])
        .collect();
    // The content first, then the header; and in the other order, which must not matter.
    for order in [changed.clone(), changed.iter().rev().copied().collect()] {
        let mut bytes = before.clone();
        for (nth, at) in order.iter().enumerate() {
            let mut copy = File::from(memory());
            copy.write_all(&bytes).unwrap();
            let (_, read) = Record::open::<Vec<u32>>(copy.into(), |_| true).unwrap();
            assert_eq!(read.as_ref(), Some(&old), "{nth}");
            bytes[*at] = after[*at];
        }
        let mut copy = File::from(memory());
        copy.write_all(&bytes).unwrap();
        let (_, read) = Record::open::<Vec<u32>>(copy.into(), |_| true).unwrap();
        assert_eq!(read.as_ref(), Some(&new));
    }
}

#[test]
fn damaged_record_is_none() {
    let file = File::from(memory());
    let (record, _) = Record::open::<u32>(file.try_clone().unwrap().into(), |_| true).unwrap();
    record.write(&1u32).unwrap();
    file.write_all_at(b"7", 4096 + 16).unwrap();
    let (record, read) = Record::open::<u32>(file.into(), |_| true).unwrap();
    assert_eq!((read, record.is_lost()), (None, true));
}

/// A holder in a thread.
struct Holding {
    folder: tempfile::TempDir,
    end: OwnedFd,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Holding {
    fn start(most: usize) -> Self {
        // Sockets have short paths.
        let folder = tempfile::tempdir().unwrap();
        let listener = holder::listener(&folder.path().join("h")).unwrap();
        let end = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let ends = end.try_clone().unwrap();
        let run = move || holder::run(&listener, most, ends.as_fd()).unwrap();
        Self {
            folder,
            end,
            thread: Some(std::thread::spawn(run)),
        }
    }

    fn outside(&self) -> Outside {
        Outside::open(None, Some(&self.folder.path().join("h"))).unwrap()
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        rustix::io::write(&self.end, &1u64.to_ne_bytes()).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn holder_hands_on_what_was_kept() {
    let holding = Holding::start(3);
    let outside = holding.outside();
    assert!(outside.keeps_fds());
    let memory = File::from(outside.memory("pages").unwrap());
    memory.write_all_at(b"page", 0).unwrap();
    let event = eventfd(7, EventfdFlags::CLOEXEC).unwrap();
    outside.keep("event", event.as_fd()).unwrap();
    outside.keep("other", event.as_fd()).unwrap();
    outside.keep("more", event.as_fd()).unwrap_err();
    outside.forget("other").unwrap();
    outside.keep("event", event.as_fd()).unwrap_err();
    drop((outside, memory, event));

    let outside = holding.outside();
    let event = outside.take("event").unwrap();
    let mut count = [0; 8];
    rustix::io::read(&event, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 7);
    let memory = File::from(outside.memory("pages").unwrap());
    let mut bytes = [0; 4];
    memory.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"page");
    assert!(outside.take("other").is_none());
}

#[test]
fn memory_is_used_by_one_at_a_time() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("store");
    let outside = Outside::open(Some(&path), None).unwrap();
    let memory = outside.memory("pages").unwrap();
    let other = Outside::open(Some(&path), None).unwrap();
    let error = format!("{:#}", other.memory("pages").unwrap_err());
    assert!(error.contains("another process uses it"), "{error}");
    drop(memory);
    other.memory("pages").unwrap();
}

#[test]
fn folder_of_others_is_refused() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let open = || Outside::open(Some(folder.path()), None);
    mode(folder.path(), 0o770);
    assert!(format!("{:#}", open().unwrap_err()).contains("others may write"));
    mode(folder.path(), 0o700);
    let outside = open().unwrap();
    let file = folder.path().join("pages");
    for make in [
        &(|| std::os::unix::fs::symlink("/dev/zero", &file).unwrap()) as &dyn Fn(),
        &|| std::fs::create_dir(&file).unwrap(),
        &|| {
            std::fs::write(&file, "").unwrap();
            mode(&file, 0o644);
        },
        &|| {
            std::fs::write(&file, "").unwrap();
            mode(&file, 0o600);
            std::fs::hard_link(&file, folder.path().join("link")).unwrap();
        },
    ] {
        make();
        outside.memory("pages").unwrap_err();
        let _ = std::fs::remove_file(&file);
        let _ = std::fs::remove_dir(&file);
    }
    let on_disk = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
    assert!(Outside::open(Some(on_disk.path()), None).is_err());
}
