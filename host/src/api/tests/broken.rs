// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What breaks the description is refused, and changes nothing.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::Held;

/// Any small JSON.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (0u64..100_000).prop_map(Value::from),
        (-1e20..1e20).prop_map(Value::from),
        ".{0,70}".prop_map(Value::from),
        "(auto|lz4|none|any|certain|8G|credit|web2|blk|tmem|error|spill|67e55044-10b1-426f-9247-bb680e5fe0c8)".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z_]{0,8}", inner, 0..3)
                .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// An object with properties that are described, and perhaps others.
fn body() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "(name|quota|ephemeral_quota|weight|codec|domain|grace|swap_size|frozen|max_pools|give_back|personality|size|swapspace|label|on_full|bytes)",
        "(socket|identity|kept|origin|[a-z]{1,5})",
    ];
    let object = prop::collection::btree_map(key, value(), 0..4)
        .prop_map(|map| Value::from(map.into_iter().collect::<Map<_, _>>()));
    prop_oneof![4 => object, 1 => value()]
}

/// The machines' settings, without what changes by itself.
fn settings(held: &Held) -> Value {
    let all = held.json("GET", "/v1/vms", "");
    json!(all["vms"])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_not_as_described_is_refused_and_changes_nothing(body in body(), add: bool) {
        let held = Held::new();
        let (method, path, name) = match add {
            true => ("POST", "/v1/vms", "NewVm"),
            false => ("PATCH", "/v1/vms/web1", "Change"),
        };
        let described = held.document.check(name, &body);
        let before = settings(&held);
        let status = held.status(method, path, &body.to_string());
        prop_assert!(status < 500, "{status}: {body}");
        if let Err(broken) = described {
            prop_assert_eq!(status, 400, "{}: {}", broken, body);
        }
        if status >= 300 {
            prop_assert_eq!(settings(&held), before);
        }
    }

    #[test]
    fn bytes_that_are_no_json_are_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let held = Held::new();
        for (method, path) in [
            ("POST", "/v1/vms"),
            ("PATCH", "/v1/vms/web1"),
            ("POST", "/v1/vms/web1/flush"),
        ] {
            let response = held.api.answer(&crate::http::Request {
                method: method.into(),
                path: path.into(),
                body: body.clone(),
                ..Default::default()
            });
            prop_assert_eq!(response.status, 400);
        }
    }

    #[test]
    fn names_in_paths_are_names(name in "[^/?# ]{0,80}") {
        let held = Held::new();
        let path = format!("/v1/vms/{name}");
        for method in ["GET", "PATCH", "DELETE"] {
            let status = held.status(method, &path, r#"{"weight": 1}"#);
            prop_assert_eq!(status, 404);
        }
    }
}
