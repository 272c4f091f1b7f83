// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The host's side: virtual machines, their memory and what they share, by the daemon's control API.

mod api;
mod http;
mod image;
mod path;
mod share;
mod show;
mod table;
mod tiers;
mod top;
mod vm;

use std::io::Write;

use anyhow::Result;
use serde_json::Value;

use crate::cli::{Control, Freeable, Tiers};
use api::Api;

pub(crate) use share::run as share;
pub(crate) use top::run as top;
pub(crate) use vm::run as vm;

/// `tmemctl freeable`.
pub(crate) fn freeable(wanted: &Freeable, out: &mut impl Write) -> Result<()> {
    let api = open(&wanted.control);
    if wanted.json {
        return json(&api.get("/v1/freeable")?, out);
    }
    out.write_all(show::freeable(&api.freeable()?, &api.vms()?).as_bytes())?;
    Ok(())
}

/// `tmemctl tiers`.
pub(crate) fn tiers(wanted: &Tiers, out: &mut impl Write) -> Result<()> {
    let api = open(&wanted.control);
    let tiers = api.get("/v1/tiers")?;
    if wanted.json {
        return json(&tiers, out);
    }
    out.write_all(tiers::shown(api::read(tiers)?).as_bytes())?;
    Ok(())
}

fn open(control: &Control) -> Api {
    Api::new(&control.control)
}

fn json(value: &Value, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{value:#}")?;
    Ok(())
}
