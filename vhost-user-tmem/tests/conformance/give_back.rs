// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Guest memory on a file system that may have no page left when a page that was
//! given back is needed again.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, MemfdFlags, Mode, OFlags, fallocate, memfd_create, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use crate::daemon::Daemon;
use crate::front_end::{FrontEnd, GUEST, SET_MEM_TABLE, USER, pair, words};
use crate::pool::{HUGE_PAGE, Pool};
use crate::request::ask_limits;

/// Memory with the rings, which is always there.
const RINGS: u64 = 1 << 20;

/// Where the other memory lies.
const OTHER: u64 = 0x4000_0000;
const OTHER_USER: u64 = 0x7f00_0000_0000;

/// Its pages.
const PAGES: u64 = 4;

const OK: u8 = 0;
const NOT_MEMORY: u8 = 0x31;

/// Memory in such a file system, of which each page is there.
trait Scarce {
    fn file(&self) -> &File;
    fn page(&self) -> u64;
    /// Somebody else takes all that is left, until the answer is dropped.
    fn exhaust(&self) -> File;
}

/// A tmpfs of limited size, which nobody else sees.
struct Tmpfs {
    folder: OwnedFd,
    file: File,
}

impl Tmpfs {
    /// Says why there can be none.
    fn mount() -> Result<Self, String> {
        let folder = || -> rustix::io::Result<OwnedFd> {
            let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_set_string(&context, "size", "64k")?;
            fsconfig_create(&context)?;
            fsmount(
                &context,
                FsMountFlags::FSMOUNT_CLOEXEC,
                MountAttrFlags::empty(),
            )
        };
        let folder = folder().map_err(|error| format!("no tmpfs can be mounted: {error}"))?;
        let file = create(&folder, "guest");
        for page in 0..PAGES {
            file.write_all_at(&[0x5a; 4096], page * 4096).unwrap();
        }
        Ok(Self { folder, file })
    }
}

fn create(folder: &OwnedFd, name: &str) -> File {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
        .unwrap()
        .into()
}

impl Scarce for Tmpfs {
    fn file(&self) -> &File {
        &self.file
    }

    fn page(&self) -> u64 {
        4096
    }

    fn exhaust(&self) -> File {
        let mut other = create(&self.folder, "other");
        while other.write(&[0; 4096]).is_ok() {}
        other
    }
}

struct Huge {
    file: File,
    /// Last.
    pool: Pool,
}

impl Huge {
    fn take() -> Result<Self, String> {
        let pool = Pool::make(PAGES)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        let file = File::from(memfd_create("huge", flags).unwrap());
        fallocate(&file, FallocateFlags::empty(), 0, PAGES * HUGE_PAGE).unwrap();
        Ok(Self { file, pool })
    }
}

impl Scarce for Huge {
    fn file(&self) -> &File {
        &self.file
    }

    fn page(&self) -> u64 {
        HUGE_PAGE
    }

    fn exhaust(&self) -> File {
        self.pool.exhaust()
    }
}

/// Both kinds, as far as this machine has them.
fn each(test: impl Fn(&dyn Scarce)) {
    let tmpfs = Tmpfs::mount();
    match &tmpfs {
        Ok(memory) => test(memory),
        Err(why) => skip(why),
    }
    let huge = Huge::take();
    match &huge {
        Ok(memory) => test(memory),
        Err(why) => skip(why),
    }
}

/// Says past the test's capture that a part of it is not made.
fn skip(why: &str) {
    let line = format!("skipped a part of give_back: {why}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A machine with this memory behind its own.
fn machine(daemon: &Daemon, name: &str, memory: &File, bytes: u64) -> FrontEnd {
    let mut front_end = FrontEnd::connect(&daemon.socket(name), RINGS);
    let mut payload = pair(2, 0);
    payload.extend(words(&[GUEST, RINGS, USER, 0]));
    payload.extend(words(&[OTHER, bytes, OTHER_USER, 0]));
    let rings = front_end.memory.try_clone().unwrap();
    let files = [rings.as_fd(), memory.as_fd()];
    assert_eq!(front_end.ask(SET_MEM_TABLE, &payload, &files), Some(0));
    front_end.start();
    front_end
}

/// RELINQUISH of one range: its status, and how many pages count.
fn relinquish(front_end: &mut FrontEnd, address: u64, bytes: u64) -> (u8, u64) {
    let mut header = [0; 48];
    header[0] = 9;
    header[40] = 1;
    front_end.write(0x3000, &header);
    front_end.write(0x3030, &words(&[address, bytes]));
    front_end.offer(&[(0x3000, 64, false), (0x4000, 17, true)]);
    assert!(front_end.is_answered());
    assert_eq!(front_end.read(0x4000), 0);
    let pages = (0..8).map(|at| u64::from(front_end.read(0x4008 + at)) << (8 * at));
    (front_end.read(0x4010), pages.sum())
}

#[test]
fn what_may_not_come_back_stays_with_the_guest() {
    each(|memory| {
        let mut daemon = Daemon::start();
        let page = memory.page();
        let mut a = machine(&daemon, "a", memory.file(), PAGES * page);
        let last = OTHER + (PAGES - 1) * page;
        for (address, bytes) in [(last, page), (OTHER, PAGES * page), (last, 4096)] {
            assert_eq!(relinquish(&mut a, address, bytes), (NOT_MEMORY, 0));
        }
        // Its own memory may go.
        assert_eq!(relinquish(&mut a, GUEST + 0x8_0000, 8192), (OK, 2));
        let _others = memory.exhaust();
        ask_limits(&mut a, last - GUEST);
        assert!(a.is_answered());
        assert!(daemon.is_running());
    });
}

#[test]
fn where_the_operator_allows_it_a_page_that_is_missing_ends_that_connection_only() {
    each(|memory| {
        let mut daemon = Daemon::start_giving_any();
        let page = memory.page();
        let mut a = machine(&daemon, "a", memory.file(), PAGES * page);
        let mut b = FrontEnd::connect(&daemon.socket("b"), RINGS);
        assert_eq!(b.share_memory(RINGS), Some(0));
        b.start();
        let last = OTHER + (PAGES - 1) * page;
        if page > 4096 {
            assert_eq!(relinquish(&mut a, last, 4096), (NOT_MEMORY, 0));
        }
        assert_eq!(relinquish(&mut a, last, page), (OK, page / 4096));
        let _others = memory.exhaust();
        ask_limits(&mut a, last - GUEST);
        assert_eq!(a.receive(), None, "the connection has ended");
        ask_limits(&mut b, 0x4000);
        assert!(b.is_answered());
        assert!(daemon.is_running());
    });
}
