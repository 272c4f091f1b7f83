// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What outlives the device: pages by the client's identity, and requests that run again.

use tmem_store::{Client, Identity, PageMemory};
use virtio_blk_tmem::testing::{Layout, range, request};
use virtio_serve::Step;

use super::*;

const IDENTITY: Identity = Identity::new([3; 16]);

/// Makes a request available whose steps are the test's.
fn add(driver: &mut TestDriver<'_>, sent: &[u8], room: usize) {
    let [readable, writable] = driver.lay_out(sent, room, &Layout::default());
    driver.add(&readable, &writable, false).unwrap();
}

#[test]
fn long_reads_and_writes_are_stopped_and_run_again() {
    const SECTORS: usize = 8 * 400;
    for (kind, sent, room) in [(1, data(3, SECTORS), 0), (0, Vec::new(), 512 * SECTORS)] {
        let mem = memory();
        let disk = disk(1000);
        let mut driver = driver(&mem, &disk);
        driver.write(0, &data(4, SECTORS));
        add(&mut driver, &[&request(kind, 0)[..], &sent].concat(), room);
        for _ in 0..3 {
            assert_eq!(driver.step(&mut || false), Step::Stopped);
            assert!(driver.ring().pop_used().is_none());
        }
        let used = driver.run();
        let answer = driver.answer(used, room);
        assert_eq!(answer.status, OK);
        match kind {
            1 => assert!(driver.read(0, SECTORS).data == sent),
            _ => assert!(answer.data == data(4, SECTORS)),
        }
    }
}

#[test]
fn long_discards_and_zeroings_are_stopped_and_run_again() {
    const BLOCKS: u64 = 4096;
    for kind in [11, 13] {
        let mem = memory();
        let disk = disk(16 * BLOCKS);
        let mut driver = driver(&mem, &disk);
        for block in 0..BLOCKS {
            driver.write(8 * 16 * block, &[1; BLOCK]);
        }
        assert_eq!(pages(&disk), BLOCKS);
        let all = range(0, (8 * 16 * BLOCKS) as u32, 0);
        add(&mut driver, &[request(kind, 0), all].concat(), 0);
        for _ in 0..3 {
            let (before, mut left) = (pages(&disk), 4);
            let step = driver.step(&mut || {
                left -= 1;
                left > 0
            });
            assert_eq!(step, Step::Stopped);
            assert!(pages(&disk) < before);
        }
        assert!(pages(&disk) > 0);
        let used = driver.run();
        assert_eq!(driver.answer(used, 0).status, OK);
        assert_eq!(pages(&disk), 0);
    }
}

/// As after a crash between effect and answer.
#[test]
fn a_request_that_runs_twice_is_as_one() {
    let mem = memory();
    let disk = disk(100);
    let mut driver = driver(&mem, &disk);
    driver.write(0, &data(1, 32));
    let requests = [
        (1, 4, data(2, 9)),
        (11, 0, range(8, 8, 0).to_vec()),
        (13, 0, range(19, 3, 0).to_vec()),
        (1, 24, data(3, 8)),
    ];
    let mut expected = data(1, 32);
    expected[4 * 512..][..9 * 512].copy_from_slice(&data(2, 9));
    expected[8 * 512..][..8 * 512].fill(0);
    expected[19 * 512..][..3 * 512].fill(0);
    expected[24 * 512..].copy_from_slice(&data(3, 8));
    for (kind, sector, sent) in &requests {
        let sent = [&request(*kind, *sector)[..], sent].concat();
        let answers = [0, 1].map(|_| driver.call(&sent, 0, &Layout::default()).status);
        assert_eq!(answers, [OK, OK]);
    }
    assert!(driver.read(0, 32).data == expected);
}

fn config() -> ClientConfig {
    ClientConfig::new("vm", 16 * MIB).with_identity(IDENTITY)
}

fn disk_of(client: Client, blocks: u64) -> Arc<Disk> {
    let header = SwapHeader::default();
    let config = DiskConfig::new("vm", 4096 * blocks).with_swapspace(header);
    Arc::new(Disk::new(client, config).unwrap())
}

#[test]
#[expect(unsafe_code, reason = "takes over page memory")]
fn a_disk_is_adopted_by_its_identity() {
    let mem = memory();
    let store = store();
    let disk = disk_of(store.add_client(config()).unwrap(), 1000);
    {
        let mut driver = driver(&mem, &disk);
        driver.write(0, &[0; BLOCK]);
        driver.write(80, &data(1, 64));
        driver.write(83, &data(2, 3));
        driver.write(96, &[0; BLOCK]);
        driver.write(7992, &data(3, 8));
    }
    let file = store.page_memory().try_clone_to_owned().unwrap();
    // The daemon is killed: nobody tidies up.
    std::mem::forget((disk, store));
    // SAFETY: the store before is not used any more, and nobody else has the file.
    let file = unsafe { PageMemory::new(file) };

    let mut recovery = Store::recover(file, StoreConfig::with_limit(64 * MIB)).unwrap();
    let client = recovery.client(IDENTITY, config()).unwrap();
    // It was made smaller meanwhile.
    let disk = disk_of(client, 900);
    let mut driver = driver(&mem, &disk);
    let mut expected = data(1, 64);
    expected[3 * 512..6 * 512].copy_from_slice(&data(2, 3));
    expected[16 * 512..24 * 512].fill(0);
    assert!(driver.read(80, 64).data == expected);
    assert_eq!(
        driver.read(0, 8).data,
        [0; BLOCK],
        "a header that was wiped is back"
    );
    assert_eq!(driver.read(7992, 8).status, IOERR);
    assert_eq!(pages(&disk), 1 + 7);
    assert_eq!(counted(&disk, "blocks_destroyed", ""), 1);
}

#[test]
fn an_erased_disk_is_as_at_first() {
    let mem = memory();
    let disk = disk_of(store().add_client(config()).unwrap(), 100);
    let mut driver = driver(&mem, &disk);
    let first = driver.read(0, 800).data;
    driver.write(0, &data(1, 64));
    assert_eq!(disk.erase().unwrap(), 8);
    assert!(driver.read(0, 800).data == first);
    assert_eq!(driver.write(0, &data(1, 64)), OK);
}

/// Zeros would be a lie.
#[test]
fn a_disk_without_its_pool_answers_nothing_but_errors() {
    let mem = memory();
    let disk = disk(100);
    let mut driver = driver(&mem, &disk);
    driver.write(0, &data(1, 8));
    disk.client().destroy_pool(0);
    let read = driver.read(0, 8);
    assert_eq!((read.status, read.data), (IOERR, vec![0; BLOCK]));
    assert_eq!(driver.write(0, &data(1, 8)), IOERR);
    assert_eq!(driver.discard(&[range(0, 8, 0)]), IOERR);
}

/// The pages of a driver that goes on are gone.
#[test]
fn an_incomplete_disk_has_errors_where_it_might_have_zeros() {
    let mem = memory();
    let disk = disk_of(store().add_client(config()).unwrap(), 100);
    let mut driver = driver(&mem, &disk);
    disk.set_incomplete(true);
    for block in [0, 5] {
        let read = driver.read(8 * block, 8);
        assert_eq!((read.status, read.data), (IOERR, vec![0; BLOCK]));
        assert_eq!(driver.write(8 * block + 1, &data(1, 1)), IOERR);
        // What is written as a whole is known, zeros as well.
        assert_eq!(driver.write(8 * block, &[0; BLOCK]), OK);
        assert_eq!(driver.read(8 * block, 8).status, OK);
        assert_eq!(driver.write(8 * block + 1, &data(1, 1)), OK);
    }
    assert_eq!(driver.read(8, 8).status, IOERR);
    disk.set_incomplete(false);
    assert_eq!(driver.read(8, 8).status, OK);
}
