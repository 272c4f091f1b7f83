// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What must hold for all schedules.

use crate::driver::area::Counter;
use crate::world::run;
use crate::world::schedule::schedules;
use crate::world::Fault;
use crate::world::Scene;
use crate::world::World;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::RngAlgorithm;
use proptest::test_runner::TestError;
use proptest::test_runner::TestRng;
use proptest::test_runner::TestRunner;
use std::rc::Rc;

/// Steps of a schedule.
const MOST: usize = 200;

/// `cases`, unless the environment says how many.
fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config.failure_persistence = None;
    config
}

pub(super) const CACHE: Scene = Scene {
    is_swap: false,
    is_disk: false,
    is_eager: true,
    is_victim: false,
    is_shared: false,
    fault: None,
};

const LAZY: Scene = Scene {
    is_eager: false,
    ..CACHE
};

const VICTIM: Scene = Scene {
    is_victim: true,
    ..CACHE
};

const SHARED: Scene = Scene {
    is_shared: true,
    ..CACHE
};

pub(super) const SWAP: Scene = Scene {
    is_swap: true,
    ..CACHE
};

const DISK: Scene = Scene {
    is_disk: true,
    ..SWAP
};

proptest! {
    #![proptest_config(config(2500))]

    #[test]
    fn every_read_brings_what_was_there_while_it_was_under_way(schedule in schedules(CACHE, MOST)) {
        run(CACHE, schedule).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn so_does_every_read_of_blocks_that_are_put_when_read_again(schedule in schedules(LAZY, MOST)) {
        run(LAZY, schedule).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn so_does_every_read_of_blocks_that_are_put_when_they_are_evicted(schedule in schedules(VICTIM, MOST)) {
        run(VICTIM, schedule).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn so_does_every_read_of_blocks_that_others_have_too_who_get_only_what_all_disks_have(schedule in schedules(SHARED, MOST)) {
        run(SHARED, schedule).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn every_page_that_is_swapped_in_is_what_was_swapped_out(schedule in schedules(SWAP, MOST)) {
        run(SWAP, schedule).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn so_is_every_page_of_the_swap_disk_and_the_host_keeps_no_other(schedule in schedules(DISK, MOST)) {
        run(DISK, schedule).map_err(TestCaseError::fail)?;
    }
}

/// One that does the same each time.
fn runner(cases: u32) -> TestRunner {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// The properties hold because of what the driver does: with this fault they do not.
pub(super) fn finds(fault: Fault, scene: Scene) {
    let scene = Scene {
        fault: Some(fault),
        ..scene
    };
    let outcome = runner(5000).run(&schedules(scene, MOST), |schedule| {
        run(scene, schedule).map_err(TestCaseError::fail)?;
        Ok(())
    });
    assert!(
        matches!(outcome, Err(TestError::Fail(..))),
        "{fault:?} is not found"
    );
}

macro_rules! faults {
    ($($test:ident: $scene:ident, $fault:ident;)*) => {
        $(#[test]
        fn $test() {
            finds(Fault::$fault, $scene);
        })*
    };
}

faults! {
    a_ticket_that_is_taken_late_is_found: CACHE, LateTicket;
    writes_that_are_not_noted_are_found: CACHE, NoWrites;
    writes_that_are_noted_late_are_found: CACHE, LateWrites;
    writes_that_are_over_too_early_are_found: CACHE, ShortWrites;
    a_put_that_is_not_looked_at_again_is_found: CACHE, NoRecheck;
    two_puts_at_a_time_are_found: CACHE, TwoPuts;
    asking_for_what_is_not_present_is_found: CACHE, AsksAlways;
    a_disk_that_is_not_looked_at_is_found: CACHE, NeverLooks;
    evictions_with_a_ticket_that_is_taken_late_are_found: VICTIM, LateTicket;
    evictions_of_what_was_written_to_meanwhile_are_found: VICTIM, NoWrites;
    evictions_that_are_not_looked_at_again_are_found: VICTIM, NoRecheck;
    evictions_of_anything_at_all_are_found: VICTIM, NoFingerprint;
    a_share_that_is_used_after_writes_is_found: SHARED, NoWrites;
    a_share_whose_use_ends_when_writes_end_is_found: SHARED, LateWrites;
    a_share_of_a_disk_that_is_not_looked_at_is_found: SHARED, NeverLooks;
    writes_that_are_not_held_back_are_found: SWAP, NothingHeld;
    writes_that_do_not_wait_for_flushes_are_found: SWAP, NothingDeferred;
    writes_that_are_flushed_are_found: SWAP, StaysPending;
    old_copies_that_stay_are_found: SWAP, StaysStored;
    refusals_that_are_ignored_are_found: SWAP, RefusalIgnored;
    answers_that_did_not_come_are_found: SWAP, SilenceIsConsent;
    draining_in_haste_is_found: SWAP, DrainInHaste;
    errors_that_are_cleared_are_found: SWAP, SuccessClears;
    pages_that_fail_with_others_are_found: SWAP, FailsWhole;
    old_pages_that_are_forgotten_are_found: DISK, ForgetsOld;
}

/// Schedules lead to all that they are for.
#[test]
fn schedules_lead_everywhere() {
    let mut runner = runner(1);
    let mut worlds = |scene: Scene| -> Vec<_> {
        let schedules = schedules(scene, MOST);
        let mut world = || run(scene, schedules.new_tree(&mut runner).unwrap().current()).unwrap();
        (0..200).map(|_| world()).collect()
    };
    let victims = worlds(VICTIM);
    let evicted = victims.iter().map(|world| &world.filter.area.counts);
    let evicted = evicted.fold([0; 3], |[hits, puts, changed], counts| {
        [
            hits + counts.hits.get(),
            puts + counts.puts.get(),
            changed + counts.changed.get(),
        ]
    });
    assert!(evicted.iter().all(|count| *count > 5), "{evicted:?}");
    let cache: Vec<_> = [worlds(CACHE), worlds(LAZY)]
        .into_iter()
        .flatten()
        .collect();
    let swap = worlds(SWAP);
    let shared = worlds(SHARED);
    let shared = shared.iter().fold([0; 4], |sum, world| {
        let counts = &world.filter.area.counts;
        let is_used = world.filter.area.cache(|cache| cache.share_end()) == Some(None);
        let more = [
            counts.hits.get(),
            counts.puts.get(),
            counts.vanished.get(),
            u64::from(is_used),
        ];
        std::array::from_fn(|i| sum[i] + more[i])
    });
    assert!(shared.iter().all(|count| *count > 5), "{shared:?}");
    let sum = |counts: &dyn Fn(&World) -> [u64; 5], worlds: &[Rc<World>]| {
        worlds.iter().fold([0; 5], |sum, world| {
            let more = counts(world);
            std::array::from_fn(|i| sum[i] + more[i])
        })
    };
    let of_cache = |world: &World| {
        let counts = &world.filter.area.counts;
        let counts = [
            &counts.hits,
            &counts.puts,
            &counts.refused,
            &counts.vanished,
            &counts.invalidates,
        ];
        counts.map(Counter::get)
    };
    let of_swap = |world: &World| {
        let seen = &world.seen;
        let counts = &world.filter.area.counts;
        let counts = [
            &counts.hits,
            &counts.written_back,
            &counts.refused,
            &seen.deferred,
            &seen.lost,
        ];
        counts.map(Counter::get)
    };
    let (cache, swap) = (sum(&of_cache, &cache), sum(&of_swap, &swap));
    assert!(cache.iter().all(|count| *count > 20), "{cache:?}");
    assert!(swap.iter().all(|count| *count > 3), "{swap:?}");
}
