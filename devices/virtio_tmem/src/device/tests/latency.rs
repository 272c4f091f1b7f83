// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! How long requests take is recorded once for each, under what came of it.

use std::collections::BTreeMap;

use super::*;

/// How many requests were recorded, by the values of their labels.
fn counts(driver: &mut TestDriver<'_>) -> BTreeMap<String, u64> {
    let device = driver.transport().device().clone();
    let latencies = device.metrics().latencies();
    let of = |latency: crate::device::Latency| {
        let values = latency.labels.map(|(_, value)| value);
        (values.join(" "), latency.recorded.count())
    };
    latencies.map(of).collect()
}

fn expected(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let owned = counts
        .iter()
        .map(|(key, count)| ((*key).to_owned(), *count));
    owned.collect()
}

#[test]
fn a_request_counts_once_however_many_pages_it_has() {
    let mem = memory();
    let mut driver = rig(&mem);
    assert_eq!(counts(&mut driver), BTreeMap::new());
    let pages: Vec<_> = (0..8).map(page_of).collect();
    driver.put(PERSISTENT, &OBJECT, 0, &pages);
    driver.put(EPHEMERAL, &OBJECT, 0, &pages);
    driver.get(PERSISTENT, &OBJECT, 4, 8);
    driver.get(PERSISTENT, &OBJECT, 8, 8);
    driver.get(EPHEMERAL, &[7; 24], 0, 1);
    driver.flush(PERSISTENT, &OBJECT, 0, 4);
    driver.flush_object(EPHEMERAL, &OBJECT);
    let all = [
        ("flush done persistent", 1),
        ("flush_object done ephemeral", 1),
        ("get hit persistent", 1),
        ("get miss ephemeral", 1),
        ("get miss persistent", 1),
        ("put kept ephemeral", 1),
        ("put kept persistent", 1),
    ];
    assert_eq!(counts(&mut driver), expected(&all));
}

#[test]
fn refused_puts_are_told_apart_from_mistakes() {
    let mem = memory();
    let mut driver = rig(&mem);
    driver.transport().device().set_frozen(true);
    let put = driver.put(PERSISTENT, &OBJECT, 0, &[page_of(1)]);
    assert_eq!(put.pages(1), [Status::FROZEN]);
    // There is no such pool.
    let put = driver.put(9, &OBJECT, 0, &[page_of(1)]);
    assert_eq!(put.status(), Status::NO_POOL);
    let counts = counts(&mut driver);
    assert_eq!(counts, expected(&[("put refused persistent", 1)]));
}

#[test]
fn what_is_recorded_takes_time() {
    let mem = memory();
    let mut driver = rig(&mem);
    let pages: Vec<_> = (0..64).map(page_of).collect();
    for index in 0..16 {
        driver.put(PERSISTENT, &OBJECT, index * 64, &pages);
    }
    let device = driver.transport().device().clone();
    let latency = device.metrics().latencies().next().unwrap();
    assert!(!latency.recorded.sum.is_zero());
    assert_eq!(latency.recorded.count(), 16);
    let requests = device.metrics().samples();
    let put = requests.filter(|it| it.family == "requests" && it.key == "put");
    assert_eq!(put.map(|it| it.value).sum::<u64>(), 16);
}
