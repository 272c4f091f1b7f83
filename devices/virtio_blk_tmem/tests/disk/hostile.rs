// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a driver may get wrong, or do on purpose. Each mistake is counted once, is answered
//! where that can be, and the queue goes on.

use virtio_blk_tmem::Fault;
use virtio_blk_tmem::testing::{Layout, range, request};
use virtio_serve::Step;
use virtio_serve::testing::{DriverQueue, Span};
use vm_memory::Bytes;

use super::*;

const BLOCKS: u64 = 1000;
const NOWHERE: u64 = 1 << 40;

/// What `act` returns; it must be counted as `fault` once, change nothing, and the queue must
/// go on.
fn one_fault<T>(fault: Fault, act: impl FnOnce(&mut TestDriver<'_>) -> T) -> T {
    let mem = memory();
    let disk = disk(BLOCKS);
    let mut driver = driver(&mem, &disk);
    driver.write(0, &data(1, 64));
    let outcome = act(&mut driver);
    for known in Fault::ALL {
        assert_eq!(
            disk.metrics().faults(known),
            u64::from(known == fault),
            "{known:?}"
        );
    }
    assert!(
        driver.read(0, 64).data == data(1, 64),
        "{fault:?} had an effect"
    );
    assert_eq!(pages(&disk), 8);
    assert_eq!(driver.write(80, &data(2, 8)), OK);
    assert!(driver.read(80, 8).data == data(2, 8));
    outcome
}

fn call(driver: &mut TestDriver<'_>, sent: &[u8], room: usize) -> Answer {
    driver.call(sent, room, &Layout::default())
}

/// Makes a request of spans.
fn spans(driver: &mut TestDriver<'_>, readable: &[Span], writable: &[Span]) -> u32 {
    driver.add(readable, writable, false).unwrap();
    driver.run()
}

fn status_of(driver: &TestDriver<'_>, room: usize) -> u8 {
    driver.answer(0, room).status
}

#[test]
fn no_room_for_a_status() {
    let used = one_fault(Fault::StatusMissing, |driver| {
        let [readable, _] = driver.lay_out(&request(0, 0), 0, &Layout::default());
        spans(driver, &readable, &[])
    });
    assert_eq!(used, 0);
    // Not even with data to be written.
    let used = one_fault(Fault::StatusMissing, |driver| {
        let sent = [&request(1, 0)[..], &[9; BLOCK]].concat();
        let [readable, _] = driver.lay_out(&sent, 0, &Layout::default());
        spans(driver, &readable, &[Span { addr: 0, len: 0 }])
    });
    assert_eq!(used, 0);
}

#[test]
fn a_status_outside_memory_keeps_the_request_from_having_an_effect() {
    let used = one_fault(Fault::StatusUnmapped, |driver| {
        let sent = [&request(1, 0)[..], &[9; BLOCK]].concat();
        let [readable, _] = driver.lay_out(&sent, 0, &Layout::default());
        spans(
            driver,
            &readable,
            &[Span {
                addr: NOWHERE,
                len: 1,
            }],
        )
    });
    assert_eq!(used, 0);
}

#[test]
fn short_headers() {
    for len in [0, 1, 15] {
        let answer = one_fault(Fault::HeaderShort, |driver| {
            call(driver, &request(0, 0)[..len], 512)
        });
        assert_eq!((answer.status, answer.used), (IOERR, 513));
        assert_eq!(
            answer.data, [0; 512],
            "what was there before is not for the driver"
        );
    }
}

#[test]
fn a_header_outside_memory() {
    for addr in [NOWHERE, u64::MAX - 15, u64::MAX] {
        let status = one_fault(Fault::HeaderUnmapped, |driver| {
            let [_, writable] = driver.lay_out(&[], 0, &Layout::default());
            spans(driver, &[Span { addr, len: 16 }], &writable);
            status_of(driver, 0)
        });
        assert_eq!(status, IOERR);
    }
}

#[test]
fn data_in_the_wrong_direction() {
    // A read into buffers that are not to be written, and one beside them.
    for room in [0, 512] {
        let answer = one_fault(Fault::DataDirection, |driver| {
            call(driver, &[&request(0, 0)[..], &[1; 512]].concat(), room)
        });
        assert_eq!((answer.status, answer.data), (IOERR, vec![0; room]));
    }
    // A write from buffers that are to be written.
    for sent in [0, 512] {
        let answer = one_fault(Fault::DataDirection, |driver| {
            call(driver, &[&request(1, 0)[..], &vec![1; sent]].concat(), 512)
        });
        assert_eq!((answer.status, answer.data), (IOERR, vec![0; 512]));
    }
}

#[test]
fn data_that_is_not_of_sectors() {
    for len in [1, 511, 513, 4095, 4097] {
        let answer = one_fault(Fault::Alignment, |driver| call(driver, &request(0, 0), len));
        assert_eq!((answer.status, answer.data), (IOERR, vec![0; len]));
        let answer = one_fault(Fault::Alignment, |driver| {
            call(driver, &[&request(1, 0)[..], &vec![1; len]].concat(), 0)
        });
        assert_eq!(answer.status, IOERR);
    }
}

#[test]
fn sectors_that_the_disk_does_not_have() {
    let end = 8 * BLOCKS;
    let places = [
        (end, 1),
        (end - 1, 2),
        (end - 7, 8),
        (end - 8, 9),
        (end + 1, 0),
        (u64::MAX, 1),
        (u64::MAX / 512, 1),
        (u64::MAX / 512 - 1, 8),
        (u64::MAX / 512 + 1, 1),
        (1 << 55, 8),
    ];
    for (sector, sectors) in places {
        let answer = one_fault(Fault::Capacity, |driver| driver.read(sector, sectors));
        assert_eq!(
            (answer.status, answer.data),
            (IOERR, vec![0; 512 * sectors])
        );
        let status = one_fault(Fault::Capacity, |driver| {
            driver.write(sector, &vec![1; 512 * sectors])
        });
        assert_eq!(status, IOERR);
        let list = [range(0, 8, 0), range(sector, sectors as u32, 0)];
        let status = one_fault(Fault::Capacity, |driver| driver.discard(&list));
        assert_eq!(status, IOERR);
        let status = one_fault(Fault::Capacity, |driver| driver.write_zeroes(&list));
        assert_eq!(status, IOERR);
    }
}

#[test]
fn requests_of_nothing_are_done() {
    let mem = memory();
    let disk = disk(BLOCKS);
    let mut driver = driver(&mem, &disk);
    for sector in [0, 7, 8 * BLOCKS] {
        assert_eq!(driver.read(sector, 0).status, OK);
        assert_eq!(driver.write(sector, &[]), OK);
        assert_eq!(driver.discard(&[range(sector, 0, 0)]), OK);
        assert_eq!(driver.write_zeroes(&[range(sector, 0, 0)]), OK);
    }
    assert_eq!(counted(&disk, "request_status", "ok"), 12);
}

#[test]
fn data_outside_memory() {
    let writable = |driver: &TestDriver<'_>, addr| {
        let [_, status] = driver.lay_out(&request(0, 0), 0, &Layout::default());
        vec![Span { addr, len: 8192 }, status[0]]
    };
    for addr in [NOWHERE, u64::MAX, u64::MAX - 4096, (32 << 20) - 4096] {
        let (used, status) = one_fault(Fault::DataUnmapped, |driver| {
            let writable = writable(driver, addr);
            let [from, _] = driver.places();
            let used = spans(
                driver,
                &[Span {
                    addr: from,
                    len: 16,
                }],
                &writable,
            );
            (used, status_of(driver, 0))
        });
        assert_eq!((used, status), (0, IOERR));
    }
}

/// A write is done up to the block whose data is missing.
#[test]
fn a_write_from_outside_memory_is_an_error_and_the_block_is_as_it_was() {
    for (sector, len) in [(8, 4096), (11, 512)] {
        let status = one_fault(Fault::DataUnmapped, |driver| {
            let [header, status] = driver.lay_out(&request(1, sector), 0, &Layout::default());
            let data = Span { addr: NOWHERE, len };
            spans(driver, &[header[0], data], &status);
            status_of(driver, 0)
        });
        assert_eq!(status, IOERR);
    }
}

#[test]
fn more_data_than_a_request_may_have() {
    // The same buffer, again and again: seg_max times size_max, and a sector.
    let many = |len: u32| {
        vec![
            Span {
                addr: 4 << 20,
                len: 1 << 20
            };
            (len >> 20) as usize
        ]
    };
    for kind in [0, 1] {
        let (used, status) = one_fault(Fault::TooLong, |driver| {
            let [header, status] = driver.lay_out(&request(kind, 0), 0, &Layout::default());
            let mut data = many(126 << 20);
            data.push(Span {
                addr: 4 << 20,
                len: 512,
            });
            let used = match kind {
                0 => spans(driver, &header, &[data, status].concat()),
                _ => spans(driver, &[header, data].concat(), &status),
            };
            (used, status_of(driver, 0))
        });
        assert_eq!(status, IOERR);
        assert_eq!(used, if kind == 0 { 0 } else { 1 });
    }
    // Lengths that do not even add up in 32 bits.
    let (used, status) = one_fault(Fault::ChainBroken, |driver| {
        let [header, status] = driver.lay_out(&request(0, 0), 0, &Layout::default());
        let huge = Span {
            addr: 0,
            len: u32::MAX,
        };
        let used = spans(driver, &header, &[huge, huge, huge, status[0]]);
        (used, status_of(driver, 0))
    });
    assert_eq!((used, status), (0, Answer::UNTOUCHED));
}

#[test]
fn lists_of_ranges_that_are_none() {
    let one = range(0, 8, 0).to_vec();
    for sent in [
        Vec::new(),
        one[..15].to_vec(),
        [&one[..], &[0]].concat(),
        one.repeat(257),
        range(0, u32::MAX, 0).to_vec(),
    ] {
        for kind in [11, 13] {
            let answer = one_fault(Fault::Ranges, |driver| {
                call(driver, &[&request(kind, 0)[..], &sent].concat(), 0)
            });
            assert_eq!(answer.status, IOERR);
        }
    }
    // As many as there may be.
    let mem = memory();
    let disk = disk(BLOCKS);
    let mut driver = driver(&mem, &disk);
    driver.write(0, &data(1, 8 * 256));
    let ranges: Vec<_> = (0..256).map(|nth| range(8 * nth, 8, 0)).collect();
    assert_eq!(driver.discard(&ranges), OK);
    assert_eq!(pages(&disk), 0);
}

#[test]
fn flags_of_ranges_that_are_not_known() {
    let lists = [(11, 1), (11, 2), (11, u32::MAX), (13, 2), (13, 1 << 31)];
    for (kind, flags) in lists {
        let answer = one_fault(Fault::RangeFlags, |driver| {
            let ranges = [range(0, 8, 0), range(8, 8, flags)].concat();
            call(driver, &[&request(kind, 0)[..], &ranges].concat(), 0)
        });
        assert_eq!(answer.status, UNSUPP);
    }
}

#[test]
fn types_that_are_not_known() {
    // GET_LIFETIME, SECURE_ERASE, zones, SCSI commands of old, and none.
    for kind in [2, 3, 5, 6, 7, 10, 12, 14, 15, 16, 18, 26, 1 << 31, u32::MAX] {
        let answer = one_fault(Fault::UnknownType, |driver| {
            call(driver, &request(kind, 0), 40)
        });
        assert_eq!((answer.status, answer.data), (UNSUPP, vec![0; 40]));
    }
}

#[test]
fn an_id_where_there_is_little_room() {
    let mem = memory();
    let disk = disk(BLOCKS);
    let mut driver = driver(&mem, &disk);
    for room in [0, 1, 19, 21] {
        let answer = call(&mut driver, &request(8, 0), room);
        let id = [&b"vm"[..], &[0; 30]].concat();
        assert_eq!((answer.status, answer.used), (OK, room as u32 + 1));
        assert_eq!(answer.data, id[..room]);
    }
}

#[test]
fn a_chain_that_loops() {
    one_fault(Fault::ChainBroken, |driver| {
        let [from, _] = driver.places();
        let span = Span {
            addr: from,
            len: 16,
        };
        driver.ring().set_descriptor(255, span, 1, 255);
        driver.ring().push(255);
        driver.run()
    });
}

#[test]
fn a_table_outside_memory_or_of_no_size() {
    for (addr, len) in [(NOWHERE, 32), (0x1000, 0), (0x1000, 17)] {
        one_fault(Fault::ChainBroken, |driver| {
            driver.ring().set_descriptor(255, Span { addr, len }, 4, 0);
            driver.ring().push(255);
            driver.run()
        });
    }
}

#[test]
fn readable_after_writable() {
    let answer = one_fault(Fault::ChainOrder, |driver| {
        let [from, to] = driver.places();
        driver.lay_out(&request(1, 0), 0, &Layout::default());
        // Status, then the header.
        driver
            .ring()
            .set_descriptor(254, Span { addr: to, len: 1 }, 3, 255);
        driver.ring().set_descriptor(
            255,
            Span {
                addr: from,
                len: 16,
            },
            0,
            0,
        );
        driver.ring().push(254);
        let used = driver.run();
        driver.answer(used, 0)
    });
    assert_eq!((answer.used, answer.status), (1, IOERR));
}

#[test]
fn a_head_that_does_not_exist() {
    one_fault(Fault::HeadRange, |driver| {
        driver.ring().push(256);
        assert_eq!(driver.step(&mut || true), Step::Skipped);
    });
}

#[test]
fn an_available_index_that_runs_ahead() {
    let mem = memory();
    let disk = disk(BLOCKS);
    let mut driver = driver(&mem, &disk);
    driver.ring().set_avail_idx(300);
    assert_eq!(driver.step(&mut || true), Step::Broken);
    assert_eq!(disk.metrics().faults(Fault::QueueIndex), 1);
    // Once it makes sense, the queue goes on.
    driver.ring().set_avail_idx(0);
    assert_eq!(driver.write(0, &data(1, 8)), OK);
}

#[test]
fn rings_that_lie_over_each_other() {
    let mem = memory();
    let disk = disk(BLOCKS);
    let ring = DriverQueue::new(&mem, 0, 16, true);
    let mut side = ring.device_side();
    virtio_queue::QueueT::set_used_ring_address(&mut side, Some(16 * 8), Some(0));
    let mut queue = virtio_blk_tmem::RequestQueue::default();
    let step = queue.step(&disk, &mem, &mut side, &mut || true);
    assert_eq!(step, Step::Broken);
    assert_eq!(disk.metrics().faults(Fault::RingOverlap), 1);
}

/// Memory that is truncated under the device: nothing is completed after that.
#[test]
fn nothing_is_completed_once_memory_is_lost() {
    use vm_memory::FileOffset;

    let file = tempfile::tempfile().unwrap();
    file.set_len(32 << 20).unwrap();
    let region = (
        GuestAddress(0),
        32 << 20,
        Some(FileOffset::new(file.try_clone().unwrap(), 0)),
    );
    let mem = Arc::new(Memory::from_ranges_with_files([region]).unwrap());
    let disk = disk(BLOCKS);
    let _watch = virtio_serve::Watch::new(mem.clone(), disk.memory_lost()).unwrap();
    let mut driver = Driver::new(&*mem, &disk, 0, 256);
    driver.write(0, &data(1, 8));
    let sent = [&request(1, 0)[..], &data(2, 8)].concat();
    let [readable, writable] = driver.lay_out(&sent, 0, &Layout::default());
    driver.add(&readable, &writable, false).unwrap();
    // The ring stays, the data goes.
    file.set_len(1 << 20).unwrap();
    assert_eq!(driver.step(&mut || true), Step::Broken);
    assert!(driver.ring().pop_used().is_none());
    assert!(disk.memory_lost().is_lost());
    assert_eq!(pages(&disk), 1);
    let mut byte = [0];
    mem.read_slice(&mut byte, GuestAddress(0)).unwrap();
}
