// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The load on a file of this machine: nothing is wrong, and what is made wrong
//! is found.

use super::sectors::Allowed;
use super::sectors::Sector;
use super::sectors::State;
use super::*;
use std::os::unix::fs::FileExt;
use std::path::Path;

const SEED: u32 = 9;
const MIB: u64 = 1 << 20;

fn written(generation: u64) -> Sector {
    Sector {
        generation,
        state: State::Written,
    }
}

fn sector(generation: u64, at: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    sectors::fill(SEED, generation, at, &mut bytes);
    bytes
}

fn options(device: &Path) -> Options {
    std::fs::write(device, vec![0; 8 << 20]).unwrap();
    Options {
        device: device.to_path_buf(),
        seed: SEED,
        seconds: 1,
        size_mib: None,
        writers: 2,
        readers: 2,
        model: Some(device.with_extension("model")),
        drop_caches: false,
    }
}

#[test]
fn a_device_that_works_passes_and_its_model_knows_every_sector() {
    let dir = tempfile::tempdir().unwrap();
    let device = dir.path().join("disk");
    let options = options(&device);
    run(&options, &Orders::default()).unwrap();

    let text = std::fs::read(options.model.unwrap()).unwrap();
    let model: Model = serde_json::from_slice(&text).unwrap();
    assert_eq!(model.size(), 8 << 20);
    assert_eq!(check(&device, 0, &model).unwrap(), (0, Vec::new()));

    // One bit behind its back, in a sector that was written.
    let mut at = 0;
    for (count, _, state) in &model.runs {
        if *state == State::Written {
            break;
        }
        at += count * SECTOR;
    }
    let file = device::open(&device, false).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at + 100).unwrap();
    file.write_all_at(&[byte[0] ^ 0x80], at + 100).unwrap();
    let (wrong, texts) = check(&device, 0, &model).unwrap();
    assert_eq!(wrong, 1);
    assert!(texts[0].contains(&format!("sector {}", at / 512)));
}

#[test]
fn a_stale_sector_is_named() {
    let now = Allowed::settled(written(19));
    assert_eq!(now.judge(SEED, 4096, &sector(19, 4096)), None);
    let text = now.judge(SEED, 4096, &sector(17, 4096)).unwrap();
    assert!(text.contains("expected generation 19"), "{text}");
    assert!(text.contains("found generation 17"), "{text}");
    let text = now.judge(SEED, 4096, &sector(19, 8192)).unwrap();
    assert!(text.contains("at 0x2008"), "a misplaced sector: {text}");
}

#[test]
fn a_read_beside_a_write_sees_before_or_after_or_both() {
    let during = Allowed {
        from: written(5),
        to: written(8),
        emptied: false,
    };
    let (old, new) = (sector(5, MIB), sector(8, MIB));
    let mut torn = old;
    torn[..200].copy_from_slice(&new[..200]);
    for found in [old, new, torn, sector(7, MIB)] {
        assert_eq!(during.judge(SEED, MIB, &found), None);
    }
    for found in [
        sector(4, MIB),
        sector(9, MIB),
        sector(8, MIB + 512),
        [0; 512],
    ] {
        assert!(during.judge(SEED, MIB, &found).is_some());
    }
    let emptied = Allowed {
        emptied: true,
        ..during
    };
    assert_eq!(emptied.judge(SEED, MIB, &[0; 512]), None);
}

#[test]
fn zeros_must_be_zeros_and_a_discarded_sector_its_own() {
    let zeros = Allowed::settled(Sector {
        generation: 9,
        state: State::Zeros,
    });
    assert_eq!(zeros.judge(SEED, 0, &[0; 512]), None);
    assert!(zeros.judge(SEED, 0, &sector(8, 0)).is_some());
    let any = Allowed::settled(Sector {
        generation: 9,
        state: State::Any,
    });
    for found in [[0; 512], sector(3, 0), sector(8, 0)] {
        assert_eq!(any.judge(SEED, 0, &found), None);
    }
    for found in [sector(8, 512), sector(10, 0), [7; 512]] {
        assert!(any.judge(SEED, 0, &found).is_some());
    }
}
