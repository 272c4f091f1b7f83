// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The description of the API: that of the control API, and what a machine has beside it.

use std::sync::LazyLock;

use serde_json::{Map, Value};
use tmem_host::api::OPENAPI;

/// What a machine has of its own.
const OWN: &str = include_str!("../../openapi.json");

/// The description, as JSON.
pub(super) fn text() -> String {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", joined(OPENAPI, OWN)));
    TEXT.clone()
}

/// Both in one; of two values, that of `own`.
fn joined(control: &str, own: &str) -> Value {
    // Tests see to it that both are JSON.
    let read = |text| serde_json::from_str::<Value>(text).unwrap_or_default();
    let mut all = read(control);
    join(&mut all, read(own));
    all
}

fn join(all: &mut Value, own: Value) {
    match (all, own) {
        (Value::Object(all), Value::Object(own)) => {
            for (key, value) in own {
                join(all.entry(key).or_insert_with(|| Map::new().into()), value);
            }
        }
        (all, own) => *all = own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn nothing_is_described_twice() {
        let [control, own]: [Value; 2] =
            [OPENAPI, OWN].map(|text| serde_json::from_str(text).unwrap());
        for part in ["/paths", "/components/schemas"] {
            let names = |of: &Value| -> BTreeSet<_> {
                let part = of.pointer(part).and_then(Value::as_object).unwrap();
                part.keys().cloned().collect()
            };
            let all: Value = serde_json::from_str(&text()).unwrap();
            let both: BTreeSet<_> = names(&control).union(&names(&own)).cloned().collect();
            assert_eq!(names(&all), both);
            assert!(names(&control).is_disjoint(&names(&own)), "{part}");
        }
    }
}
