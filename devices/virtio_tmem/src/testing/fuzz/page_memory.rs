// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A store that is made from page memory which is not as an earlier store left it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, SealFlags, SeekFrom};
use tmem_store::{Error, PageMemory, Recovery, Store};

use super::Bytes;
use super::damage::{Damage, SEGMENT, Trust, damaged};
use super::pages::{CLIENTS, World, client_config, identity, store_config};

/// Most steps before and after, so that one run takes milliseconds.
const MOST_STEPS: u8 = 200;

/// Has a store write, damages what it wrote, and has another store go on from there.
/// What that believes must be what was written.
///
/// | bytes | |
/// |---|---|
/// | 1 | bit 0: the checksums are made right after the damage |
/// | 1 | steps before it; 0: the file is made of the fuzzer's bytes |
/// | 4 each | the steps |
/// | 1 | damages |
/// | 9 each | the damages |
/// | 4 each | steps afterwards |
pub fn page_memory(data: &[u8]) {
    let mut data = Bytes(data);
    let is_signed = data.u8() & 1 == 1;
    let mut before = World::new(Store::new(store_config()).unwrap(), |_, _| None);
    let steps = data.u8() % MOST_STEPS;
    for _ in 0..steps {
        before.step(&mut data);
    }
    before.look();
    let mut bytes = match steps {
        0 => data.some(4096).to_vec(),
        _ => image(&before.store),
    };
    let mut damage = damaged(&mut bytes, is_signed, &mut data);
    if steps == 0 {
        damage.trust = Trust::None;
    }

    let mut found = vec![true; CLIENTS.into()];
    let recovered = recover(&bytes, |recovery| {
        World::new(recovery.store().clone(), |number, store| {
            match recovery.client(identity(number), client_config(number)) {
                Ok(client) => Some(client),
                Err(Error::Damaged) => {
                    // Whose pages are lost begins anew.
                    found[usize::from(number)] = false;
                    Some(store.add_client(client_config(number)).unwrap())
                }
                Err(error) => panic!("{error}"),
            }
        })
    });
    let Some(mut after) = recovered else {
        assert!(damage.is_any(), "a file is refused that is as it was");
        return;
    };
    check(&before, &mut after, &damage, &found);
    drop(before);

    for _ in 0..MOST_STEPS {
        if data.is_empty() {
            break;
        }
        after.step(&mut data);
    }
    // Once more, as it is now.
    after.look();
    let again = recover(&image(&after.store), |recovery| {
        World::new(recovery.store().clone(), |number, _| {
            recovery
                .client(identity(number), client_config(number))
                .ok()
        })
    });
    if let (Some(mut again), true) = (again, damage.trust != Trust::None) {
        again.pages.clone_from(&after.pages);
        again.look();
        assert!(
            again.pages == after.pages,
            "pages differ after a second time"
        );
        again.end();
    } else {
        assert_eq!(damage.trust, Trust::None, "not believed a second time");
    }
    after.end();
}

/// That what is believed is what was written.
fn check(before: &World, after: &mut World, damage: &Damage, found: &[bool]) {
    after.adopt();
    for number in 0..CLIENTS {
        if damage.trust == Trust::None {
            break;
        }
        let of_client = |world: &World| {
            let mut pages = world.pages.clone();
            pages.retain(|at, _| at.client == number);
            pages
        };
        let (written, read) = (of_client(before), of_client(after));
        let is_right = |(at, page)| written.get(at) == Some(page);
        assert!(read.iter().all(is_right), "a page that was not written");
        assert_eq!(read.len() as u64, after.count(number), "pages of nobody");
        if damage.trust == Trust::Whole {
            if found[usize::from(number)] {
                assert_eq!(read.len(), written.len(), "pages are missing");
            } else {
                let is_hit = damage.owners.contains(&identity(number));
                assert!(is_hit, "the damage was another's");
                assert!(read.is_empty());
            }
        }
    }
}

/// All bytes of a store's page memory up to its last that is used.
fn image(store: &Store) -> Vec<u8> {
    let file = File::from(store.page_memory().try_clone_to_owned().unwrap());
    let (mut bytes, mut at) = (Vec::new(), 0);
    // Ends with ENXIO: there is no more.
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(&file, SeekFrom::Hole(start)).unwrap();
        bytes.resize((at as usize).next_multiple_of(SEGMENT), 0);
        let part = &mut bytes[start as usize..at as usize];
        file.read_exact_at(part, start).unwrap();
    }
    bytes
}

/// A store that is made from these bytes, unless they are refused.
fn recover(bytes: &[u8], world: impl FnOnce(&mut Recovery) -> World) -> Option<World> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create("page memory", flags).unwrap();
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    let file = File::from(file);
    file.write_all_at(bytes, 0).unwrap();
    #[expect(unsafe_code, reason = "promises that the file is not shared")]
    // SAFETY: the file was made here, and nobody else has it.
    let memory = unsafe { PageMemory::new(file.into()) };
    match Store::recover(memory, store_config()) {
        Ok(mut recovery) => Some(world(&mut recovery)),
        Err(Error::Damaged | Error::OtherVersion { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::fuzz::damage::sign;

    /// Otherwise what is signed anew is refused, and nothing behind that is tried.
    #[test]
    fn memory_that_is_signed_anew_is_as_it_was() {
        let mut world = World::new(Store::new(store_config()).unwrap(), |_, _| None);
        let steps: Vec<_> = (0..480_u16).map(|at| (at * 7) as u8).collect();
        let mut steps = Bytes(&steps);
        while !steps.is_empty() {
            world.step(&mut steps);
        }
        let bytes = image(&world.store);
        assert!(!bytes.is_empty());
        let mut signed = bytes.clone();
        signed.chunks_mut(SEGMENT).for_each(sign);
        assert!(signed == bytes);
    }
}
