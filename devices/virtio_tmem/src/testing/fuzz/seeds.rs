// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Inputs for the fuzzer to begin with: one for each command and a few that
//! go together.

/// An input: target, name, bytes.
type Seed = (&'static str, String, Vec<u8>);

/// The committed corpus, as `fuzz/corpus/TARGET/NAME`.
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for event_idx in [0, 1] {
        for op in 0..8 {
            let name = format!("whole-request-{op}-event-idx-{event_idx}");
            seeds.push(("chains", name, whole_requests(event_idx, op)));
        }
    }
    seeds.push(("chains", "loop".into(), looping_chain()));
    seeds.push((
        "chains",
        "available-runs-ahead".into(),
        vec![1, 3, 0xFF, 0xFF, 4],
    ));
    seeds.push(("chains", "event-buffer".into(), event_buffer()));
    seeds.push(("histories", "put-get-flush".into(), put_get_flush()));
    seeds.push(("histories", "fill-two-vms".into(), fill_two_vms()));
    for (name, signed, steps, damages) in page_memory() {
        let mut bytes = vec![signed, steps];
        for step in 0..if steps == 0 { 0 } else { STEPS } {
            bytes.extend(page_step(step));
        }
        bytes.push(damages.len() as u8);
        bytes.extend(damages.concat());
        for step in 0..40 {
            bytes.extend(page_step(step * 5 + 3));
        }
        seeds.push(("page_memory", name.into(), bytes));
    }
    seeds
}

/// Steps before damage, in seeds.
const STEPS: u8 = 120;

/// Puts, mostly, and everything else now and then.
fn page_step(step: u8) -> [u8; 4] {
    let op = if step % 6 == 5 { step / 6 + 9 } else { 0 };
    [op, step, step / 3, step]
}

/// Name, whether it is signed, steps, damages: kind, segment, place, length, bits.
fn page_memory() -> Vec<(&'static str, u8, u8, Vec<[u8; 9]>)> {
    let one = |kind, segment, place: u16, len, bits: u32| {
        let ([a, b], [c, d, e, f]) = (place.to_le_bytes(), bits.to_le_bytes());
        [kind, segment, a, b, len, c, d, e, f]
    };
    vec![
        ("undamaged", 0, STEPS, vec![]),
        ("signed-anew", 1, STEPS, vec![]),
        ("flip-in-header", 0, STEPS, vec![one(0, 0, 6, 0, 3)]),
        (
            "flips-in-pages",
            0,
            STEPS,
            vec![one(8, 0, 900, 0, 77), one(1, 1, 400, 0, 5)],
        ),
        ("zeros", 0, STEPS, vec![one(2, 1, 300, 200, 0)]),
        ("noise", 0, STEPS, vec![one(3, 0, 3000, 40, 9)]),
        ("segment-twice", 0, STEPS, vec![one(4, 1, 0, 0, 0)]),
        (
            "entries-elsewhere",
            0,
            STEPS,
            vec![one(4, 0, 300, 90, 8000)],
        ),
        ("short", 0, STEPS, vec![one(5, 1, 900, 0, 0)]),
        ("lies-about-length", 1, STEPS, vec![one(6, 0, 6, 0, 0x1f80)]),
        (
            "lies-about-codec",
            1,
            STEPS,
            vec![one(6, 0, 4, 0, 0x18), one(6, 1, 8, 0, 0x8)],
        ),
        (
            "lies-about-pool",
            1,
            STEPS,
            vec![one(6, 0, 0, 2, 1 << 31), one(6, 0, 0, 1, 1)],
        ),
        (
            "lies-about-state",
            1,
            STEPS,
            vec![one(6, 0, 10, 0, 1), one(6, 0, 20, 0, 3)],
        ),
        ("only-bytes", 1, 0, vec![]),
    ]
}

/// Pools 0 and 1, a put, then requests of one kind.
fn whole_requests(event_idx: u8, op: u8) -> Vec<u8> {
    let mut bytes = vec![event_idx];
    for (op, pool) in [(0, 0), (0, 1), (2, 0), (2, 1), (op, 0), (op, 1), (op, 3)] {
        // Command 9, operation, pool, index, count, address; then a kick.
        bytes.extend([9, op, pool, 7, 2, 0, 0x20, 0, 0, 4]);
    }
    bytes
}

/// A descriptor whose next is itself.
fn looping_chain() -> Vec<u8> {
    let mut bytes = vec![1, 1, 0];
    bytes.extend(0x2000u64.to_le_bytes());
    bytes.extend(48u32.to_le_bytes());
    bytes.extend(1u16.to_le_bytes());
    bytes.extend(0u16.to_le_bytes());
    bytes.extend([2, 0, 0, 4]);
    bytes
}

/// A good and a short buffer, and an event for both.
fn event_buffer() -> Vec<u8> {
    let mut bytes = vec![1];
    for len in [8u16, 32] {
        bytes.push(6);
        bytes.extend(0x3000u32.to_le_bytes());
        bytes.extend(len.to_le_bytes());
    }
    bytes.extend([7, 0, 7, 1]);
    bytes
}

/// One step of a history.
fn step(op: u8, pool: u8, place: u16, count: u8, seed: u8) -> [u8; 7] {
    let [low, high] = place.to_le_bytes();
    [op, pool, 1, low, high, count, seed]
}

fn put_get_flush() -> Vec<u8> {
    let mut bytes = Vec::new();
    for pool in [0, 1] {
        // The first step makes the pool, of a kind that its number decides.
        for op in [pool, 0, 6, 0, 6, 9, 10, 6, 12, 11, 14, 0, 14, 13] {
            bytes.extend(step(op, pool, 0, 3, op + pool));
            bytes.extend(step(op, pool, 0x8003, 3, op));
        }
    }
    bytes
}

fn fill_two_vms() -> Vec<u8> {
    let mut bytes = Vec::new();
    for round in 0..40 {
        for vm in [0, 0x80] {
            for (op, pool) in [(0, 0), (1, 1), (6, 0), (6, 1)] {
                bytes.extend(step(vm | op, pool, u16::from(round) * 13, 15, round * 3));
            }
        }
    }
    bytes
}
