// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The bodies of requests, and what is answered.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::http::{Request, Response};
use crate::registry::Refusal;

/// A request's answer, or why there is none.
pub(super) type Answer = Result<Response, Refusal>;

/// What is to be made: its name, and what is said of it.
#[derive(Debug, Deserialize)]
pub(super) struct New {
    pub(super) name: String,
    /// `deny_unknown_fields` is that of the settings.
    #[serde(flatten)]
    pub(super) said: Map<String, Value>,
}

/// Settings, of a machine or a share.
///
/// # Errors
/// A sentence about the first mistake.
pub(super) fn settings<T: DeserializeOwned>(said: Map<String, Value>) -> Result<T, Refusal> {
    serde_json::from_value(said.into()).map_err(|error| Refusal::Invalid(error.to_string()))
}

/// What the body says, which is to be an object like `like`.
///
/// # Errors
/// A sentence, if it is not.
pub(super) fn object<T: DeserializeOwned>(request: &Request, like: &str) -> Result<T, Refusal> {
    let object = request
        .object::<Map<String, Value>>()
        .and_then(|mut object| {
            object.values_mut().for_each(whole);
            serde_json::from_value(object.into())
        });
    object.map_err(|error| Refusal::Invalid(format!("send a body like {like}: {error}")))
}

/// Makes 3 of 3.0: both are integers in JSON Schema.
fn whole(value: &mut Value) {
    if let Some(number) = value
        .as_f64()
        .filter(|it| value.is_f64() && it.fract() == 0.0)
        && let Ok(whole) = format!("{number:.0}").parse::<u64>()
    {
        *value = whole.into();
    }
}
