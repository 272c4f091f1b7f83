// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the API answers to which request.

use serde::Deserialize;
use serde_json::json;
use tmem_cli::size;
use tmem_host::http::{Request, Response};

use super::stats;
use crate::vm::{Tmem, Vm};

const KNOWN: &str = "known are GET /v1/vm, /v1/stats and /metrics; PUT /v1/vm/pause, \
                     /v1/vm/resume, /v1/vm/shutdown and /v1/tmem";

/// How to shut down.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shutdown {
    /// Without asking the guest.
    #[serde(default)]
    force: bool,
}

/// Settings of the store that can be changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    /// Bytes.
    quota: u64,
}

pub(super) fn answer(vm: &Vm, request: &Request) -> Response {
    let parts: Vec<_> = request.path.split('/').skip(1).collect();
    match (request.method.as_str(), parts.as_slice()) {
        ("GET", ["v1", "vm"]) => state(vm),
        ("GET", ["v1", "stats"]) => Response::json(&stats::json(vm)),
        ("GET", ["metrics"]) => stats::page(vm).answer(request),
        ("PUT", ["v1", "vm", "pause"]) => {
            vm.pause();
            state(vm)
        }
        ("PUT", ["v1", "vm", "resume"]) => {
            vm.resume();
            state(vm)
        }
        ("PUT", ["v1", "vm", "shutdown"]) => shutdown(vm, request),
        ("PUT", ["v1", "tmem"]) => change(vm, request),
        (
            _,
            ["v1", "vm" | "stats" | "tmem"]
            | ["v1", "vm", "pause" | "resume" | "shutdown"]
            | ["metrics"],
        ) => Response::error(405, KNOWN),
        _ => Response::error(404, KNOWN),
    }
}

fn state(vm: &Vm) -> Response {
    let tmem = match vm.tmem {
        Tmem::None => "none",
        Tmem::InProcess(_) => "in-process",
        Tmem::Daemon => "daemon",
    };
    Response::json(&json!({
        "state": vm.state(),
        "cpus": vm.cpus,
        "memory": vm.memory,
        "tmem": tmem,
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

fn change(vm: &Vm, request: &Request) -> Response {
    let change: Change = match request.object() {
        Ok(change) => change,
        Err(error) => {
            let sentence = format!("send a body like {{\"quota\": 1073741824}}: {error}");
            return Response::error(400, &sentence);
        }
    };
    match &vm.tmem {
        Tmem::InProcess(tmem) => {
            let most = tmem.store().stats().memory_limit_bytes;
            if change.quota > most {
                let sentence = format!(
                    "the store was started with a memory limit of {}; a quota can be that at most",
                    size::show(most)
                );
                return Response::error(400, &sentence);
            }
            tmem.device().set_quota(change.quota);
            log::info!("quota set to {}", size::show(change.quota));
            Response::json(&stats::of_tmem(tmem).into())
        }
        Tmem::Daemon => Response::error(
            409,
            "the daemon has the quota; set it there, with tmemctl vm set NAME --quota SIZE",
        ),
        Tmem::None => Response::error(
            409,
            "this machine has no transcendent memory; start it with --tmem quota=SIZE",
        ),
    }
}
