// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The API is what its description says.

mod broken;
mod contract;
mod removal;

use std::sync::Arc;

use serde_json::Value;

use super::{Api, OPENAPI};
use crate::http::{Request, Response};
use crate::registry::{Origin, Registry, Said, Shares};
use crate::testing::{Document, FakeDoor};

/// An API, and what keeps its answers to the description.
struct Held {
    api: Api,
    door: FakeDoor,
    document: Document,
}

impl Held {
    /// With a machine `web1` of the API, and `fixed` of the command line.
    fn new() -> Self {
        let mut door = FakeDoor::default();
        let shares = Arc::new(Shares::new(door.store.clone(), None));
        door.shares = Some(shares.clone());
        let defaults = crate::registry::Defaults {
            quota: virtio_tmem::device::Quota::Fixed(1 << 20),
            swap_size: None,
            grace: std::time::Duration::from_secs(60),
        };
        let registry = Registry::new(Box::new(door.clone()), defaults.clone(), None);
        let registry = registry.with_shares(shares);
        let settings = Said::default().over(&defaults).unwrap();
        let fixed = "fixed".parse().unwrap();
        registry.open(fixed, settings, Origin::CommandLine).unwrap();
        registry.add("web1", &Said::default()).unwrap();
        let api = Api {
            store: Some(door.store.clone()),
            registry: Arc::new(registry),
            health: Arc::default(),
        };
        Self {
            api,
            door,
            document: Document::read(OPENAPI),
        }
    }

    /// Asks, and judges the answer.
    fn ask(&self, method: &str, path: &str, body: &str) -> Response {
        let response = self.api.answer(&Request {
            method: method.to_owned(),
            path: path.to_owned(),
            body: body.into(),
            ..Request::default()
        });
        let answer = (response.status, response.content_type, &*response.body);
        self.document.judge(method, path, answer);
        response
    }

    fn status(&self, method: &str, path: &str, body: &str) -> u16 {
        self.ask(method, path, body).status
    }

    fn json(&self, method: &str, path: &str, body: &str) -> Value {
        let response = self.ask(method, path, body);
        assert!(response.status < 300, "{response:?}");
        serde_json::from_str(&response.body).unwrap()
    }
}
