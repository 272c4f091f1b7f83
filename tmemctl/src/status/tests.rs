// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
use super::*;
use crate::testing::{Fake, number};
use serde_json::{Value, json};

fn filter(kind: Kind, state: State) -> Filter {
    Filter {
        position: 0,
        major: 254,
        minor: 1,
        kind: kind as u32,
        state: state as u32,
        pages: 300,
        hits: 150,
        misses: 50,
        puts: 400,
        refused: 5,
        skipped: 6,
        invalidates: 7,
        vanished: 8,
        written_back: 9,
        errors: 10,
        evicted: 11,
        changed: 12,
        known_bytes: 13,
        share: [0; 16],
        share_use: 0,
        is_verified: 0,
        nameless: 0,
    }
}

#[test]
fn a_share_is_shown_with_what_has_become_of_it() {
    let with = |usage| {
        let mut report = sample();
        report.filters.truncate(1);
        report.filters[0].1 = Filter {
            share: [0x6b; 16],
            share_use: usage,
            ..filter(Kind::Shared, State::Active)
        };
        report
    };
    for (usage, state, word, words) in [
        (1, "active", "waiting", "the host does not give it"),
        (2, "active", "used", ": used\n"),
        (3, "over", "written", "written to"),
        (4, "over", "changed", "another one"),
        (99, "active", "unknown", "unknown"),
    ] {
        let report = with(usage);
        let text = table::text(&report);
        assert!(text.contains("share      6b6b6b6b-6b6b-6b6b-6b6b-6b6b6b6b6b6b on /dev/vda1: "));
        assert!(text.contains(words), "{text}");
        assert!(text.contains(&format!("shared  {state}")), "{text}");
        let mut out = Vec::new();
        json::write(&report, &mut out).unwrap();
        let found: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(found["filters"][0]["share"]["use"], word);
        assert_eq!(found["filters"][0]["state"], state);
        assert_eq!(found["filters"][0]["share"]["is_verified"], false);
    }
    let mut report = with(2);
    report.filters[0].1.is_verified = 1;
    report.filters[0].1.nameless = 128;
    let text = table::text(&report);
    assert!(text.contains(": used, verified\n"), "{text}");
    let mut out = Vec::new();
    json::write(&report, &mut out).unwrap();
    let found: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(found["filters"][0]["share"]["is_verified"], true);
    assert_eq!(found["filters"][0]["share"]["nameless"], 128);
}

fn sample() -> Report {
    let status = Status {
        version: 1,
        is_attached: 1,
        quota_bytes: 4 << 30,
        held_bytes: 3 << 20,
        swap_pages: 256,
        is_confidential: 0,
    };
    let swap = Filter {
        hits: 0,
        misses: 0,
        pages: 0,
        ..filter(Kind::Preswap, State::Waiting)
    };
    Report {
        status,
        filters: vec![
            ("/dev/vda1".into(), filter(Kind::Precache, State::Active)),
            ("/dev/mapper/vg-swap".into(), swap),
        ],
        warnings: Vec::new(),
    }
}

#[test]
fn the_table_has_a_line_for_each_device() {
    assert_eq!(
        table::text(&sample()),
        "\
host       there, holds 3 MiB of 4 GiB
swap disk  256 pages (1 MiB)

DEVICE               KIND      STATE    PAGES     SIZE  HITS  MISSES  RATE  PUTS  REFUSED  SKIPPED  INVALID  VANISHED  WRITEBACK  ERRORS
/dev/vda1            precache  active     300  1.1 MiB   150      50  75 %   400        5        6        7         8          9      10
/dev/mapper/vg-swap  preswap   waiting      0  0 bytes     0       0     -   400        5        6        7         8          9      10
"
    );
}

#[test]
fn the_table_says_when_there_is_nothing() {
    let report = Report {
        status: Status::default(),
        filters: Vec::new(),
        warnings: vec!["all is not well".into()],
    };
    assert_eq!(
        table::text(&report),
        "\
host       not there: everything goes to the disks
swap disk  0 pages (0 bytes)
warning    all is not well
Nothing is attached; `tmemctl attach --all` does that.
"
    );
}

#[test]
fn the_keys_of_the_json_stay_as_they_are() {
    let mut report = sample();
    report.filters.truncate(1);
    let mut out = Vec::new();
    json::write(&report, &mut out).unwrap();
    assert!(out.ends_with(b"}\n"));
    let found: Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(
        found,
        json!({
            "version": 1,
            "device": {
                "is_attached": true,
                "quota_bytes": 4_294_967_296_u64,
                "held_bytes": 3_145_728,
            },
            "swap_disk": { "pages": 256, "bytes": 1_048_576 },
            "filters": [{
                "device": "/dev/vda1",
                "major": 254,
                "minor": 1,
                "kind": "precache",
                "state": "active",
                "pages": 300,
                "bytes": 1_228_800,
                "hits": 150,
                "misses": 50,
                "puts": 400,
                "refused": 5,
                "skipped": 6,
                "invalidates": 7,
                "vanished": 8,
                "written_back": 9,
                "errors": 10,
                "evicted": 11,
                "changed": 12,
                "known_bytes": 13,
            }],
            "warnings": [],
        })
    );
}

#[test]
fn what_a_newer_module_might_say_is_shown_as_unknown() {
    let strange = Filter {
        kind: 77,
        state: 88,
        ..Filter::default()
    };
    assert_eq!(kind(&strange), "unknown");
    assert_eq!(state(&strange), "unknown");
}

#[test]
fn one_device_is_shown_alone_and_must_be_attached() {
    let module = Fake::default();
    for device in ["254:1", "254:2"] {
        module
            .attach(number(device).target(Kind::Precache))
            .unwrap();
    }
    let show = |device: &str| {
        let wanted = cli::Status {
            device: Some(device.into()),
            json: true,
            ..cli::Status::default()
        };
        let mut out = Vec::new();
        run(&module, &wanted, &mut out)?;
        anyhow::Ok(serde_json::from_slice::<Value>(&out)?)
    };
    let found = show("254:2").unwrap();
    assert_eq!(found["filters"].as_array().unwrap().len(), 1);
    assert_eq!(found["filters"][0]["minor"], 2);
    let error = show("254:3").unwrap_err().to_string();
    assert!(error.contains("254:3 is not attached"), "{error}");
}
