// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What becomes of bios that the host has answered, as in `guest/driver/finish.rs`.

use super::Engine;
use crate::driver::area::Area;
use crate::sys::bio::Bio;
use crate::sys::bio::Op;
use crate::sys::bio::Outcome;
use crate::wire::Status;
use crate::world;
use crate::world::Fault;

impl Engine {
    /// Ends a bio. `statuses` has one for each page; none when the request was rejected.
    pub(crate) fn finish(&self, area: &Area, mut bio: Bio, statuses: Option<&[Status]>) {
        let Some(statuses) = statuses else {
            if area.is_shared() {
                // The host does not have the share any more.
                area.set_ready(false);
                return self.abandon(bio, Outcome::Again);
            }
            return self.abandon(bio, Outcome::IoError);
        };
        let outcome = match bio.op() {
            op if world::world().is_cache() => finish_cache(area, &bio, op, statuses),
            Op::Write => finish_put(area, &bio, statuses),
            _ => finish_get(area, &mut bio, statuses),
        };
        bio.end(outcome);
    }
}

fn finish_cache(area: &Area, bio: &Bio, op: Op, statuses: &[Status]) -> Outcome {
    let mut failed = 0;
    for (page, status) in bio.pages().unwrap().each().zip(statuses) {
        let is_ok = status.is_ok();
        if op == Op::Write {
            if is_ok {
                area.counts.puts.add(1);
            } else {
                area.counts.refused.add(1);
            }
            area.cache(|blocks| blocks.answer_put(page, is_ok));
        } else if !is_ok {
            area.cache(|blocks| blocks.vanish(page));
            area.counts.vanished.add(1);
            failed += 1;
        } else if area.is_exclusive {
            area.cache(|blocks| blocks.vanish(page));
        } else if area.is_shared() {
            area.cache(|blocks| blocks.arrive(page));
        }
    }
    if failed == 0 {
        Outcome::Ok
    } else {
        Outcome::Again
    }
}

fn finish_put(area: &Area, bio: &Bio, statuses: &[Status]) -> Outcome {
    let mut refused = 0;
    let mut failed = 0;
    let is_ignored = world::world().fault == Some(Fault::RefusalIgnored);
    area.swap(|handles| {
        for (page, status) in bio.pages().unwrap().each().zip(statuses) {
            match status.code() {
                Status::OK if handles.set_stored(page) => (),
                _ if is_ignored => {
                    handles.set_stored(page);
                }
                Status::QUOTA | Status::NO_MEMORY | Status::FROZEN => {
                    handles.set_empty(page);
                    refused += 1;
                }
                _ => {
                    handles.set_stored(page);
                    failed += 1;
                }
            }
        }
    });
    area.counts
        .puts
        .add(statuses.len() as u64 - refused - failed);
    area.counts.refused.add(refused);
    match (failed, refused) {
        (0, 0) => Outcome::Ok,
        (0, _) => Outcome::NoSpace,
        _ => Outcome::IoError,
    }
}

fn finish_get(area: &Area, bio: &mut Bio, statuses: &[Status]) -> Outcome {
    let (mut read, mut failed) = (0, 0);
    let mut moved = false;
    let first = bio.pages().unwrap().index;
    for (i, status) in (0u32..).zip(statuses) {
        match status.code() {
            Status::OK => read += 1,
            Status::MISS => {
                bio.zero(i, 1);
                let page = first + u64::from(i);
                if area.swap(|handles| handles.is_stored(page)) == Some(true) {
                    failed += 1;
                } else {
                    moved = true;
                }
            }
            _ => {
                bio.zero(i, 1);
                failed += 1;
            }
        }
    }
    if moved {
        return Outcome::Again;
    }
    area.counts.hits.add(read);
    area.counts.errors.add(failed);
    for (i, status) in (0..).zip(statuses) {
        if status.code() == Status::OK {
            bio.mark_read(i, 1);
        }
    }
    if failed == 0 {
        Outcome::Ok
    } else {
        Outcome::IoError
    }
}
