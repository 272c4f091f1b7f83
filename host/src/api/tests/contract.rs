// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Every route and status that is described is there, and no other.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Held;

/// Requests that get every answer that is described.
const REQUESTS: &[(&str, &str, &str, u16)] = &[
    ("GET", "/v1/vms", "", 200),
    (
        "POST",
        "/v1/vms",
        r#"{"name": "web2", "quota": "8G", "domain": "team-a"}"#,
        201,
    ),
    ("POST", "/v1/vms", r#"{"name": "web2"}"#, 409),
    ("POST", "/v1/vms", r#"{"name": "../web2"}"#, 400),
    (
        "POST",
        "/v1/vms",
        r#"{"name": "web3", "socket": "/x"}"#,
        400,
    ),
    (
        "POST",
        "/v1/vms",
        r#"{"name": "disk1", "personality": "blk", "size": "1G", "quota": "512M"}"#,
        201,
    ),
    (
        "POST",
        "/v1/vms",
        r#"{"name": "disk2", "personality": "blk", "on_full": "spill"}"#,
        400,
    ),
    ("POST", "/v1/vms", r#"{"name": "web3", "size": "1G"}"#, 400),
    ("GET", "/v1/vms/disk1", "", 200),
    (
        "PATCH",
        "/v1/vms/disk1",
        r#"{"quota": "256M", "weight": 7, "codec": "zstd"}"#,
        200,
    ),
    ("PATCH", "/v1/vms/disk1", r#"{"size": "2G"}"#, 400),
    ("PATCH", "/v1/vms/disk1", r#"{"personality": "tmem"}"#, 400),
    ("PATCH", "/v1/vms/disk1", r#"{"frozen": true}"#, 400),
    ("PATCH", "/v1/vms/disk1", r#"{"swap_size": "1G"}"#, 400),
    ("POST", "/v1/vms/disk1/detach", "", 409),
    ("POST", "/v1/vms/disk1/flush", r#"{"bytes": 4096}"#, 200),
    ("GET", "/v1/vms/web1", "", 200),
    ("GET", "/v1/vms/nobody", "", 404),
    ("GET", "/v1/vms/..", "", 404),
    ("GET", "/v1/vms/%2e%2e", "", 404),
    (
        "PATCH",
        "/v1/vms/web1",
        r#"{"weight": 300, "quota": "credit:64M"}"#,
        200,
    ),
    ("PATCH", "/v1/vms/web1", "{}", 400),
    ("PATCH", "/v1/vms/web1", r#"{"max_pools": 3}"#, 400),
    ("PATCH", "/v1/vms/nobody", r#"{"weight": 300}"#, 404),
    ("GET", "/v1/shares", "", 200),
    (
        "POST",
        "/v1/shares",
        r#"{"name": "golden", "domain": "team-a", "vms": ["web2"], "quota": "16M", "uuid": "6b1fbd2c-6ff4-4f0b-8f7a-3c1f0f6a2b11"}"#,
        201,
    ),
    (
        "POST",
        "/v1/shares",
        r#"{"name": "golden", "domain": "team-a"}"#,
        409,
    ),
    (
        "POST",
        "/v1/shares",
        r#"{"name": "copper", "domain": "team-a", "uuid": "6b1fbd2c-6ff4-4f0b-8f7a-3c1f0f6a2b11"}"#,
        409,
    ),
    (
        "POST",
        "/v1/shares",
        r#"{"name": "copper", "domain": "team-a", "vms": ["web1"]}"#,
        409,
    ),
    ("POST", "/v1/shares", r#"{"name": "copper"}"#, 400),
    (
        "POST",
        "/v1/shares",
        r#"{"name": "verified", "vms": ["web1", "web2"], "verified": {"salt": "00ff", "root_hash": "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7"}}"#,
        201,
    ),
    (
        "POST",
        "/v1/shares",
        r#"{"name": "copper", "verified": {"salt": "00ff", "root_hash": "ad7f"}}"#,
        400,
    ),
    (
        "POST",
        "/v1/shares",
        r#"{"name": "copper", "domain": "team-a", "verified": {"salt": "", "root_hash": "ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7"}}"#,
        400,
    ),
    ("GET", "/v1/shares/verified", "", 200),
    (
        "POST",
        "/v1/shares",
        r#"{"name": "../copper", "domain": "team-a"}"#,
        400,
    ),
    ("GET", "/v1/shares/golden", "", 200),
    ("GET", "/v1/shares/copper", "", 404),
    ("PATCH", "/v1/shares/golden", r#"{"quota": "2M"}"#, 200),
    ("PATCH", "/v1/shares/golden", r#"{"vms": []}"#, 200),
    ("PATCH", "/v1/shares/golden", r#"{"vms": ["fixed"]}"#, 409),
    ("PATCH", "/v1/shares/golden", r#"{"domain": "team-b"}"#, 400),
    ("PATCH", "/v1/shares/golden", "{}", 400),
    ("PATCH", "/v1/shares/copper", r#"{"quota": "2M"}"#, 404),
    ("GET", "/v1/shares", "", 200),
    ("GET", "/metrics", "", 200),
    ("DELETE", "/v1/shares/golden", "", 204),
    ("DELETE", "/v1/shares/golden", "", 404),
    ("DELETE", "/v1/vms/web2", "", 204),
    ("DELETE", "/v1/vms/web2", "", 404),
    ("DELETE", "/v1/vms/fixed", "", 409),
    ("POST", "/v1/vms/web1/flush", r#"{"bytes": 4096.0}"#, 200),
    ("POST", "/v1/vms/web1/flush", r#"{"bytes": -1}"#, 400),
    ("POST", "/v1/vms/nobody/flush", r#"{"bytes": 4096}"#, 404),
    ("POST", "/v1/vms/web1/detach", "", 200),
    ("POST", "/v1/vms/nobody/detach", "", 404),
    ("GET", "/v1/vms/web1/image", "", 409),
    ("GET", "/v1/vms/nobody/image", "", 404),
    ("PUT", "/v1/vms/web1/image", "", 409),
    ("PUT", "/v1/vms/nobody/image", "", 404),
    ("POST", "/v1/vms/web1/clone", r#"{"to": "disk1"}"#, 409),
    ("POST", "/v1/vms/web1/clone", r#"{"to": "web1"}"#, 400),
    ("POST", "/v1/vms/web1/clone", r#"{"to": "nobody"}"#, 404),
    ("GET", "/v1/freeable", "", 200),
    ("GET", "/v1/tiers", "", 200),
    ("GET", "/v1/stats", "", 200),
    ("GET", "/v1/openapi.json", "", 200),
    ("GET", "/metrics", "", 200),
];

#[test]
fn every_answer_that_is_described_is_given() {
    let held = Held::new();
    let mut given = BTreeSet::new();
    let mut ask = |method: &str, path: &str, body: &str, expected: u16| {
        let response = held.ask(method, path, body);
        assert_eq!(response.status, expected, "{method} {path}: {response:?}");
        let template = held.document.template(path).unwrap();
        given.insert((template.to_owned(), method.to_owned(), expected.to_string()));
    };
    for (method, path, body, expected) in REQUESTS {
        ask(method, path, body, *expected);
    }
    held.door.refuse(true);
    ask("POST", "/v1/vms", r#"{"name": "web4"}"#, 500);
    // What the state directory refuses is tested with the registry, which has one.
    let failing = |method: &str| ("/v1/vms/{name}".into(), method.into(), "500".into());
    given.extend([failing("PATCH"), failing("DELETE")]);
    let failing = |(path, method): (&str, &str)| (path.into(), method.into(), "500".into());
    given.extend(
        [
            ("/v1/shares", "POST"),
            ("/v1/shares/{name}", "PATCH"),
            ("/v1/shares/{name}", "DELETE"),
        ]
        .map(failing),
    );
    // While others are removed: see `removal`.
    let removal =
        |(method, status): (&str, &str)| ("/v1/vms/{name}".into(), method.into(), status.into());
    given.extend([("PATCH", "409"), ("DELETE", "503")].map(removal));
    // Images are streams: the conformance tests of the daemon have them.
    let image = |(method, status): (&str, &str)| {
        ("/v1/vms/{name}/image".into(), method.into(), status.into())
    };
    let streams = [
        ("GET", "200"),
        ("GET", "503"),
        ("PUT", "200"),
        ("PUT", "400"),
        ("PUT", "500"),
        ("PUT", "503"),
    ];
    given.extend(streams.map(image));
    let clone = |status: &str| ("/v1/vms/{name}/clone".into(), "POST".into(), status.into());
    given.extend(["200", "500", "503"].map(clone));
    let described: BTreeSet<_> = held.document.answers().into_iter().collect();
    assert_eq!(given, described);
}

#[test]
fn no_other_route_is_there() {
    let held = Held::new();
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "",
    ];
    for path in [
        "",
        "/",
        "//",
        "/v1",
        "/v1/",
        "/v2/vms",
        "/v1/vms/",
        "/v1/vms/web1/",
        "/v1/vms/web1/x",
        "/v1/vms/web1/flush/x",
        "/v1/freeable/x",
        "/metrics/",
        "v1/vms",
        "/V1/vms",
        "/v1/vms",
        "/v1/vms/web1",
        "/v1/vms/web1/flush",
        "/v1/vms/web1/detach",
        "/v1/vms/web1/image",
        "/v1/vms/web1/clone",
        "/v1/freeable",
        "/v1/tiers",
        "/v1/stats",
        "/v1/openapi.json",
        "/metrics",
    ] {
        for method in methods {
            // Judged by the description. What removes it would spoil the next.
            if (method, path) != ("DELETE", "/v1/vms/web1") {
                held.ask(method, path, "");
            }
        }
    }
    let refused = held.ask("PUT", "/v1/vms", "");
    assert_eq!(refused.header, Some(("Allow", "GET, POST".into())));
}

#[test]
fn what_is_set_is_shown_and_reaches_the_store() {
    let held = Held::new();
    let body = r#"{"name": "a", "quota": 1048576, "ephemeral_quota": 4096, "weight": 7, "codec": "lz4", "grace": 5,
        "domain": "team-a", "max_pools": 3, "give_back": "any", "swap_size": "1M", "frozen": true}"#;
    let made = held.ask("POST", "/v1/vms", body);
    assert_eq!(made.header, Some(("Location", "/v1/vms/a".into())));
    let shown = held.json("GET", "/v1/vms/a", "");
    let expected: Value = serde_json::from_str(body).unwrap();
    for (key, value) in expected.as_object().unwrap() {
        let value = if key == "swap_size" {
            &json!(1 << 20)
        } else {
            value
        };
        assert_eq!(&shown[key], value, "{key}");
    }
    assert_eq!(shown["socket"], "/run/tmem/a.sock");
    let client = || {
        held.api
            .registry
            .get("a")
            .unwrap()
            .machine()
            .device()
            .client()
            .stats()
    };
    assert!(client().frozen);
    assert_eq!(client().ephemeral_quota_bytes, 4096);
    let body = r#"{"quota": "2M", "ephemeral_quota": "none", "weight": 8, "codec": "none", "frozen": false, "domain": ""}"#;
    let shown = held.json("PATCH", "/v1/vms/a", body);
    assert_eq!(shown["domain"], Value::Null);
    assert_eq!(shown["codec"], "none");
    let client = client();
    assert_eq!((client.quota_bytes, client.weight), (2 << 20, 8));
    assert_eq!(client.ephemeral_quota_bytes, 2 << 20);
    assert!(!client.frozen);
}

#[test]
fn a_disk_is_shown_with_what_it_has_and_without_what_it_has_not() {
    let held = Held::new();
    let body =
        r#"{"name": "a", "personality": "blk", "size": "8G", "quota": "4G", "label": "cold"}"#;
    held.ask("POST", "/v1/vms", body);
    let shown = held.json("GET", "/v1/vms/a", "");
    for (key, value) in [
        ("personality", json!("blk")),
        ("size", json!(8_u64 << 30)),
        ("swapspace", json!(true)),
        ("label", json!("cold")),
        ("on_full", json!("error")),
        ("swap_size", Value::Null),
        ("quota", json!(4_u64 << 30)),
        ("pools", json!(1)),
    ] {
        assert_eq!(shown[key], value, "{key}");
    }
    let other = held.json("GET", "/v1/vms/web1", "");
    assert_eq!(other["personality"], "tmem");
    for key in ["size", "swapspace", "label", "on_full"] {
        assert_eq!(other[key], Value::Null, "{key}");
    }
}
