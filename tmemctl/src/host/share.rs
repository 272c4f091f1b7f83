// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl share`.

use std::io::Write;

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::path::path;
use super::table::{aligned, brief};
use super::{api, json, open};
use crate::cli::{self, ShareAction, ShareSettings};
use crate::warn;

/// A share, as far as it is shown here.
#[derive(Clone, Debug, Default, Deserialize)]
struct Share {
    name: String,
    uuid: String,
    domain: String,
    vms: Vec<String>,
    kept: bool,
    quota_bytes: u64,
    held_bytes: u64,
    gets: u64,
    get_hits: u64,
}

#[derive(Deserialize)]
struct Shares {
    shares: Vec<Share>,
}

/// Does it.
pub(crate) fn run(wanted: &cli::Share, out: &mut impl Write) -> Result<()> {
    let api = open(&wanted.control);
    match &wanted.action {
        ShareAction::Add(add) => {
            let mut body = settings(&add.settings);
            body.insert("name".into(), add.name.as_str().into());
            body.insert("domain".into(), add.domain.as_str().into());
            if let Some(uuid) = &add.uuid {
                body.insert("uuid".into(), uuid.as_str().into());
            }
            let share: Share = api.change("POST", "/v1/shares", Some(&body.into()))?;
            writeln!(out, "{}", share.uuid)?;
            if !share.kept {
                warn(&format!(
                    "{} is there until the daemon ends: it keeps nothing, for it was started without --state",
                    share.name
                ));
            }
        }
        ShareAction::List(list) if list.json => json(&api.get("/v1/shares")?, out)?,
        ShareAction::List(_) => {
            let shares: Shares = api::read(api.get("/v1/shares")?)?;
            out.write_all(shown(&shares.shares).as_bytes())?;
        }
        ShareAction::Set(set) => {
            let body = settings(&set.settings);
            let _: Share =
                api.change("PATCH", &path("shares", &set.name, ""), Some(&body.into()))?;
        }
        ShareAction::Remove(remove) => {
            api.ask("DELETE", &path("shares", &remove.name, ""), None)?;
        }
    }
    Ok(())
}

fn settings(said: &ShareSettings) -> Map<String, Value> {
    let mut body = Map::new();
    if let Some(vms) = &said.vms {
        // The empty text is no name, but says that there is none.
        let vms = vms.iter().filter(|name| !name.is_empty());
        let vms: Vec<_> = vms.map(|name| Value::from(name.as_str())).collect();
        body.insert("vms".into(), vms.into());
    }
    if let Some(quota) = said.quota {
        body.insert("quota".into(), quota.into());
    }
    body
}

/// A line for each share.
fn shown(shares: &[Share]) -> String {
    if shares.is_empty() {
        return "There is no share; `tmemctl share add NAME --domain NAME` adds one.\n".into();
    }
    let heading = ["NAME", "UUID", "DOMAIN", "QUOTA", "HELD", "HITS", "VMS"];
    let mut rows = vec![heading.map(str::to_string).to_vec()];
    rows.extend(shares.iter().map(|share| {
        vec![
            share.name.clone(),
            share.uuid.clone(),
            share.domain.clone(),
            brief(share.quota_bytes),
            brief(share.held_bytes),
            hits(share),
            match share.vms.is_empty() {
                true => "none".into(),
                false => share.vms.join(","),
            },
        ]
    }));
    aligned(&rows, 3)
}

/// Of what was asked for, what was there.
fn hits(share: &Share) -> String {
    let percent = u128::from(share.get_hits) * 100;
    match percent.checked_div(share.gets.into()) {
        Some(percent) => format!("{percent}%"),
        None => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_share_and_what_it_is_good_for_is_shown() {
        let golden = Share {
            name: "golden".into(),
            uuid: "6b1fbd2c-6ff4-4f0b-8f7a-3c1f0f6a2b11".into(),
            domain: "team-a".into(),
            vms: vec!["web1".into(), "web2".into()],
            quota_bytes: 2 << 30,
            held_bytes: 5 << 20,
            gets: 8,
            get_hits: 6,
            ..Share::default()
        };
        let empty = Share {
            name: "empty".into(),
            ..Share::default()
        };
        let text = shown(&[golden, empty]);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("NAME") && lines[0].ends_with("VMS"),
            "{text}"
        );
        assert!(
            lines[1].contains("75%") && lines[1].ends_with("web1,web2"),
            "{text}"
        );
        assert!(
            lines[2].contains(" - ") && lines[2].ends_with("none"),
            "{text}"
        );
        assert!(shown(&[]).contains("tmemctl share add"));
    }

    #[test]
    fn nobody_and_nothing_said_are_different() {
        let said = |vms: Option<&[&str]>| {
            let vms = vms.map(|vms| vms.iter().map(ToString::to_string).collect());
            Value::from(settings(&ShareSettings { vms, quota: None }))
        };
        assert_eq!(said(None), serde_json::json!({}));
        assert_eq!(said(Some(&[""])), serde_json::json!({ "vms": [] }));
        let both = serde_json::json!({ "vms": ["web1", "web2"] });
        assert_eq!(said(Some(&["web1", "web2"])), both);
    }
}
