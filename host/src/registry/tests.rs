// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use super::*;
use crate::testing::FakeDoor;
use settings::tests::defaults;
use std::fs;
use std::path::Path;

fn registry(state: Option<&Path>) -> (Arc<Registry>, FakeDoor) {
    let door = FakeDoor::default();
    let state = state.map(|dir| State::open(dir).unwrap());
    (
        Arc::new(Registry::new(Box::new(door.clone()), defaults(), state)),
        door,
    )
}

fn said(text: &str) -> Said {
    toml::from_str(text).unwrap()
}

#[test]
fn what_the_api_made_and_changed_is_there_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = registry(Some(dir.path()));
    first.add("web1", &said("quota = '8G'")).unwrap();
    first.add("web2", &said("")).unwrap();
    first.add("web3", &said("")).unwrap();
    first.remove("web2").unwrap();
    let change = said("quota = '16G'\nephemeral_quota = '2G'\nweight = 300\nfrozen = true");
    let changed = first.set("web1", &change).unwrap().settings();
    drop(first);

    let (second, _) = registry(Some(dir.path()));
    second.restore().unwrap();
    let names: Vec<_> = second
        .list()
        .iter()
        .map(|it| it.name().to_string())
        .collect();
    assert_eq!(names, ["web1", "web3"]);
    let web1 = second.get("web1").unwrap();
    assert_eq!(web1.settings(), changed);
    let stats = web1.machine().device().client().stats();
    assert_eq!((stats.weight, stats.frozen), (300, true));
    assert_eq!(stats.quota_bytes, 16 << 30);
    assert_eq!(stats.ephemeral_quota_bytes, 2 << 30);
}

#[test]
fn what_cannot_be_kept_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, door) = registry(Some(dir.path()));
    registry.add("web1", &said("")).unwrap();
    let before = registry.get("web1").unwrap().settings();
    fs::remove_dir_all(dir.path().join("vms")).unwrap();
    for refused in [
        registry.add("web2", &said("")).map(drop),
        registry.set("web1", &said("weight = 7")).map(drop),
        registry.remove("web1"),
    ] {
        assert!(matches!(refused, Err(Refusal::Failed(_))), "{refused:?}");
    }
    assert_eq!(registry.get("web1").unwrap().settings(), before);
    assert_eq!(door.served(), ["web1"]);
}

#[test]
fn names_do_not_leave_the_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, door) = registry(Some(&dir.path().join("state")));
    for name in ["../web1", "/etc/passwd", "..", ".web1", "", "a/b", "lock\0"] {
        let refused = registry.add(name, &said("")).unwrap_err();
        assert!(matches!(refused, Refusal::Invalid(_)), "{refused:?}");
        for refused in [
            registry.set(name, &said("weight = 7")).map(drop),
            registry.remove(name),
        ] {
            assert!(matches!(refused, Err(Refusal::Unknown(_))), "{refused:?}");
        }
    }
    assert!(door.served().is_empty());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn only_what_the_api_made_can_be_removed_by_it() {
    let (registry, door) = registry(None);
    let settings = Said::default().over(&defaults()).unwrap();
    let open = |name: &str, origin| registry.open(name.parse().unwrap(), settings.clone(), origin);
    open("a", Origin::CommandLine).unwrap();
    open("b", Origin::File("/etc/virtio-tmem/b.toml".into())).unwrap();
    open("a", Origin::CommandLine).unwrap_err();
    registry.add("c", &said("")).unwrap();
    open("d", Origin::ServiceManager).unwrap();
    for (name, words) in [
        ("a", "command line"),
        ("b", "/etc/virtio-tmem/b.toml"),
        ("d", "socket unit"),
    ] {
        let refused = registry.remove(name).unwrap_err();
        assert!(matches!(&refused, Refusal::Conflict(it) if it.contains(words)));
        let twice = registry.add(name, &said("")).unwrap_err();
        assert!(matches!(twice, Refusal::Conflict(_)));
        registry.set(name, &said("weight = 7")).unwrap();
    }
    registry.remove("c").unwrap();
    assert_eq!(door.served(), ["a", "b", "d"]);
    assert!(matches!(registry.remove("c"), Err(Refusal::Unknown(_))));
}

#[test]
fn the_socket_and_what_is_fixed_are_not_the_apis_to_choose() {
    let (registry, door) = registry(None);
    for text in [
        "socket = '/run/a'",
        "identity = '67e55044-10b1-426f-9247-bb680e5fe0c8'",
    ] {
        let refused = registry.add("a", &said(text)).unwrap_err();
        assert!(matches!(refused, Refusal::Invalid(_)), "{text}");
    }
    registry.add("a", &said("")).unwrap();
    for text in [
        "socket = '/run/a'",
        "identity = '67e55044-10b1-426f-9247-bb680e5fe0c8'",
        "max_pools = 3",
        "give_back = 'any'",
    ] {
        let refused = registry.set("a", &said(text)).unwrap_err();
        assert!(matches!(refused, Refusal::Invalid(_)), "{text}");
    }
    door.refuse(true);
    let refused = registry.add("b", &said("")).unwrap_err();
    assert!(matches!(refused, Refusal::Failed(_)));
    door.refuse(false);
    registry.add("b", &said("")).unwrap();
}

#[test]
fn changes_from_many_threads_come_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, door) = registry(Some(dir.path()));
    std::thread::scope(|scope| {
        for nth in 0..4 {
            let registry = &registry;
            scope.spawn(move || {
                for round in 1..=20 {
                    let own = format!("own{nth}");
                    registry.add(&own, &said("")).unwrap();
                    // Somebody wins.
                    let _ = registry.add("shared", &said(""));
                    let weight = Said {
                        weight: Some(round),
                        ..Said::default()
                    };
                    let _ = registry.set("shared", &weight);
                    let _ = registry.remove("shared");
                    registry.remove(&own).unwrap();
                }
            });
        }
    });
    assert!(registry.list().is_empty());
    assert!(door.served().is_empty());
    assert_eq!(fs::read_dir(dir.path().join("vms")).unwrap().count(), 0);
}
