// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause

use proptest::prelude::*;

use super::mapping::SlotRef;
use super::*;
use crate::types::PAGE_SIZE;

fn arena(spans: u64) -> Arena {
    Arena::new(spans * SPAN_SIZE as u64).expect("a small arena")
}

/// A slot for `len` bytes, from a fresh span if need be.
fn allocate(heap: &Heap, arena: &Arena, len: usize) -> Option<Slot> {
    let class = Class::fitting(len).expect("at most a page");
    let len = u16::try_from(len).expect("at most a page");
    heap.allocate(arena, class, len)
        .or_else(|| heap.allocate_fresh(arena, class, len))
}

fn spans_backed(arena: &Arena) -> u64 {
    arena.backed_bytes().expect("a memfd has a size") / SPAN_SIZE as u64
}

#[test]
fn classes_grow_and_fill_their_spans() {
    let classes: Vec<_> = (0..Class::COUNT).filter_map(Class::nth).collect();
    assert_eq!(classes.len(), Class::COUNT);
    assert!(classes.is_sorted_by_key(|class| class.slot_size()));
    for class in classes {
        assert!(class.slots() <= 256);
        assert!(class.slots() * class.slot_size() <= SPAN_SIZE);
        assert!(class.slots() * class.slot_size() > SPAN_SIZE * 98 / 100);
    }
    for len in 1..=MAX_COMPRESSED {
        let size = Class::fitting(len).expect("at most a page").slot_size();
        assert!(size >= len);
        assert!(size <= (len + len / 4).max(len + 128), "{size} for {len}");
    }
    assert_eq!(Class::fitting(PAGE_SIZE + 1), None);
}

#[test]
fn slots_and_contents_survive_packing() {
    let (arena, heap) = (arena(4), Heap::new());
    let mut slot = allocate(&heap, &arena, 1000).expect("room");
    arena.fill(&mut slot, &[0x5a; 1000]);
    let mut cells = Cells::default();
    assert!(cells.is_empty());
    assert_eq!(cells.put(15, Content::Slot(slot)), None);
    assert_eq!(cells.put(0, Content::Same(u64::MAX)), None);
    assert!(cells.has(15) && cells.has(0) && !cells.has(1) && !cells.has(16));
    match cells.view(15) {
        Some(View::Slot(slot)) => assert_eq!(arena.bytes(&slot), [0x5a; 1000]),
        other => panic!("{other:?}"),
    }
    assert!(matches!(cells.view(0), Some(View::Same(u64::MAX))));
    assert!(cells.view(1).is_none() && cells.view(16).is_none());
    assert_eq!(cells.take(0), Some(Content::Same(u64::MAX)));
    let Some(Content::Slot(slot)) = cells.put(15, Content::Same(3)) else {
        panic!("the slot is gone");
    };
    assert_eq!(slot.len(), 1000);
    assert_eq!(heap.free(&arena, slot).spans, 1);
    assert_eq!(spans_backed(&arena), 0);
}

#[test]
fn largest_names_survive_packing() {
    let class = Class::fitting(PAGE_SIZE).expect("a page");
    let slot = || Slot::new(MAX_SPANS - 1, 255, class, 4096);
    assert_eq!(Slot::unpack(slot().pack()), Some(slot()));
    assert_eq!(Slot::unpack(u64::MAX), None);
}

#[test]
fn slots_outside_of_the_mapping_have_no_bytes() {
    let arena = arena(2);
    let class = Class::fitting(PAGE_SIZE).expect("a page");
    for (span, nth) in [(2, 0), (u32::MAX, 0), (0, 8), (1, 255)] {
        let mut slot = Slot::new(span, nth, class, 4096);
        assert_eq!(arena.bytes(&SlotRef::of(&slot)), []);
        arena.fill(&mut slot, &[1; 4096]);
    }
}

#[test]
fn full_arena_has_no_slot_until_one_is_freed() {
    let (arena, heap) = (arena(3), Heap::new());
    let mut slots: Vec<_> = std::iter::from_fn(|| allocate(&heap, &arena, 4096)).collect();
    assert_eq!(slots.len(), 3 * 8);
    assert_eq!(heap.free_bytes(), 0);
    assert_eq!(spans_backed(&arena), 3);
    let slot = slots.pop().expect("24 slots");
    assert_eq!(heap.free(&arena, slot).spans, 0);
    assert_eq!(heap.free_bytes(), 4096);
    // The span is of the largest class, and serves a smaller one in need.
    let class = Class::fitting(100).expect("small");
    assert!(allocate(&heap, &arena, 100).is_none());
    let slot = heap
        .allocate_larger(&arena, class, 100)
        .expect("one is free");
    assert_eq!((slot.len(), slot.class().slot_size()), (100, 4096));
}

#[test]
fn one_empty_span_is_kept_while_others_are_in_use() {
    let (arena, heap) = (arena(8), Heap::new());
    let mut slots: Vec<_> = (0..32)
        .filter_map(|_| allocate(&heap, &arena, 4096))
        .collect();
    assert_eq!(spans_backed(&arena), 4);
    let mut released = Vec::new();
    while let Some(slot) = slots.pop() {
        released.push(heap.free(&arena, slot).spans);
    }
    let spans: Vec<_> = released.into_iter().skip(7).step_by(8).collect();
    assert_eq!(spans, [0, 1, 1, 2]);
    assert_eq!(spans_backed(&arena), 0);
    assert_eq!(heap.trim(&arena).spans, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Slots of two heaps are filled with their number; were two to overlap,
    /// one would find the other's.
    #[test]
    fn slots_never_overlap(
        steps in prop::collection::vec((any::<bool>(), 1..=PAGE_SIZE, any::<prop::sample::Index>()), 1..600),
    ) {
        let (arena, heaps) = (arena(24), [Heap::new(), Heap::new()]);
        let mut slots: Vec<(usize, u32, Slot)> = Vec::new();
        for (number, (add, len, which)) in (0_u32..).zip(steps) {
            if add || slots.is_empty() {
                let owner = number as usize % 2;
                if let Some(mut slot) = allocate(&heaps[owner], &arena, len) {
                    let bytes: Vec<_> = number.to_le_bytes().into_iter().cycle().take(len).collect();
                    arena.fill(&mut slot, &bytes);
                    slots.push((owner, number, slot));
                }
            } else {
                let (owner, number, slot) = slots.swap_remove(which.index(slots.len()));
                check(&arena, number, &slot);
                heaps[owner].free(&arena, slot);
            }
        }
        for (owner, number, slot) in slots {
            check(&arena, number, &slot);
            heaps[owner].free(&arena, slot);
        }
        prop_assert_eq!(spans_backed(&arena), 0);
        prop_assert_eq!(heaps[0].free_bytes() + heaps[1].free_bytes(), 0);
    }
}

fn check(arena: &Arena, number: u32, slot: &Slot) {
    let bytes = arena.bytes(&SlotRef::of(slot));
    let expected = number.to_le_bytes().into_iter().cycle().take(slot.len());
    assert!(bytes.iter().copied().eq(expected));
}
