// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Images over a control socket.

use std::io::{BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use serde_json::{Value, json};
use tmem_cli::chunked::{Decoder, Encoder};

use super::Totals;
use super::machine::{self, How, Party};
use crate::http::{Request, Response, Steady};
use crate::registry::{Entry, Fill, Refusal, Removal};

/// The trailer of an image that was not sent to its end: why. And of one that was: what was in it.
const ERROR: &str = "Tmem-Error";
const TOTALS: &str = "Tmem-Totals";

/// Bytes that are sent at a time.
const PIECE: usize = 64 << 10;

fn shown(totals: Totals) -> Value {
    json!({
        "pages": totals.pages,
        "bytes": totals.bytes,
        "missing_pages": totals.missing,
    })
}

/// Sends the image of a machine whose driver stands still.
pub(crate) fn save(entry: &Entry, stream: OwnedFd, is_over: &AtomicBool) {
    let name = entry.name();
    let mut steady = Steady::new(stream, || !is_over.load(SeqCst));
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
        Transfer-Encoding: chunked\r\nTrailer: Tmem-Error, Tmem-Totals\r\nConnection: close\r\n\r\n";
    // A client that left is told nothing.
    if steady.write_all(head).is_err() {
        return;
    }
    let mut body = Encoder::new(std::io::BufWriter::with_capacity(PIECE, &mut steady));
    match send(entry, &mut body) {
        Ok(Some(totals)) => {
            let totals = shown(totals).to_string();
            if body.end(&[(TOTALS, &totals)]).is_ok() {
                log::info!("{name}: saved: {totals}");
            }
        }
        Ok(None) => log::warn!("{name}: is not saved: who asked for it left"),
        Err(refusal) => {
            log::warn!("{name}: is not saved: {}", refusal.reason());
            let _ = body.end(&[(ERROR, refusal.reason())]);
        }
    }
}

fn send(entry: &Entry, body: &mut impl Write) -> Result<Option<Totals>, Refusal> {
    let machine = entry.machine();
    let personality = entry.settings().personality();
    machine::save(
        body,
        entry.name().as_str(),
        personality,
        machine.device(),
        || machine.stands_still(),
    )
}

/// Reads the image that the client sends, and has the machine have it.
pub(crate) fn restore(
    entry: &Entry,
    stream: OwnedFd,
    request: &Request,
    is_over: &AtomicBool,
    answer: impl Fn(Result<Value, Refusal>) -> Response,
) {
    // Whoever removes the machine waits for this.
    let goes_on = || !is_over.load(SeqCst) && !entry.is_removed();
    let mut steady = Steady::new(stream, goes_on);
    if request.expects_continue {
        // Who left has nothing more to say either.
        let _ = steady.write_all(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let sent = request.body.as_slice().chain(&mut steady);
    let body = Decoder::new(BufReader::with_capacity(PIECE, sent));
    let restored = take(entry, body);
    let name = entry.name();
    match &restored {
        Ok(totals) => log::info!("{name}: restored: {totals}"),
        Err(refusal) => log::warn!("{name}: is not restored: {}", refusal.reason()),
    }
    tell(&answer(restored), steady);
}

/// Has `clone` have the pages of `source`, and answers the client who asked for it.
pub(crate) fn clone(
    source: &Entry,
    clone: &Entry,
    how: How,
    stream: OwnedFd,
    is_over: &AtomicBool,
    answer: impl Fn(Result<Value, Refusal>) -> Response,
) {
    let goes_on = || !is_over.load(SeqCst) && !source.is_removed() && !clone.is_removed();
    let steady = Steady::new(stream, goes_on);
    let (from, to) = (
        source.settings().personality(),
        clone.settings().personality(),
    );
    let copied = machine::clone(party(source, from), party(clone, to), how, &goes_on);
    let (source, clone) = (source.name(), clone.name());
    match &copied {
        Ok(Totals { pages, .. }) => log::info!("{clone}: is a clone of {source}: {pages} pages"),
        Err(refusal) => log::warn!("{clone}: is no clone of {source}: {}", refusal.reason()),
    }
    tell(&answer(copied.map(shown)), steady);
}

/// Removes a machine, and answers the client who asked for it.
pub(crate) fn remove(removal: Removal, stream: OwnedFd, is_over: &AtomicBool, answer: &Response) {
    removal.end();
    tell(answer, Steady::new(stream, || !is_over.load(SeqCst)));
}

/// Answers the client. One that left is told nothing.
fn tell(answer: &Response, mut steady: Steady<impl Fn() -> bool>) {
    if answer.write(&mut steady).is_ok() {
        steady.end();
    }
}

fn party<'a>(entry: &'a Entry, personality: &'a str) -> Party<'a> {
    Party {
        name: entry.name().as_str(),
        personality,
        machine: &**entry.machine(),
    }
}

fn take(entry: &Entry, body: impl Read) -> Result<Value, Refusal> {
    let machine = entry.machine();
    let client = machine.device().client();
    let personality = entry.settings().personality();
    let restore =
        |instance, driver: &Value, fill: &mut Fill<'_>| machine.restore(instance, driver, fill);
    let totals = machine::restore(body, entry.name().as_str(), personality, client, restore);
    totals.map(shown)
}
