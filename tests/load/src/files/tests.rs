// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The load on a file system of this machine: nothing is wrong, and what is
//! made wrong is found.

use super::*;
use crate::control::WrongBytes;
use crate::device;
use std::os::unix::fs::FileExt;

fn options(directory: PathBuf) -> Options {
    Options {
        directory,
        seed: 5,
        seconds: 1,
        size_mib: 4,
        threads: 1,
        drop_caches: false,
    }
}

fn worked(options: &Options, counters: &Counters, steps: u32, run: impl FnOnce(&mut Thread<'_>)) {
    let mut thread = Thread::new(options, 0, counters).unwrap();
    for _ in 0..steps {
        thread.step().unwrap();
    }
    run(&mut thread);
}

#[test]
fn a_file_system_that_works_passes() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path().to_path_buf());
    let counters = Counters::default();
    worked(&options, &counters, 3000, |thread| {
        thread.settle().unwrap();
        thread.check().unwrap();
    });
    let report = counters.report(5, 0);
    assert_eq!(report.total() + report.refused.values().sum::<u64>(), 3000);
    assert!(report.verified_bytes > 1 << 20);
}

#[test]
fn a_flipped_bit_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path().to_path_buf());
    worked(&options, &Counters::default(), 1000, |thread| {
        // The largest file, in its middle.
        let file = thread.largest_file().unwrap();
        let (path, at) = (file.path.clone(), file.model.length() / 2);
        let other = device::open(&path, false).unwrap();
        let mut byte = [0];
        other.read_exact_at(&mut byte, at).unwrap();
        other.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let error = thread.check().unwrap_err();
        let wrong = error.downcast_ref::<WrongBytes>().unwrap();
        assert!(wrong.0.contains(&format!("at {at:#x}")), "{wrong}");
    });
}

#[test]
fn a_file_that_is_too_long_or_gone_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path().to_path_buf());
    worked(&options, &Counters::default(), 1000, |thread| {
        let path = thread.largest_file().unwrap().path.clone();
        let file = device::open(&path, false).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length + 1).unwrap();
        let error = thread.check().unwrap_err();
        assert!(error.to_string().contains("bytes long"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = thread.check().unwrap_err();
        assert!(error.downcast_ref::<WrongBytes>().is_some(), "{error}");
    });
}

#[test]
fn a_seed_does_the_same_again() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sums = [one, two].map(|dir| {
        let options = options(dir.path().to_path_buf());
        let mut lengths = Vec::new();
        worked(&options, &Counters::default(), 500, |thread| {
            lengths = thread.lengths();
        });
        lengths
    });
    assert_eq!(sums[0], sums[1]);
    assert!(!sums[0].is_empty());
}
