// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl share`.

use std::io::Write;

use anyhow::Result;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::path::path;
use super::table::{aligned, brief};
use super::{api, open};
use crate::cli::{self, ShareAction, ShareAdd, ShareSettings};
use crate::warn;

/// A share, as far as it is shown here.
#[derive(Clone, Debug, Default, Deserialize)]
struct Share {
    name: String,
    uuid: String,
    domain: Option<String>,
    verified: Option<Image>,
    vms: Vec<String>,
    kept: bool,
    quota_bytes: u64,
    held_bytes: u64,
    gets: u64,
    get_hits: u64,
}

/// The image that a verified share is for.
#[derive(Clone, Debug, Default, Deserialize)]
struct Image {
    root_hash: String,
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
            let body = Value::from(new(add));
            let share: Share = api.change("POST", "/v1/shares", Some(&body))?;
            writeln!(out, "{}", share.uuid)?;
            if !share.kept {
                warn(&format!(
                    "{} is there until the daemon ends: it keeps nothing, for it was started without --state",
                    share.name
                ));
            }
        }
        ShareAction::List(list) if list.json => super::json(&api.get("/v1/shares")?, out)?,
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

/// What is asked for.
fn new(add: &ShareAdd) -> Map<String, Value> {
    let mut body = settings(&add.settings);
    body.insert("name".into(), add.name.as_str().into());
    for (key, said) in [("domain", &add.domain), ("uuid", &add.uuid)] {
        if let Some(said) = said {
            body.insert(key.into(), said.as_str().into());
        }
    }
    if let (Some(salt), Some(root_hash)) = (&add.salt, &add.root_hash) {
        // As veritysetup writes that there is none.
        let salt = if salt == "-" { "" } else { salt };
        let image = json!({ "salt": salt, "root_hash": root_hash });
        body.insert("verified".into(), image);
    }
    body
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
    let heading = ["NAME", "UUID", "FOR", "QUOTA", "HELD", "HITS", "VMS"];
    let mut rows = vec![heading.map(str::to_string).to_vec()];
    rows.extend(shares.iter().map(|share| {
        vec![
            share.name.clone(),
            share.uuid.clone(),
            whom(share),
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

/// The domain that it is for, or the beginning of the root hash of the image.
fn whom(share: &Share) -> String {
    let root = share.verified.as_ref().map(|image| &image.root_hash);
    match (&share.domain, root) {
        (Some(domain), _) => domain.clone(),
        (None, Some(root)) => format!("verified:{}", root.get(..8).unwrap_or(root)),
        (None, None) => "-".into(),
    }
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
    use crate::cli::{Command, Options};
    use clap::Parser;

    #[test]
    fn who_has_a_share_and_what_it_is_good_for_is_shown() {
        let golden = Share {
            name: "golden".into(),
            uuid: "6b1fbd2c-6ff4-4f0b-8f7a-3c1f0f6a2b11".into(),
            domain: Some("team-a".into()),
            vms: vec!["web1".into(), "web2".into()],
            quota_bytes: 2 << 30,
            held_bytes: 5 << 20,
            gets: 8,
            get_hits: 6,
            ..Share::default()
        };
        let empty = Share {
            name: "empty".into(),
            verified: Some(Image {
                root_hash: "ad7facb2586fc6e9".into(),
            }),
            ..Share::default()
        };
        let text = shown(&[golden, empty]);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("NAME") && lines[0].ends_with("VMS"),
            "{text}"
        );
        assert!(
            lines[1].contains("team-a")
                && lines[1].contains("75%")
                && lines[1].ends_with("web1,web2"),
            "{text}"
        );
        assert!(
            lines[2].contains("verified:ad7facb2 ")
                && lines[2].contains(" - ")
                && lines[2].ends_with("none"),
            "{text}"
        );
        assert!(shown(&[]).contains("tmemctl share add"));
    }

    #[test]
    fn a_share_is_for_a_domain_or_an_image() {
        let add = |line: &str| {
            let words = format!("tmemctl share add golden {line}");
            let cli = Options::try_parse_from(words.split(' ')).ok()?;
            match cli.command {
                Command::Share(share) => match share.action {
                    ShareAction::Add(add) => Some(Value::from(new(&add))),
                    _ => None,
                },
                _ => None,
            }
        };
        let domain = json!({ "name": "golden", "domain": "team-a" });
        assert_eq!(add("--domain team-a"), Some(domain));
        for (salt, said) in [("00ff", "00ff"), ("-", "")] {
            let image = json!({ "salt": said, "root_hash": "ad" });
            let wanted = json!({ "name": "golden", "vms": ["a", "b"], "verified": image });
            let line = format!("--verified --salt {salt} --root-hash ad --vms a,b");
            assert_eq!(add(&line), Some(wanted));
        }
        for wrong in [
            "--vms a",
            "--verified",
            "--verified --salt 00",
            "--verified --root-hash ad",
            "--salt 00 --root-hash ad",
            "--domain team-a --salt 00 --root-hash ad",
            "--domain team-a --verified --salt 00 --root-hash ad",
        ] {
            assert_eq!(add(wrong), None, "{wrong}");
        }
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
