// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the control socket answers to which request.

use serde::Deserialize;
use tmem_host::http::{Request, Response};
use tmem_host::metrics::CONTENT_TYPE;
use tmem_host::size;

use super::{Control, metrics, stats};

/// Settings of a VM that can be changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Bytes.
    quota: u64,
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
    vm.device().set_quota(change.quota);
    log::info!("{name}: quota set to {}", size::show(change.quota));
    Response::json(&stats::of_vm(vm))
}
