// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Shares: what is answered to requests for them, and how they are shown.

use serde_json::{Value, json};

use super::Api;
use super::body::{Answer, New, object, settings};
use crate::http::{Request, Response};
use crate::registry::{Refusal, Share, ShareSaid, Shares, Trust, VeritySaid};

pub(super) fn list(api: &Api) -> Response {
    let shares = api.registry.shares();
    // A program without any has none.
    let shown: Vec<_> = shares
        .map(|shares| shares.list().iter().map(|it| of(shares, it)).collect())
        .unwrap_or_default();
    Response::json(&json!({ "shares": shown }))
}

pub(super) fn show(api: &Api, name: &str) -> Answer {
    let shares = api.registry.shares()?;
    Ok(Response::json(&of(shares, &*shares.get(name)?)))
}

pub(super) fn add(api: &Api, request: &Request) -> Answer {
    let shares = api.registry.shares()?;
    let like = r#"{"name": "golden", "domain": "team-a", "vms": ["web1", "web2"]}"#;
    let new: New = object(request, like)?;
    let share = shares.add(&new.name, &settings(new.said)?)?;
    let place = format!("/v1/shares/{}", new.name);
    Ok(Response::json(&of(shares, &share)).created(place))
}

pub(super) fn set(api: &Api, name: &str, request: &Request) -> Answer {
    let shares = api.registry.shares()?;
    shares.get(name)?;
    let like = r#"{"vms": ["web1", "web2"]}"#;
    let said: ShareSaid = settings(object(request, like)?)?;
    if said == ShareSaid::default() {
        let reason = format!("nothing is to be changed: send a body like {like}");
        return Err(Refusal::Invalid(reason));
    }
    Ok(Response::json(&of(shares, &*shares.set(name, &said)?)))
}

pub(super) fn remove(api: &Api, name: &str) -> Answer {
    api.registry.shares()?.remove(name)?;
    Ok(Response::no_content())
}

fn of(shares: &Shares, share: &Share) -> Value {
    let settings = share.settings();
    let stats = share.stats();
    let (domain, verified) = match &settings.trust {
        Trust::Domain(domain) => (Some(domain.as_str()), None),
        Trust::Verified(image) => (None, Some(VeritySaid::from(image))),
    };
    let vms: Vec<_> = settings.vms.iter().map(|name| name.as_str()).collect();
    json!({
        "name": share.name().as_str(),
        "uuid": settings.uuid,
        "domain": domain,
        "verified": verified,
        "vms": vms,
        "kept": shares.are_kept(),
        "quota_bytes": stats.quota_bytes,
        "held_bytes": stats.held_bytes,
        "pages": stats.ephemeral_pages,
        "gets": stats.gets,
        "get_hits": stats.get_hits,
        "evicted_pages": stats.evicted_pages,
    })
}
