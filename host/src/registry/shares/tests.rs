// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Who is given a share, and who is not. Each control operation is tried for what would let somebody in.

use super::*;
use tmem_store::{PAGE_SIZE, StoreConfig};
use virtio_tmem::device::Verifier;

fn shares(state: Option<&State>) -> Arc<Shares> {
    let store = Store::new(StoreConfig::with_limit(64 << 20)).unwrap();
    let shares = Shares::new(store, state);
    for (vm, domain) in [("web1", "team-a"), ("web2", "team-a"), ("db1", "team-b")] {
        shares.set_domain(&name(vm), Some(&name(domain)));
    }
    shares.set_domain(&name("alone"), None);
    Arc::new(shares)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn said(vms: &[&str]) -> ShareSaid {
    ShareSaid {
        domain: Some("team-a".into()),
        vms: Some(vms.iter().map(ToString::to_string).collect()),
        ..ShareSaid::default()
    }
}

fn vms(vms: &[&str]) -> ShareSaid {
    ShareSaid {
        domain: None,
        ..said(vms)
    }
}

/// Those of all machines that have the share.
fn who(shares: &Arc<Shares>, share: &Share) -> Vec<&'static str> {
    let id = share.settings().uuid.into_bytes();
    let machines = ["web1", "web2", "db1", "alone", "nobody"];
    let has = |vm: &&str| shares.of(&name(vm)).pool(&id).is_some();
    machines.into_iter().filter(has).collect()
}

#[test]
fn only_machines_that_are_named_and_of_the_domain_have_a_share() {
    let shares = shares(None);
    let golden = shares.add("golden", &said(&[])).unwrap();
    assert!(who(&shares, &golden).is_empty(), "nobody by default");
    let refused = |vm| shares.set("golden", &vms(&["web1", vm])).unwrap_err();
    for vm in ["db1", "alone", "nobody"] {
        assert!(matches!(refused(vm), Refusal::Conflict(_)));
        assert!(who(&shares, &golden).is_empty(), "nothing was changed");
    }
    shares.set("golden", &vms(&["web1"])).unwrap();
    assert_eq!(who(&shares, &golden), ["web1"]);
    shares.set("golden", &vms(&["web1", "web2"])).unwrap();
    assert_eq!(who(&shares, &golden), ["web1", "web2"]);
    // Of another share with the same machines it has nothing.
    let other = shares.add("other", &said(&["web2"])).unwrap();
    assert_eq!(who(&shares, &other), ["web2"]);
    for id in [[0; 16], [0xff; 16]] {
        assert!(shares.of(&name("web1")).pool(&id).is_none());
    }
}

fn verified(vms: &[&str]) -> ShareSaid {
    ShareSaid {
        domain: None,
        verified: Some(VeritySaid {
            salt: "5a".repeat(32),
            root_hash: "ad".repeat(32),
        }),
        ..said(vms)
    }
}

#[test]
fn machines_of_any_domain_or_none_that_are_named_have_a_verified_share() {
    let shares = shares(None);
    let golden = shares.add("golden", &verified(&[])).unwrap();
    assert!(who(&shares, &golden).is_empty(), "nobody by default");
    let refused = shares.set("golden", &vms(&["web1", "nobody"]));
    assert!(matches!(refused, Err(Refusal::Conflict(_))));
    assert!(who(&shares, &golden).is_empty(), "nothing was changed");
    let three = ["web1", "db1", "alone"];
    shares.set("golden", &vms(&three)).unwrap();
    assert_eq!(who(&shares, &golden), three);
    // Each is given what checks the pages, with the image's salt.
    let id = golden.settings().uuid.into_bytes();
    let page = [7; PAGE_SIZE];
    for vm in three {
        let shared = shares.of(&name(vm)).pool(&id).unwrap();
        let hash = shared.verifier.unwrap().hash(&page);
        assert_eq!(hash, Verifier::new(&[0x5a; 32]).hash(&page));
    }
    let plain = shares.add("plain", &said(&["web1"])).unwrap();
    let plain = plain.settings().uuid.into_bytes();
    let shared = shares.of(&name("web1")).pool(&plain).unwrap();
    assert!(shared.verifier.is_none());

    // Whom a machine trusts may change; that it is served may not.
    shares.set_domain(&name("web1"), None);
    shares.set_domain(&name("alone"), Some(&name("team-a")));
    assert_eq!(who(&shares, &golden), three);
    shares.left(&name("db1"));
    assert_eq!(who(&shares, &golden), ["web1", "alone"]);
    shares.forget(&name("db1")).unwrap();
    shares.set_domain(&name("db1"), None);
    shares.set("golden", &vms(&["alone"])).unwrap();
    assert_eq!(who(&shares, &golden), ["alone"]);
}

#[test]
fn who_leaves_the_domain_or_goes_has_no_share_any_more() {
    let shares = shares(None);
    let golden = shares.add("golden", &said(&["web1", "web2"])).unwrap();
    shares.set_domain(&name("web1"), Some(&name("team-b")));
    assert_eq!(who(&shares, &golden), ["web2"]);
    // Others of it can be changed meanwhile, and it has it again when it is back.
    shares.set("golden", &vms(&["web1"])).unwrap();
    assert!(who(&shares, &golden).is_empty());
    shares.set_domain(&name("web1"), Some(&name("team-a")));
    assert_eq!(who(&shares, &golden), ["web1"]);
    shares.left(&name("web1"));
    assert!(who(&shares, &golden).is_empty());
    // The next of its name is another one.
    shares.forget(&name("web1")).unwrap();
    shares.set_domain(&name("web1"), Some(&name("team-a")));
    assert!(who(&shares, &golden).is_empty());
}

#[test]
fn a_share_that_is_removed_is_gone_with_its_pages() {
    let shares = shares(None);
    let golden = shares.add("golden", &said(&["web1", "web2"])).unwrap();
    let id = golden.settings().uuid.into_bytes();
    let pool = shares.of(&name("web1")).pool(&id).unwrap().pool;
    let object = [1; 24];
    let page = [7; PAGE_SIZE];
    assert!(pool.put(&object, 1, &page).result.is_ok());
    assert_eq!(golden.stats().ephemeral_pages, 1);
    shares.remove("golden").unwrap();
    assert!(shares.of(&name("web1")).pool(&id).is_none());
    assert!(shares.list().is_empty());
    // Who has asked before it went puts nothing and finds nothing.
    assert!(pool.put(&object, 2, &page).result.is_err());
    for index in [1, 2] {
        let mut found = [0; PAGE_SIZE];
        let got = pool.get(&object, index, &mut found);
        assert_eq!(got, tmem_store::Get::Miss);
    }
    assert!(matches!(shares.remove("golden"), Err(Refusal::Unknown(_))));
    // One of the same name and UUID begins empty.
    let uuid = Some(golden.settings().uuid.to_string());
    let said = ShareSaid {
        uuid,
        ..said(&["web1"])
    };
    let again = shares.add("golden", &said).unwrap();
    assert_eq!(again.stats().ephemeral_pages, 0);
    assert_eq!(who(&shares, &again), ["web1"]);
}

#[test]
fn a_name_or_a_uuid_is_that_of_one_share() {
    let shares = shares(None);
    let golden = shares.add("golden", &said(&["web1"])).unwrap();
    let again = shares.add("golden", &said(&["web2"])).unwrap_err();
    assert!(matches!(again, Refusal::Conflict(_)), "{again:?}");
    let same = ShareSaid {
        uuid: Some(golden.settings().uuid.to_string()),
        ..said(&["web2"])
    };
    let same = shares.add("copper", &same).unwrap_err();
    assert!(matches!(same, Refusal::Conflict(_)), "{same:?}");
    assert_eq!(who(&shares, &golden), ["web1"]);
    for name in ["../golden", "", "a b", ".golden"] {
        let refused = shares.add(name, &said(&[])).unwrap_err();
        assert!(matches!(refused, Refusal::Invalid(_)), "{refused:?}");
        for refused in [
            shares.set(name, &vms(&[])).map(drop),
            shares.remove(name),
            shares.get(name).map(drop),
        ] {
            assert!(matches!(refused, Err(Refusal::Unknown(_))), "{refused:?}");
        }
    }
}

#[test]
fn a_share_holds_what_it_may_and_no_more() {
    let shares = shares(None);
    let mut said = said(&["web1"]);
    said.quota = Some(crate::registry::Amount::Text("1M".into()));
    let golden = shares.add("golden", &said).unwrap();
    let id = golden.settings().uuid.into_bytes();
    let pool = shares.of(&name("web1")).pool(&id).unwrap().pool;
    let page: [u8; PAGE_SIZE] =
        std::array::from_fn(|nth| u8::try_from(nth * nth / 8 % 251).unwrap());
    for index in 0..1000 {
        pool.put(&[1; 24], index, &page);
        assert!(golden.stats().held_bytes <= 1 << 20);
    }
    assert!(golden.stats().evicted_pages > 0);
}

#[test]
fn shares_are_there_again_after_a_restart_for_the_same_machines() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let first = shares(Some(&state));
    let golden = first.add("golden", &said(&["web1", "web2"])).unwrap();
    let image = first.add("image", &verified(&["db1"])).unwrap();
    let image = image.settings();
    first.add("other", &said(&[])).unwrap();
    first.remove("other").unwrap();
    first.forget(&name("web2")).unwrap();
    let settings = golden.settings();
    drop((first, golden));

    let second = shares(Some(&state));
    second.restore().unwrap();
    assert_eq!(second.list().len(), 2);
    assert_eq!(second.get("image").unwrap().settings(), image);
    let golden = second.get("golden").unwrap();
    assert_eq!(golden.settings(), settings);
    assert_eq!(who(&second, &golden), ["web1"]);

    // What cannot be kept is not done.
    std::fs::remove_dir_all(dir.path().join("shares")).unwrap();
    for refused in [
        second.add("other", &said(&[])).map(drop),
        second.set("golden", &vms(&["web2"])).map(drop),
        second.remove("golden"),
        second.forget(&name("web1")),
    ] {
        assert!(matches!(refused, Err(Refusal::Failed(_))), "{refused:?}");
    }
    assert_eq!(who(&second, &golden), ["web1"]);
}

/// What is there, what the store has for it, and what the next daemon finds are the same.
fn is_one_and_the_same(shares: &Arc<Shares>, state: &State) {
    let settings = |of: &Shares| {
        let all = of.list().into_iter();
        all.map(|share| (share.name().clone(), share.settings()))
            .collect::<Vec<_>>()
    };
    assert_eq!(shares.read().by_id.len(), shares.list().len());
    assert_eq!(shares.store.stats().clients, shares.list().len() as u64);
    let next = Shares::new(
        Store::new(StoreConfig::with_limit(64 << 20)).unwrap(),
        Some(state),
    );
    next.restore().unwrap();
    assert_eq!(settings(&next), settings(shares));
}

#[test]
fn what_two_operators_do_at_once_is_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let shares = shares(Some(&state));
    let operate = |of: u64| {
        let mut random = of;
        for _ in 0..300 {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let share = ["golden", "other"][usize::from(random >> 40 & 1 == 1)];
            let some =
                [&["web1"][..], &["web1", "web2"], &[]][usize::try_from(random >> 50).unwrap() % 3];
            // Refused, it is somebody else who was there before.
            let _ = match random >> 60 & 3 {
                0 => shares.add(share, &said(some)).map(drop),
                1 => shares.set(share, &vms(some)).map(drop),
                2 => shares.forget(&name("web2")),
                _ => shares.remove(share),
            };
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| operate(1));
        scope.spawn(|| operate(2));
    });
    is_one_and_the_same(&shares, &state);
}

#[test]
fn a_share_for_which_there_is_no_memory_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(dir.path()).unwrap();
    let store = Store::new(StoreConfig::with_limit(2 << 20)).unwrap();
    let shares = Arc::new(Shares::new(store, Some(&state)));
    let refused = (0..100_000).find_map(|nth| shares.add(&format!("s{nth}"), &said(&[])).err());
    assert!(matches!(refused, Some(Refusal::Failed(_))), "{refused:?}");
    is_one_and_the_same(&shares, &state);
    let last = shares.list().pop().unwrap();
    shares.remove(last.name().as_str()).unwrap();
    drop(last);
    shares.add("another", &said(&[])).unwrap();
    is_one_and_the_same(&shares, &state);
}
