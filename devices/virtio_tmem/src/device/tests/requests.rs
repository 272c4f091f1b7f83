// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Well-formed requests.

use super::*;
use crate::testing::{Answer, Layout, header, request};
use tmem_wire::{AnswerHeader, Capabilities, Config, Extent, Hints, Op, PAGE_SIZE, RequestHeader};

#[test]
fn a_pool_is_made_kept_and_destroyed() {
    let mem = memory();
    let mut driver = driver(&mem, &device(&store(), "vm", 32 * MIB));

    assert_eq!(driver.create_pool(3, PoolKind::Persistent), Status::OK);
    driver.put(3, &OBJECT, 0, &[page_of(1), page_of(2)]);
    assert_eq!(driver.create_pool(3, PoolKind::Persistent), Status::EXISTS);
    assert_eq!(driver.get(3, &OBJECT, 0, 1).pages(1), [Status::OK]);

    let destroyed = driver.destroy_pool(3);
    assert_eq!(destroyed.status(), Status::OK);
    assert_eq!(destroyed.header().pages, 2);
    assert_eq!(driver.get(3, &OBJECT, 0, 1).status(), Status::NO_POOL);
    assert_eq!(driver.create_pool(3, PoolKind::Ephemeral), Status::OK);
    assert_eq!(driver.get(3, &OBJECT, 0, 1).pages(1), [Status::MISS]);
}

#[test]
fn an_answer_says_how_many_pages_and_how_many_bytes() {
    let mem = memory();
    let mut driver = rig(&mem);
    let pages: Vec<_> = (0..4).map(page_of).collect();

    let put = driver.put(PERSISTENT, &OBJECT, 10, &pages);
    assert_eq!(put.header().pages, 4);
    assert_eq!(put.used, 16 + 4);

    driver.flush(PERSISTENT, &OBJECT, 12, 1);
    let got = driver.get(PERSISTENT, &OBJECT, 10, 4);
    let (ok, miss) = (Status::OK, Status::MISS);
    assert_eq!(got.status(), Status::OK);
    assert_eq!(got.pages(4), [ok, ok, miss, ok]);
    assert_eq!(got.header().pages, 3);
    assert_eq!(got.used, 16 + 4 + 2 * 4096, "pages before the first miss");
    assert_eq!(got.page(4, 1), pages[1]);
    assert_eq!(got.page(4, 2), [Answer::UNTOUCHED; PAGE_SIZE]);
    assert_eq!(got.page(4, 3), pages[3]);
}

#[test]
fn a_second_put_replaces_the_page_and_says_so() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(PERSISTENT, &OBJECT, 0, &[page_of(1)]);
    let put = driver.put(PERSISTENT, &OBJECT, 0, &[page_of(2)]);
    assert_eq!(put.pages(1), [Status::OK.with_prior_removed(true)]);
    assert_eq!(driver.get(PERSISTENT, &OBJECT, 0, 1).page(1, 0), page_of(2));
}

#[test]
fn a_removing_get_removes_what_it_delivers() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(EPHEMERAL, &OBJECT, 0, &[page_of(1), page_of(2)]);
    let got = driver.get_as(EPHEMERAL, &OBJECT, 0, 3, true, &Layout::default());
    let (ok, miss) = (Status::OK, Status::MISS);
    assert_eq!(got.pages(3), [ok, ok, miss]);
    assert_eq!(got.page(3, 1), page_of(2));
    let again = driver.get(EPHEMERAL, &OBJECT, 0, 2);
    assert_eq!(again.pages(2), [miss, miss]);
}

#[test]
fn flushes_remove_runs_extents_and_objects() {
    let mem = memory();
    let mut driver = rig(&mem);
    let pages: Vec<_> = (0..8).map(page_of).collect();
    driver.put(PERSISTENT, &OBJECT, 0, &pages);
    driver.put(PERSISTENT, &[1; 24], 0, &pages);

    assert_eq!(
        driver
            .flush(PERSISTENT, &OBJECT, 6, u32::MAX)
            .header()
            .pages,
        2
    );
    let extent = |index, count| Extent { index, count };
    let flushed = driver.flush_extents(PERSISTENT, &OBJECT, &[extent(0, 1), extent(2, 2)]);
    assert_eq!(flushed.header().pages, 3);
    let left = driver.get(PERSISTENT, &OBJECT, 0, 8).pages(8);
    let kept: Vec<_> = left.iter().map(|status| status.is_ok()).collect();
    assert_eq!(kept, [false, true, false, false, true, true, false, false]);
    assert_eq!(driver.flush_object(PERSISTENT, &OBJECT).header().pages, 3);
    assert_eq!(driver.limits().persistent_pages, 8, "of the other object");
}

#[test]
fn the_quota_refuses_says_full_and_is_told() {
    let mem = memory();
    let device = device(&store(), "vm", 4 * MIB);
    let mut driver = driver(&mem, &device);
    driver.create_pool(0, PoolKind::Persistent);

    let refused = (0..100).find_map(|round| {
        let pages: Vec<_> = (0..64).map(|page| page_of(round * 64 + page)).collect();
        let put = driver.put(0, &OBJECT, round * 64, &pages);
        let statuses = put.pages(64);
        let refused = statuses.contains(&Status::QUOTA);
        refused.then(|| put.header())
    });
    let header = refused.expect("25 MiB do not fit into 4 MiB");
    assert_eq!(header.status, Status::OK);
    assert!(header.hints.contains(Hints::FULL));
    let limits = driver.limits();
    assert_eq!(limits.quota_bytes, 4 * MIB);
    assert!(limits.held_bytes <= 4 * MIB);
    assert!(limits.hints.contains(Hints::FULL));

    device.set_quota(32 * MIB);
    assert!(device.events().is_pending());
    let put = driver.put(0, &[5; 24], 0, &[page_of(1)]);
    assert_eq!(put.pages(1), [Status::OK]);
    assert!(!put.header().hints.contains(Hints::FULL));
}

#[test]
fn a_frozen_vm_can_only_replace_get_and_flush() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(PERSISTENT, &OBJECT, 0, &[page_of(1)]);
    driver.transport().device().set_frozen(true);

    let put = driver.put(PERSISTENT, &OBJECT, 0, &[page_of(2), page_of(3)]);
    let replaced = Status::OK.with_prior_removed(true);
    assert_eq!(put.pages(2), [replaced, Status::FROZEN]);
    assert!(put.header().hints.contains(Hints::FROZEN));
    assert_eq!(driver.get(PERSISTENT, &OBJECT, 0, 1).page(1, 0), page_of(2));
    assert_eq!(driver.flush(PERSISTENT, &OBJECT, 0, 1).header().pages, 1);
}

#[test]
fn a_replayed_sequence_leaves_the_pools_as_one_execution_does() {
    let mem = memory();
    let mut driver = rig(&mem);
    let sequence = |driver: &mut TestDriver<'_>| {
        driver.create_pool(PERSISTENT, PoolKind::Persistent);
        driver.put(
            PERSISTENT,
            &OBJECT,
            0,
            &[page_of(1), page_of(2), page_of(3)],
        );
        driver.flush(PERSISTENT, &OBJECT, 1, 1);
        driver.put(PERSISTENT, &OBJECT, 2, &[page_of(4)]);
        let mut bytes = driver.get(PERSISTENT, &OBJECT, 0, 3).bytes;
        bytes.drain(..AnswerHeader::SIZE);
        bytes
    };
    let once = sequence(&mut driver);
    let twice = sequence(&mut driver);
    assert_eq!(once, twice);
}

#[test]
fn requests_made_available_together_are_used_in_order() {
    let mem = memory();
    let mut driver = rig(&mem);
    let bytes = request(&header(Op::GetLimits, 0, &OBJECT, 0, 0), &[]);
    vm_memory::Bytes::write_slice(&mem, &bytes, GuestAddress(AREA)).unwrap();
    let span = |addr, len| crate::testing::Span { addr, len };
    let heads: Vec<_> = (0..20)
        .map(|nth| {
            let room = span(AREA + 4096 * (nth + 1), 80);
            let header = span(AREA, RequestHeader::SIZE as u32);
            driver.queue().add(&[header], &[room]).unwrap()
        })
        .collect();
    driver.submit();
    let used: Vec<_> = std::iter::from_fn(|| driver.queue().pop_used()).collect();
    assert_eq!(used.iter().map(|used| used.head).collect::<Vec<_>>(), heads);
    assert!(used.iter().all(|used| used.len == 80));
}

#[test]
fn config_space_answers_any_read_with_the_exact_length() {
    let device = device(&store(), "vm", MIB);
    let whole = device.read_config(0, Config::SIZE as u32);
    let config = Config::decode(whole.as_slice().try_into().unwrap());
    assert!(config.is_supported());
    assert_eq!(
        (config.max_run, config.max_extents, config.max_pools),
        (256, 256, 64)
    );
    for capability in [
        Capabilities::PERSISTENT,
        Capabilities::EPHEMERAL,
        Capabilities::GET_REMOVE,
        Capabilities::FLUSH_EXTENTS,
        Capabilities::EVENTS,
    ] {
        assert!(config.capabilities.contains(capability));
    }
    for offset in 0..80 {
        for size in [0, 1, 4, 13, 64, 200] {
            let read = device.read_config(offset, size);
            let start = (offset as usize).min(whole.len());
            let mut expected = whole[start..].to_vec();
            expected.resize(size as usize, 0);
            assert_eq!(read, expected, "{size} bytes at {offset}");
        }
    }
    assert_eq!(device.read_config(u32::MAX, 8), [0; 8]);
}

#[test]
fn a_renewed_device_has_another_instance_and_no_pages() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.put(PERSISTENT, &OBJECT, 0, &[page_of(1)]);
    let device = driver.transport().device().clone();
    assert_eq!(device.renew([8; 16]), 1);
    assert_eq!(device.config().instance, [8; 16]);
    let got = driver.get(PERSISTENT, &OBJECT, 0, 1);
    assert_eq!(got.status(), Status::NO_POOL);
}
