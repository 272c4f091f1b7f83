// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The swap header that is there ready-made: as mkswap(8) of util-linux writes it, by hand
//! (include/linux/swap.h).

use virtio_blk_tmem::testing::range;

use super::*;

const UUID: [u8; 16] = *b"0123456789abcdef";

fn swap_disk(blocks: u64) -> Arc<Disk> {
    let client = store()
        .add_client(ClientConfig::new("vm", 4 * MIB))
        .unwrap();
    let header = SwapHeader {
        label: "tmem".into(),
        uuid: UUID,
    };
    let config = DiskConfig::new("vm", blocks * 4096).with_swapspace(header);
    Arc::new(Disk::new(client, config).unwrap())
}

fn header(last_page: u32) -> Vec<u8> {
    let mut page = vec![0; BLOCK];
    page[1024..1028].copy_from_slice(&[1, 0, 0, 0]);
    page[1028..1032].copy_from_slice(&last_page.to_le_bytes());
    page[1036..1052].copy_from_slice(&UUID);
    page[1052..1056].copy_from_slice(b"tmem");
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    page
}

#[test]
fn the_header_is_there_and_holds_nothing() {
    let mem = memory();
    let disk = swap_disk(1000);
    let mut driver = driver(&mem, &disk);
    let read = driver.read(0, 16).data;
    assert_eq!(read[..BLOCK], header(999));
    assert_eq!(read[BLOCK..], [0; BLOCK]);
    assert_eq!(pages(&disk), 0);
    // In pieces.
    assert_eq!(driver.read(7, 1).data, header(999)[7 * 512..]);
}

#[test]
fn what_the_guest_writes_over_it_is_there() {
    let mem = memory();
    let disk = swap_disk(1000);
    let mut driver = driver(&mem, &disk);
    assert_eq!(driver.write(0, &data(1, 8)), OK);
    assert!(driver.read(0, 8).data == data(1, 8));
    // Zeros, too: what is wiped stays wiped.
    assert_eq!(driver.write(0, &[0; BLOCK]), OK);
    assert_eq!(driver.read(0, 8).data, [0; BLOCK]);
    assert_eq!(driver.discard(&[range(0, 8, 0)]), OK);
    assert_eq!(driver.read(0, 8).data, header(999));
    // A piece: the rest of the header stays.
    assert_eq!(driver.write(2, &[7; 512]), OK);
    let mut expected = header(999);
    expected[1024..1536].fill(7);
    assert_eq!(driver.read(0, 8).data, expected);
}

#[test]
fn zeroes_over_it_are_zeros_and_a_discard_gives_it_back() {
    for (sectors, last) in [(8, 0), (16, 1)] {
        for unmap in [0, 1] {
            let mem = memory();
            let disk = swap_disk(1000);
            let mut driver = driver(&mem, &disk);
            driver.write(8, &data(1, 8));
            assert_eq!(driver.write_zeroes(&[range(0, sectors, unmap)]), OK);
            assert_eq!(driver.read(0, 8).data, [0; BLOCK]);
            let next = driver.read(8, 8).data;
            assert_eq!(next == [0; BLOCK], last == 1);
            assert_eq!(driver.discard(&[range(0, 8, 0)]), OK);
            assert_eq!(driver.read(0, 8).data, header(999));
        }
    }
}

#[test]
fn a_part_of_it_is_zeroed_to_the_sector() {
    let mem = memory();
    let disk = swap_disk(1000);
    let mut driver = driver(&mem, &disk);
    assert_eq!(driver.write_zeroes(&[range(0, 7, 0)]), OK);
    let mut expected = header(999);
    expected[..7 * 512].fill(0);
    assert_eq!(driver.read(0, 8).data, expected);
}

#[test]
fn a_disk_that_is_larger_than_a_header_can_say_says_what_it_can() {
    let mem = memory();
    let disk = swap_disk(1 << 33);
    assert_eq!(driver(&mem, &disk).read(0, 8).data, header(u32::MAX));
}

#[test]
fn a_long_label_is_cut() {
    let mem = memory();
    let client = store()
        .add_client(ClientConfig::new("vm", 4 * MIB))
        .unwrap();
    let header = SwapHeader {
        label: "a label of more than sixteen bytes".into(),
        uuid: UUID,
    };
    let config = DiskConfig::new("vm", MIB).with_swapspace(header);
    let disk = Arc::new(Disk::new(client, config).unwrap());
    let read = driver(&mem, &disk).read(0, 8).data;
    assert_eq!(&read[1052..1070], b"a label of more \0\0");
}
