// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the control socket answers to which request.

use std::num::NonZeroU32;

use serde::Deserialize;
use tmem_cli::size;
use tmem_host::http::{Request, Response};
use tmem_host::prometheus::CONTENT_TYPE;
use tmem_store::Compression;
use virtio_tmem::device::Quota;

use super::{Control, metrics, stats};
use crate::values;

/// Settings of a VM that can be changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    quota: Option<NewQuota>,
    weight: Option<NonZeroU32>,
    codec: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum NewQuota {
    Bytes(u64),
    /// As on the command line.
    Text(String),
}

impl NewQuota {
    fn read(&self) -> Result<Quota, String> {
        match self {
            Self::Bytes(bytes) => Ok(Quota::Fixed(*bytes)),
            Self::Text(text) => values::quota(text),
        }
    }
}

pub(super) fn answer(control: &Control, request: &Request) -> Response {
    let parts: Vec<_> = request.path.split('/').skip(1).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["metrics"]) => Response::ok(CONTENT_TYPE, metrics::render(control).to_string()),
        ("GET", ["v1", "stats"]) => Response::json(&stats::render(control)),
        ("PUT", ["v1", "vms", name]) => change(control, name, request),
        (_, ["metrics"] | ["v1", "stats"] | ["v1", "vms", _]) => Response::error(
            405,
            "known are GET /metrics, GET /v1/stats, PUT /v1/vms/NAME",
        ),
        _ => Response::error(
            404,
            "known are GET /metrics, GET /v1/stats, PUT /v1/vms/NAME",
        ),
    }
}

fn change(control: &Control, name: &str, request: &Request) -> Response {
    let Some(vm) = control.vms.iter().find(|vm| vm.name() == name) else {
        return Response::error(404, &format!("there is no virtual machine '{name}'"));
    };
    let change: Change = match request.object() {
        Ok(change) => change,
        Err(error) => {
            let sentence = format!("send a body like {{\"quota\": 1073741824}}: {error}");
            return Response::error(400, &sentence);
        }
    };
    let quota = match change.quota.as_ref().map(NewQuota::read).transpose() {
        Ok(quota) => quota,
        Err(sentence) => return Response::error(400, &sentence),
    };
    let codec = change.codec.as_deref().map(Compression::parse);
    let codec = match codec.transpose() {
        Ok(codec) => codec,
        Err(sentence) => return Response::error(400, &sentence),
    };
    if quota.is_none() && change.weight.is_none() && codec.is_none() {
        let sentence = "nothing is to be changed: send a quota, a weight or a codec";
        return Response::error(400, sentence);
    }
    if let Some(quota) = quota {
        vm.device().set_quota_as(quota);
        // One on credit follows from what was given back.
        vm.look_after();
        let bytes = vm.device().client().stats().quota_bytes;
        log::info!("{name}: quota set to {}", size::show(bytes));
    }
    if let Some(weight) = change.weight {
        vm.device().client().set_weight(weight.get());
        log::info!("{name}: weight set to {weight}");
    }
    if let Some(codec) = codec {
        vm.device().client().set_compression(codec);
        log::info!("{name}: codec set to {}", codec.name());
    }
    Response::json(&stats::of_vm(vm))
}
