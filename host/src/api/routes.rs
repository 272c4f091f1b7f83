// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What the control API answers to which request.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::body::{Answer, New, object, settings};
use super::freeable::Freeable;
use super::tiers::Tiers;
use super::{Api, OPENAPI, shares, vm};
use crate::http::{self, JSON, Request, Response};
use crate::image::{self, How, Workers};
use crate::registry::{Entry, Refusal, Said};

/// How much is to be flushed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flush {
    bytes: u64,
}

/// What is to be a clone.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cloned {
    to: String,
    #[serde(default)]
    copy: bool,
}

pub(super) fn serve(api: &Api, request: &Request, workers: &Workers) -> http::Answer {
    let parts: Vec<_> = request.path.split('/').skip(1).collect();
    let began = match (parts.as_slice(), request.method.as_str()) {
        (["v1", "vms", name], "DELETE") if !request.is_chunked => begin_removal(api, name, workers),
        (["v1", "vms", name, "image"], "GET") => save(api, name, workers),
        (["v1", "vms", name, "image"], "PUT") => restore(api, name, request, workers),
        (["v1", "vms", name, "clone"], "POST") => clone(api, name, request, workers),
        _ => return answer(api, request).into(),
    };
    began.unwrap_or_else(|refusal| refused(&refusal).into())
}

fn save(api: &Api, name: &str, workers: &Workers) -> Result<http::Answer, Refusal> {
    let entry = api.registry.get(name)?;
    stands_still(&entry)?;
    Ok(workers.answer(move |stream, _, is_over| image::save(&entry, stream, is_over)))
}

fn restore(
    api: &Api,
    name: &str,
    request: &Request,
    workers: &Workers,
) -> Result<http::Answer, Refusal> {
    let entry = api.registry.get(name)?;
    if !request.is_chunked {
        let sentence = "send the image in chunks (Transfer-Encoding: chunked)";
        return Err(Refusal::Invalid(sentence.into()));
    }
    Ok(workers.answer(move |stream, request, is_over| {
        image::restore(
            &entry,
            stream,
            &request,
            is_over,
            |restored| match restored {
                Ok(totals) => Response::json(&totals),
                Err(refusal) => refused(&refusal),
            },
        );
    }))
}

fn clone(
    api: &Api,
    name: &str,
    request: &Request,
    workers: &Workers,
) -> Result<http::Answer, Refusal> {
    let (source, clone, how) = cloned(api, name, request)?;
    stands_still(&source)?;
    Ok(workers.answer(move |stream, _, is_over| {
        let answer = |cloned| match cloned {
            Ok(totals) => Response::json(&totals),
            Err(refusal) => refused(&refusal),
        };
        image::clone(&source, &clone, how, stream, is_over, answer);
    }))
}

fn begin_removal(api: &Api, name: &str, workers: &Workers) -> Result<http::Answer, Refusal> {
    let free = match workers.for_removal() {
        Ok(free) => free,
        Err(busy) => return Ok(busy.into()),
    };
    let removal = api.registry.begin_removal(name)?;
    Ok(free.answer(move |stream, _, is_over| {
        image::remove(removal, stream, is_over, &Response::no_content());
    }))
}

/// Refuses at once what would be refused later.
fn stands_still(entry: &Entry) -> Result<(), Refusal> {
    let still = entry.machine().stands_still();
    still.map_err(|why| Refusal::Conflict(format!("{}: {why}", entry.name())))?;
    Ok(())
}

/// What is to be cloned, and what is to be the clone.
fn cloned(
    api: &Api,
    name: &str,
    request: &Request,
) -> Result<(Arc<Entry>, Arc<Entry>, How), Refusal> {
    let source = api.registry.get(name)?;
    let wanted: Cloned = object(request, r#"{"to": "web2"}"#)?;
    if wanted.to == name {
        return Err(Refusal::Invalid(
            "a virtual machine is no clone of its own".into(),
        ));
    }
    let clone = api.registry.get(&wanted.to)?;
    let how = if wanted.copy {
        How::Copied
    } else {
        How::Shared
    };
    Ok((source, clone, how))
}

pub(super) fn answer(api: &Api, request: &Request) -> Response {
    if request.is_chunked {
        return Response::error(400, "send the body with a Content-Length");
    }
    let parts: Vec<_> = request.path.split('/').skip(1).collect();
    let answer = match (parts.as_slice(), request.method.as_str()) {
        (["metrics"], "GET") => Ok(api.metrics().answer(request)),
        (["v1", "openapi.json"], "GET") => Ok(Response::ok(JSON, OPENAPI.to_owned())),
        (["v1", "stats"], "GET") => Ok(Response::json(&api.stats().into())),
        (["v1", "freeable"], "GET") => Ok(Response::json(&json!(Freeable::of(api)))),
        (["v1", "tiers"], "GET") => Ok(Response::json(&json!(Tiers::of(api)))),
        (["v1", "vms"], "GET") => Ok(list(api)),
        (["v1", "vms"], "POST") => add(api, request),
        (["v1", "vms", name], "GET") => show(api, name),
        (["v1", "vms", name], "PATCH") => set(api, name, request),
        (["v1", "vms", name], "DELETE") => remove(api, name),
        (["v1", "vms", name, "flush"], "POST") => flush(api, name, request),
        (["v1", "vms", name, "detach"], "POST") => detach(api, name),
        (["v1", "vms", name, "image"], "GET" | "PUT") => no_image(api, name),
        (["v1", "vms", name, "clone"], "POST") => {
            cloned(api, name, request).and_then(|_| no_image(api, name))
        }
        (["v1", "shares"], "GET") => Ok(shares::list(api)),
        (["v1", "shares"], "POST") => shares::add(api, request),
        (["v1", "shares", name], "GET") => shares::show(api, name),
        (["v1", "shares", name], "PATCH") => shares::set(api, name, request),
        (["v1", "shares", name], "DELETE") => shares::remove(api, name),
        (["metrics"] | ["v1", "openapi.json" | "stats" | "freeable" | "tiers"], _) => {
            return Response::not_allowed("GET");
        }
        (["v1", "vms" | "shares"], _) => return Response::not_allowed("GET, POST"),
        (["v1", "vms" | "shares", _], _) => return Response::not_allowed("GET, PATCH, DELETE"),
        (["v1", "vms", _, "image"], _) => return Response::not_allowed("GET, PUT"),
        (["v1", "vms", _, "flush" | "detach" | "clone"], _) => {
            return Response::not_allowed("POST");
        }
        _ => {
            let reason = "there is nothing here; GET /v1/openapi.json lists what there is";
            return Response::error(404, reason);
        }
    };
    answer.unwrap_or_else(|refusal| refused(&refusal))
}

fn refused(refusal: &Refusal) -> Response {
    Response::error(status(refusal), refusal.reason())
}

fn status(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::Invalid(_) => 400,
        Refusal::Unknown(_) => 404,
        Refusal::Conflict(_) => 409,
        Refusal::Failed(_) => 500,
    }
}

fn list(api: &Api) -> Response {
    let machines = api.registry.list();
    let vms: Vec<_> = machines
        .iter()
        .map(|entry| vm::of(&api.registry, entry))
        .collect();
    Response::json(&json!({ "vms": vms }))
}

fn show(api: &Api, name: &str) -> Answer {
    let entry = api.registry.get(name)?;
    Ok(Response::json(&vm::of(&api.registry, &entry)))
}

fn add(api: &Api, request: &Request) -> Answer {
    let new: New = object(request, r#"{"name": "web1", "quota": "4G"}"#)?;
    let said = settings(new.said)?;
    let entry = api.registry.add(&new.name, &said)?;
    let place = format!("/v1/vms/{}", new.name);
    Ok(Response::json(&vm::of(&api.registry, &entry)).created(place))
}

fn set(api: &Api, name: &str, request: &Request) -> Answer {
    api.registry.get(name)?;
    let said = settings(object(request, r#"{"quota": "4G"}"#)?)?;
    if said == Said::default() {
        let reason = r#"nothing is to be changed: send a body like {"quota": "4G"}"#;
        return Err(Refusal::Invalid(reason.into()));
    }
    let entry = api.registry.set(name, &said)?;
    Ok(Response::json(&vm::of(&api.registry, &entry)))
}

fn remove(api: &Api, name: &str) -> Answer {
    api.registry.remove(name)?;
    Ok(Response::no_content())
}

fn flush(api: &Api, name: &str, request: &Request) -> Answer {
    let entry = api.registry.get(name)?;
    let wanted: Flush = object(request, r#"{"bytes": 1073741824}"#)?;
    let client = entry.machine().device().client();
    let before = client.stats();
    let flushed = client.evict(wanted.bytes);
    let left = client.stats();
    Ok(Response::json(&json!({
        "flushed_pages": flushed,
        "freed_bytes": before.held_bytes.saturating_sub(left.held_bytes),
        "ephemeral_pages": left.ephemeral_pages,
    })))
}

fn detach(api: &Api, name: &str) -> Answer {
    let entry = api.registry.get(name)?;
    let asked = entry.machine().device().ask_for_detach();
    asked.map_err(|reason| Refusal::Conflict(format!("{name}: {reason}")))?;
    log::info!("{name}: its driver is asked to bring its pages back");
    Ok(Response::json(&vm::of(&api.registry, &entry)))
}

/// Where nobody does what takes long.
fn no_image(api: &Api, name: &str) -> Answer {
    api.registry.get(name)?;
    let why = "the pages of this program's virtual machines can be neither saved nor restored";
    Err(Refusal::Conflict(why.into()))
}
