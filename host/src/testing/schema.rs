// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! As much of JSON Schema as the description uses. What it does not know, it refuses.

use serde_json::Value;

/// Whether `value` is one of those that `schema` describes.
pub(super) fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    for (key, rule) in schema.as_object().unwrap() {
        let holds = match key.as_str() {
            "description" => true,
            "$ref" => {
                let path = rule.as_str().unwrap().strip_prefix('#').unwrap();
                let target = document.pointer(path).unwrap();
                check(document, target, value)?;
                true
            }
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is(kind, value)),
                kind => is(kind, value),
            },
            "enum" => rule.as_array().unwrap().contains(value),
            "anyOf" => {
                let mut any = rule.as_array().unwrap().iter();
                any.any(|schema| check(document, schema, value).is_ok())
            }
            "minimum" => value.as_u64().is_none_or(|is| is >= rule.as_u64().unwrap()),
            "maximum" => value.as_u64().is_none_or(|is| is <= rule.as_u64().unwrap()),
            // Of sizes, which may be written otherwise.
            "pattern" if rule.as_str().unwrap().contains("MGT") => {
                let may_be_none = rule.as_str().unwrap().contains("none");
                let read = |is: &str| {
                    crate::registry::values::quota(is).is_ok() || (may_be_none && is == "none")
                };
                value.as_str().is_none_or(read)
            }
            // Of names; those of domains may be empty.
            "pattern" => value.as_str().is_none_or(|is| {
                let is_name = is.parse::<crate::registry::Name>().is_ok();
                is_name || (is.is_empty() && rule.as_str().unwrap().ends_with("?$"))
            }),
            "format" => {
                assert_eq!(rule, "uuid");
                let is_uuid = |is| uuid::Uuid::try_parse(is).is_ok();
                value.as_str().is_none_or(is_uuid)
            }
            "minProperties" => value.as_object().is_none_or(|is| !is.is_empty()),
            "required" => {
                let mut names = rule.as_array().unwrap().iter();
                names.all(|name| value.get(name.as_str().unwrap()).is_some())
            }
            "additionalProperties" => {
                assert_eq!(rule, false);
                let mut keys = value.as_object().into_iter().flat_map(|it| it.keys());
                keys.all(|key| schema["properties"].get(key).is_some())
            }
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(document, schema, value)
                            .map_err(|error| format!("{name}: {error}"))?;
                    }
                }
                true
            }
            "items" => {
                for value in value.as_array().into_iter().flatten() {
                    check(document, rule, value)?;
                }
                true
            }
            other => panic!("'{other}' is not known"),
        };
        if !holds {
            return Err(format!("{key} of {schema}: {value}"));
        }
    }
    Ok(())
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        // 3.0 is an integer, too.
        "integer" => {
            let is_whole = |it: f64| it.fract() == 0.0;
            value.is_u64() || value.is_i64() || value.as_f64().is_some_and(is_whole)
        }
        other => panic!("'{other}' is not known"),
    }
}
