// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The control API: what an operator sees and changes of a store and the virtual machines
//! of a [`Registry`], over HTTP with JSON. `openapi.json` describes it, and tests hold it to that.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/vms` | all virtual machines |
//! | `POST /v1/vms` with a name and settings | serves another one |
//! | `GET /v1/vms/NAME` | one |
//! | `PATCH /v1/vms/NAME` with settings | changes them; the driver is told |
//! | `DELETE /v1/vms/NAME` | ends its connection and destroys its pools |
//! | `POST /v1/vms/NAME/flush` with `{"bytes": N}` | evicts ephemeral pages |
//! | `POST /v1/vms/NAME/detach` | asks its driver to bring its pages back |
//! | `GET /v1/vms/NAME/image` | its pages, to be kept: see [`crate::image`] |
//! | `PUT /v1/vms/NAME/image` with that | has it have these pages |
//! | `GET /v1/shares` | all pools that several virtual machines have |
//! | `POST /v1/shares` with a name and settings | makes another one |
//! | `GET`, `PATCH`, `DELETE /v1/shares/NAME` | as those of virtual machines |
//! | `GET /v1/freeable` | what this host has left to give |
//! | `GET /v1/tiers` | what is in memory and what in the spill area |
//! | `GET /v1/stats` | every metric as JSON |
//! | `GET /v1/openapi.json` | the description of all this |
//! | `GET /metrics` | every metric as Prometheus text, or as OpenMetrics if that is asked for |

mod body;
mod freeable;
mod metrics;
mod routes;
mod shares;
mod stats;
mod tiers;
mod vm;

use std::sync::Arc;

use serde_json::{Map, Value};
use tmem_store::{Store, StoreStats};

use crate::health::Health;
use crate::http::{Answer, Request, Response};
use crate::image::Workers;
use crate::prometheus::Page;
use crate::registry::Registry;

/// The description of the API.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// What the control API shows and changes.
#[derive(Clone, Debug)]
pub struct Api {
    /// The store behind all virtual machines, if there is one.
    pub store: Option<Store>,
    /// The virtual machines.
    pub registry: Arc<Registry>,
    /// What the program has met with.
    pub health: Arc<Health>,
}

impl Api {
    /// The answer to `request`; what takes long is left to `workers`.
    pub fn serve(&self, request: &Request, workers: &Workers) -> Answer {
        routes::serve(self, request, workers)
    }

    /// The answer to `request`. Nothing that takes long is done.
    pub fn answer(&self, request: &Request) -> Response {
        routes::answer(self, request)
    }

    /// The answer to `request` of one who may read metrics, and nothing else.
    pub fn answer_metrics(&self, request: &Request) -> Response {
        match (request.path.as_str(), request.method.as_str()) {
            ("/metrics", "GET") => self.metrics().answer(request),
            ("/metrics", _) => Response::not_allowed("GET"),
            _ => Response::error(404, "there is nothing here but /metrics"),
        }
    }

    fn store_stats(&self) -> StoreStats {
        self.store.as_ref().map(Store::stats).unwrap_or_default()
    }

    /// Every metric as JSON.
    pub fn stats(&self) -> Map<String, Value> {
        stats::render(self)
    }

    /// Every metric, for Prometheus.
    pub fn metrics(&self) -> Page {
        metrics::render(self)
    }
}

#[cfg(test)]
mod tests;
