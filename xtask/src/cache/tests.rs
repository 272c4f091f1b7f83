// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the cache promises about interrupted and failed work.

use super::*;

#[test]
fn the_first_variable_that_is_set_names_the_cache() {
    let with = |set: &[(&str, &str)]| {
        let set: Vec<(String, String)> = set
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        locate(move |name| {
            set.iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.into())
        })
    };
    assert_eq!(
        with(&[("TMEM_CACHE", "/a"), ("XDG_CACHE_HOME", "/b")]).unwrap(),
        Path::new("/a")
    );
    assert_eq!(
        with(&[("XDG_CACHE_HOME", "/b"), ("HOME", "/c")]).unwrap(),
        Path::new("/b/virtio-tmem")
    );
    assert_eq!(
        with(&[("HOME", "/c")]).unwrap(),
        Path::new("/c/.cache/virtio-tmem")
    );
    assert!(with(&[]).is_err());
    assert!(with(&[("TMEM_CACHE", "relative")]).is_err());
}

#[test]
fn an_entry_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().to_path_buf()).unwrap();
    let made = cache
        .entry("thing-1", |tmp| Ok(fs::write(tmp.join("file"), "x")?))
        .unwrap();
    assert_eq!(fs::read_to_string(made.join("file")).unwrap(), "x");
    cache.entry("thing-1", |_| bail!("made twice")).unwrap();
}

#[test]
fn a_failed_entry_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().to_path_buf()).unwrap();
    cache
        .entry("thing-1", |tmp| {
            fs::write(tmp.join("file"), "half")?;
            bail!("no network")
        })
        .unwrap_err();
    assert!(!cache.has("thing-1"));
    cache.entry("thing-1", |_| Ok(())).unwrap();
}

#[test]
fn what_an_interrupted_run_left_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join(".making-thing-1");
    fs::create_dir_all(left.join("below")).unwrap();
    let cache = Cache::open(dir.path().to_path_buf()).unwrap();
    assert!(!left.exists());
    assert!(!cache.has("thing-1"));
}

#[test]
fn a_mount_is_found_below_the_tree_only() {
    let mounts = "36 35 98:0 / /cache/root/proc rw - proc proc rw\n\
                  37 35 98:0 / /cache/rootling rw - tmpfs tmpfs rw\n";
    assert_eq!(
        mount_below(mounts, Path::new("/cache/root")),
        Some("/cache/root/proc")
    );
    assert_eq!(mount_below(mounts, Path::new("/cache/roo")), None);
}
