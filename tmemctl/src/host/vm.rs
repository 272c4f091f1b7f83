// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl vm`.

use std::io::Write;

use anyhow::Result;
use serde_json::{Map, Value, json};
use tmem_cli::size;

use super::api::{Api, Flushed, Vm};
use super::{image, json, open, show};
use crate::cli::{self, Settings, VmAction, VmAdd};
use crate::warn;

/// Does it.
pub(crate) fn run(wanted: &cli::Vm, out: &mut impl Write) -> Result<()> {
    let api = open(&wanted.control);
    match &wanted.action {
        VmAction::Add(add) => {
            let mut body = settings(&add.settings);
            body.insert("name".into(), add.name.as_str().into());
            body.extend(fixed(add));
            let vm: Vm = api.change("POST", "/v1/vms", Some(&body.into()))?;
            if let Some(socket) = &vm.socket {
                writeln!(out, "{}", socket.display())?;
            }
            if !vm.kept {
                warn(&format!(
                    "{} is there until the daemon ends: it keeps nothing, for it was started without --state",
                    vm.name
                ));
            }
        }
        VmAction::List(list) if list.json => json(&api.get("/v1/vms")?, out)?,
        VmAction::List(list) => {
            let vms = api.vms()?;
            let text = match list.long {
                true => show::long(&vms),
                false => show::list(&vms),
            };
            out.write_all(text.as_bytes())?;
        }
        VmAction::Set(set) => {
            let mut said = settings(&set.settings);
            said.extend(body([
                ("personality", set.personality.clone().map(Value::from)),
                ("size", set.size.map(Value::from)),
            ]));
            change(&api, &set.name, &said.into())?;
        }
        VmAction::Remove(remove) => {
            api.ask("DELETE", &path(&remove.name, ""), None)?;
        }
        VmAction::Freeze(freeze) => change(&api, &freeze.name, &json!({ "frozen": true }))?,
        VmAction::Thaw(thaw) => change(&api, &thaw.name, &json!({ "frozen": false }))?,
        VmAction::Flush(flush) => {
            let body = json!({ "bytes": flush.bytes });
            let flushed: Flushed = api.change("POST", &path(&flush.name, "/flush"), Some(&body))?;
            writeln!(
                out,
                "{} ephemeral pages are gone, {} came back, {} ephemeral pages are left",
                flushed.flushed_pages,
                size::show(flushed.freed_bytes),
                flushed.ephemeral_pages
            )?;
        }
        VmAction::Save(wanted) => image::save(&api, &path(&wanted.name, "/image"), wanted)?,
        VmAction::Restore(wanted) => image::restore(&api, &path(&wanted.name, "/image"), wanted)?,
        VmAction::Clone(wanted) => image::clone(&api, &path(&wanted.name, "/clone"), wanted)?,
        VmAction::Detach(detach) => {
            let vm: Vm = api.change("POST", &path(&detach.name, "/detach"), None)?;
            writeln!(
                out,
                "{} is asked to bring its {} pages back; `tmemctl vm list` shows how many are left",
                vm.name, vm.persistent_pages
            )?;
            if !vm.connected {
                warn(&format!("{} hears of it once it is connected", vm.name));
            }
        }
    }
    Ok(())
}

fn change(api: &Api, name: &str, body: &Value) -> Result<()> {
    let vm: Vm = api.change("PATCH", &path(name, ""), Some(body))?;
    if !vm.kept {
        let reason = match vm.origin.as_str() {
            "file" => "change its file, too",
            "service-manager" => "write a file of settings for it",
            "command-line" => "change the command line, too",
            _ => "it was started without --state",
        };
        warn(&format!(
            "{} keeps this until its program ends: {reason}",
            vm.name
        ));
    }
    Ok(())
}

/// The path of a machine.
fn path(name: &str, action: &str) -> String {
    super::path::path("vms", name, action)
}

fn settings(said: &Settings) -> Map<String, Value> {
    body([
        ("quota", said.quota.clone().map(Value::from)),
        (
            "ephemeral_quota",
            said.ephemeral_quota.clone().map(Value::from),
        ),
        ("weight", said.weight.map(Value::from)),
        ("codec", said.codec.clone().map(Value::from)),
        ("domain", said.domain.clone().map(Value::from)),
        ("grace", said.grace.map(Value::from)),
        ("swap_size", said.swap_size.map(Value::from)),
    ])
}

/// What is said once and for all.
fn fixed(add: &VmAdd) -> Map<String, Value> {
    body([
        ("personality", add.personality.clone().map(Value::from)),
        ("size", add.size.map(Value::from)),
        ("swapspace", add.swapspace.map(Value::from)),
        ("label", add.label.clone().map(Value::from)),
        ("on_full", add.on_full.clone().map(Value::from)),
        ("max_pools", add.max_pools.map(Value::from)),
        ("give_back", add.give_back.clone().map(Value::from)),
    ])
}

/// An object with what is said.
fn body<const N: usize>(said: [(&str, Option<Value>); N]) -> Map<String, Value> {
    let said = said.into_iter();
    said.filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
}
