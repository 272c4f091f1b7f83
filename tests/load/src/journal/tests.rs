// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What was acknowledged is there, unless it is taken away.

use super::*;

const SEED: u32 = 3;

/// Directory and acknowledgments of a load that has run.
fn ran() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (files, acks) = (dir.path().join("files"), dir.path().join("acks"));
    File::create(&acks).unwrap().set_len(3 << 20).unwrap();
    let options = Options {
        directory: files.clone(),
        acks: acks.clone(),
        seed: SEED,
        seconds: 0,
    };
    let counters = Counters::default();
    let device = device::open(&acks, true).unwrap();
    for number in 0..THREADS {
        let mut thread = Thread::new(&options, number, &device, &counters).unwrap();
        for _ in 0..60 {
            thread.step().unwrap();
        }
    }
    (dir, files, acks)
}

#[test]
fn after_an_orderly_end_everything_is_there() {
    let (_dir, files, acks) = ran();
    let (count, wrong) = check(&files, &acks, SEED).unwrap();
    assert_eq!(wrong, Vec::<String>::new());
    assert!(count > 150, "{count}");
}

#[test]
fn an_older_version_a_short_file_and_a_missing_one_are_found() {
    let (_dir, files, acks) = ran();
    let dir = directory_of(&files, 1);
    let path = path_of(&dir, 100);
    let good = fs::read(&path).unwrap();

    let mut old = good.clone();
    let name = Name {
        seed: SEED,
        file: 100,
        generation: 0,
    };
    content::fill(name, 1024, &mut old[1024..1536]);
    fs::write(&path, &old).unwrap();
    let (_, wrong) = check(&files, &acks, SEED).unwrap();
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].contains("found generation 0"), "{wrong:?}");

    fs::write(&path, &good[..good.len() - 512]).unwrap();
    let (_, wrong) = check(&files, &acks, SEED).unwrap();
    assert!(wrong[0].contains("has only"), "{wrong:?}");

    fs::write(&path, &good).unwrap();
    let replaced = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.ends_with(format!("file-{}", 100 + IN_PLACE)))
        .unwrap();
    let whole = fs::read(&replaced).unwrap();
    let mut torn = whole.clone();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    fs::write(&replaced, &torn).unwrap();
    let (_, wrong) = check(&files, &acks, SEED).unwrap();
    assert!(wrong[0].contains("torn"), "{wrong:?}");

    fs::remove_file(&replaced).unwrap();
    let (_, wrong) = check(&files, &acks, SEED).unwrap();
    assert!(wrong[0].contains("not there"), "{wrong:?}");
}
