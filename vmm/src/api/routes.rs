// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the API answers to which request.

use serde::Deserialize;
use serde_json::json;
use tmem_host::http::{JSON, Request, Response};

use super::{openapi, stats};
use crate::vm::Vm;

/// How to shut down.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shutdown {
    /// Without asking the guest.
    #[serde(default)]
    force: bool,
}

pub(super) fn answer(vm: &Vm, request: &Request) -> Response {
    let parts: Vec<_> = request.path.split('/').skip(1).collect();
    match (parts.as_slice(), request.method.as_str()) {
        (["v1", "vm"], "GET") => state(vm),
        (["v1", "vm", "pause"], "PUT") => {
            vm.pause();
            state(vm)
        }
        (["v1", "vm", "resume"], "PUT") => {
            vm.resume();
            state(vm)
        }
        (["v1", "vm", "shutdown"], "PUT") => shutdown(vm, request),
        (["v1", "vm"], _) => Response::not_allowed("GET"),
        (["v1", "vm", "pause" | "resume" | "shutdown"], _) => Response::not_allowed("PUT"),
        // What both have, with more in it here.
        (["v1", "stats"], "GET") => Response::json(&stats::json(vm)),
        (["metrics"], "GET") => stats::page(vm).answer(request),
        (["v1", "openapi.json"], "GET") => Response::ok(JSON, openapi::text()),
        _ => vm.control.answer(request),
    }
}

fn state(vm: &Vm) -> Response {
    Response::json(&json!({
        "state": vm.state(),
        "cpus": vm.cpus,
        "memory": vm.memory,
        "tmem": vm.tmem.name(),
        "pid": std::process::id(),
    }))
}

fn shutdown(vm: &Vm, request: &Request) -> Response {
    let how: Shutdown = if request.body.is_empty() {
        Shutdown::default()
    } else {
        match request.object() {
            Ok(how) => how,
            Err(error) => {
                let sentence = format!("send no body, or one like {{\"force\": true}}: {error}");
                return Response::error(400, &sentence);
            }
        }
    };
    if how.force {
        vm.end();
    } else {
        vm.press_power_button();
    }
    state(vm)
}
