// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The daemon's control API.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::http;

/// A daemon that can be asked.
#[derive(Debug)]
pub(super) struct Api {
    socket: PathBuf,
}

/// A virtual machine, as far as it is shown here.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Vm {
    pub(super) name: String,
    pub(super) personality: String,
    pub(super) kept: bool,
    pub(super) origin: String,
    pub(super) socket: Option<PathBuf>,
    pub(super) quota: Value,
    pub(super) quota_bytes: u64,
    pub(super) ephemeral_quota: Option<u64>,
    pub(super) weight: u64,
    pub(super) codec: String,
    pub(super) domain: Option<String>,
    pub(super) max_pools: u64,
    pub(super) grace: u64,
    pub(super) swap_size: Option<u64>,
    pub(super) size: Option<u64>,
    pub(super) swapspace: Option<bool>,
    pub(super) label: Option<String>,
    pub(super) frozen: bool,
    pub(super) connected: bool,
    pub(super) pools: u64,
    pub(super) persistent_pages: u64,
    pub(super) ephemeral_pages: u64,
    pub(super) stored_bytes: u64,
    pub(super) held_bytes: u64,
    pub(super) ephemeral_held_bytes: u64,
    pub(super) freeable_bytes: u64,
    pub(super) resident_bytes: Option<u64>,
    pub(super) given_back_bytes: Option<u64>,
}

/// What the host has left to give.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Freeable {
    pub(super) memory_limit_bytes: u64,
    pub(super) held_bytes: u64,
    pub(super) free_bytes: u64,
    pub(super) freeable_bytes: u64,
    pub(super) promised_bytes: u64,
    pub(super) promisable_bytes: u64,
}

/// What a flush gave.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Flushed {
    pub(super) flushed_pages: u64,
    pub(super) freed_bytes: u64,
    pub(super) ephemeral_pages: u64,
}

#[derive(Deserialize)]
struct Vms {
    vms: Vec<Vm>,
}

#[derive(Deserialize)]
struct Stats<T> {
    vms: BTreeMap<String, T>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

impl Api {
    pub(super) fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// All virtual machines.
    pub(super) fn vms(&self) -> Result<Vec<Vm>> {
        Ok(read::<Vms>(self.get("/v1/vms")?)?.vms)
    }

    pub(super) fn freeable(&self) -> Result<Freeable> {
        read(self.get("/v1/freeable")?)
    }

    /// Counters of each virtual machine, by its name.
    pub(super) fn counters<T: DeserializeOwned>(&self) -> Result<BTreeMap<String, T>> {
        Ok(read::<Stats<T>>(self.get("/v1/stats")?)?.vms)
    }

    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, None)
    }

    /// Asks for something that is answered with what it made or changed.
    pub(super) fn change<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T> {
        read(self.ask(method, path, body)?)
    }

    /// Has the daemon write to `to`; what it says of that.
    pub(super) fn fetch(&self, path: &str, to: &mut impl Write) -> Result<Value> {
        let fetched = http::fetch(&self.socket, path, to)?;
        fetched.map_or_else(said, |said| {
            serde_json::from_str(&said).context("the daemon's answer is no JSON")
        })
    }

    /// Has the daemon read from `from`; what it says of that.
    pub(super) fn send(&self, path: &str, from: &mut impl Read) -> Result<Value> {
        said(http::send(&self.socket, path, from)?)
    }

    /// Asks; what is answered with nothing gives null.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        said(http::ask(&self.socket, method, path, body.as_bytes())?)
    }
}

/// What an answer says.
fn said(answer: http::Answer) -> Result<Value> {
    if answer.status == 204 {
        return Ok(Value::Null);
    }
    let value: serde_json::Result<Value> = serde_json::from_slice(&answer.body);
    if !(200..300).contains(&answer.status) {
        let reason = value.and_then(serde_json::from_value::<Refusal>);
        match reason {
            Ok(Refusal { error }) => bail!("{error}"),
            Err(_) => bail!("the daemon refuses with status {}", answer.status),
        }
    }
    value.context("the daemon's answer is no JSON")
}

pub(super) fn read<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).context(
        "the daemon answers something else than expected: install the tmemctl that belongs to it",
    )
}
