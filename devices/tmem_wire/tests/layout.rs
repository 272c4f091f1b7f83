// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The wire format against the tables of `spec/`, byte by byte.

use tmem_wire::*;

fn config() -> Config {
    Config {
        magic: Config::MAGIC,
        version: Config::VERSION,
        capabilities: Capabilities::PERSISTENT,
        instance: [0xab; 16],
        page_shift: 12,
        max_run: 256,
        max_extents: 128,
        max_pools: 64,
        request_queues: 2,
        max_ranges: 256,
    }
}

#[test]
fn configuration_space_is_laid_out_as_specified() {
    let bytes = config().encode();
    assert_eq!(bytes[..8], *b"TMEM\x01\0\0\0");
    assert_eq!(bytes[8..16], [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes[16..32], [0xab; 16]);
    assert_eq!(
        bytes[32..56],
        [
            12, 0, 0, 0, 0, 1, 0, 0, 128, 0, 0, 0, 64, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0
        ]
    );
    assert_eq!(bytes[56..], [0; 8]);
    assert_eq!(Config::decode(&bytes), config());
}

#[test]
fn a_driver_takes_only_what_it_understands() {
    assert!(config().is_supported());
    let unsupported: [fn(&mut Config); 6] = [
        |config| config.magic ^= 1,
        |config| config.version = 2,
        |config| config.page_shift = 16,
        |config| config.max_run = 0,
        |config| config.max_pools = 0,
        |config| config.request_queues = 0,
    ];
    for change in unsupported {
        let mut config = config();
        change(&mut config);
        assert!(!config.is_supported(), "{config:?}");
    }
}

#[test]
fn a_device_without_a_back_end_is_taken_and_known_by_its_instance() {
    assert!(config().has_back_end());
    let mut config = config();
    config.instance = Config::NO_BACK_END;
    assert_eq!(config.encode()[16..32], [0; 16]);
    assert!(config.is_supported());
    assert!(!config.has_back_end());
    // Any other bit makes it an instance.
    config.instance[15] = 1;
    assert!(config.has_back_end());
}

#[test]
fn unknown_capabilities_do_not_hide_known_ones() {
    let offered = Capabilities(u64::MAX);
    assert!(offered.contains(Capabilities::FLUSH_EXTENTS));
    assert!(!Capabilities(1 << 63).contains(Capabilities::PERSISTENT));
    let mut config = config();
    config.capabilities = offered;
    assert!(config.is_supported());
}

#[test]
fn requests_are_laid_out_as_specified() {
    let mut object = [0; 24];
    object[0] = 7;
    let header = RequestHeader {
        op: Op::Get as u16,
        flags: RequestFlags::REMOVE,
        pool: 0x0102_0304,
        object,
        index: u64::MAX - 1,
        count: 9,
    };
    let bytes = header.encode();
    assert_eq!(bytes[..8], [4, 0, 1, 0, 4, 3, 2, 1]);
    assert_eq!(bytes[8..32], object);
    assert_eq!(bytes[32..40], (u64::MAX - 1).to_le_bytes());
    assert_eq!(bytes[40..], [9, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(RequestHeader::decode(&bytes), header);

    let spec = PoolSpec::shared([9; 16]);
    assert_eq!(spec.encode()[..8], [2, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(spec.encode()[8..24], [9; 16]);
    assert_eq!(PoolSpec::decode(&spec.encode()), spec);
    let spec = PoolSpec::verified([9; 16]);
    assert_eq!(spec.encode()[..8], [2, 0, 0, 0, 3, 0, 0, 0]);
    assert_eq!(PoolSpec::decode(&spec.encode()), spec);
    let spec = PoolSpec::own(PoolKind::Persistent);
    assert_eq!(
        spec.encode()[..24],
        [[1, 0, 0, 0, 0, 0, 0, 0], [0; 8], [0; 8]].concat()
    );
    assert_eq!(PoolSpec::decode(&spec.encode()), spec);

    let extent = Extent { index: 5, count: 6 };
    assert_eq!(
        extent.encode(),
        [5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(Extent::decode(&extent.encode()), extent);

    let range = MemoryRange {
        address: 0x1000,
        bytes: 0x20_0000,
    };
    assert_eq!(
        range.encode(),
        [0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0]
    );
    assert_eq!(MemoryRange::decode(&range.encode()), range);
}

#[test]
fn answers_are_laid_out_as_specified() {
    let answer = AnswerHeader {
        status: Status::QUOTA.with_prior_removed(true),
        hints: Hints::FULL,
        pages: 0x0807_0605_0403_0201,
    };
    let bytes = answer.encode();
    assert_eq!(bytes, [0xa0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(AnswerHeader::decode(&bytes), answer);

    let limits = Limits {
        quota_bytes: 1,
        held_bytes: 2,
        swap_pages: 3,
        persistent_pages: 4,
        ephemeral_pages: 5,
        hints: Hints::FROZEN,
        memory_bytes: 7,
        backed_bytes: 8,
    };
    let bytes = limits.encode();
    for (field, value) in [1, 2, 3, 4, 5, 2, 7, 8].into_iter().enumerate() {
        assert_eq!(bytes[8 * field], value);
    }
    assert_eq!(Limits::decode(&bytes), limits);
    assert_eq!(Event { kind: 2 }.encode()[..4], [2, 0, 0, 0]);
}

#[test]
fn reserved_bytes_are_written_as_zero_and_ignored() {
    let header = RequestHeader {
        op: 1,
        flags: RequestFlags(0),
        pool: 0,
        object: [0; 24],
        index: 0,
        count: 0,
    };
    let mut bytes = header.encode();
    assert_eq!(bytes[44..], [0; 4]);
    bytes[44..].fill(0xff);
    assert_eq!(RequestHeader::decode(&bytes), header);

    let spec = PoolSpec::shared([7; 16]);
    let mut bytes = spec.encode();
    assert_eq!(bytes[24..], [0; 8]);
    bytes[24..].fill(0xff);
    assert_eq!(PoolSpec::decode(&bytes), spec);

    let mut bytes = Limits::default().encode();
    assert_eq!(bytes[44..48], [0; 4]);
    bytes[44..48].fill(0xff);
    assert_eq!(Limits::decode(&bytes), Limits::default());

    let event = Event { kind: 1 };
    let mut bytes = event.encode();
    assert_eq!(bytes[4..], [0; 28]);
    bytes[4..].fill(0xff);
    assert_eq!(Event::decode(&bytes), event);
}

#[test]
fn a_handle_is_a_hash_in_two_parts() {
    let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    let hash = PageHash(bytes);
    assert_eq!(hash.object()[..], bytes[..24]);
    assert_eq!(hash.index(), 0x1f1e_1d1c_1b1a_1918);
    assert_eq!(PageHash::of_handle(&hash.object(), hash.index()), hash);
}

#[test]
fn an_unknown_status_is_never_success() {
    for code in 0..=u8::MAX {
        let status = Status(code);
        assert_eq!(status.is_ok(), code & 0x7f == 0, "{code:#x}");
        assert_eq!(
            status.code().with_prior_removed(status.prior_removed()),
            status
        );
    }
}

#[test]
fn an_unknown_event_is_no_known_one() {
    let unknown = Event { kind: 77 };
    assert_ne!(unknown.kind, EventKind::Limits as u32);
    assert_ne!(unknown.kind, EventKind::Detach as u32);
    assert_eq!(Event::decode(&unknown.encode()), unknown);
}

#[test]
fn numbers_name_operations_and_kinds_one_to_one() {
    for op in Op::ALL {
        assert_eq!(Op::from_wire(op as u16), Some(op));
    }
    assert_eq!(
        (0..=u16::MAX).filter_map(Op::from_wire).count(),
        Op::ALL.len()
    );
    assert_eq!(PoolKind::from_wire(1), Some(PoolKind::Persistent));
    assert_eq!(PoolKind::from_wire(2), Some(PoolKind::Ephemeral));
    assert_eq!(PoolKind::from_wire(0), None);
}
