// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine is saved while it is paused, and restored with the memory of that moment: by another
//! daemon, or the same. What does not belong together never meets.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::front_end::{FrontEnd, GET_VRING_BASE, P_REPLY_ACK, SET_PROTOCOL_FEATURES, pair, words};
use crate::request::{
    DATA, EPHEMERAL, EXISTS, OK, create_pool, create_pool_of, get, put, put_there,
};
use crate::restart::added::Places;
use crate::restart::host::{Host, Outside};
use crate::restart::pages::noise;

const P_CONFIG: u64 = 1 << 9;
pub(crate) const MEMORY: u64 = 1 << 20;
/// The pool is not there.
const NO_POOL: u8 = 0x42;
/// The queue that requests go to.
const QUEUE: u32 = 1;

/// A daemon with a control socket.
pub(crate) fn host() -> Host {
    let mut host = Host::watched();
    host.start_daemon();
    host
}

/// The only machine's name.
fn name(host: &Host) -> String {
    let mut stream = host.control();
    write!(stream, "GET /v1/vms HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let vms: Value = serde_json::from_str(body).unwrap();
    let name = vms.pointer("/vms/0/name").and_then(Value::as_str);
    name.unwrap().to_owned()
}

/// A request for an image that was answered with status 200: its chunks come next.
fn ask_for_image(host: &Host) -> Result<BufReader<UnixStream>, String> {
    ask_for_image_of(&name(host), host.control())
}

/// The same of this machine.
fn ask_for_image_of(name: &str, mut stream: UnixStream) -> Result<BufReader<UnixStream>, String> {
    write!(stream, "GET /v1/vms/{name}/image HTTP/1.1\r\n\r\n").unwrap();
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0);
    }
    if head.starts_with("HTTP/1.1 200 ") {
        return Ok(stream);
    }
    stream.read_to_string(&mut head).unwrap();
    Err(head)
}

/// Reads chunks to the last, after RFC 9112; what came, and the trailers.
fn chunks(mut stream: impl BufRead) -> (Vec<u8>, String) {
    let mut all = Vec::new();
    loop {
        let mut size = String::new();
        stream.read_line(&mut size).unwrap();
        let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
        if size == 0 {
            let mut trailers = String::new();
            stream.read_to_string(&mut trailers).unwrap();
            return (all, trailers);
        }
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).unwrap();
        assert!(chunk.ends_with(b"\r\n"));
        all.extend(chunk.get(..size).unwrap());
    }
}

/// The whole image of a machine that stands still.
pub(crate) fn save(host: &Host) -> Vec<u8> {
    let (image, trailers) = chunks(ask_for_image(host).unwrap());
    assert!(trailers.contains("Tmem-Totals: "), "{trailers}");
    image
}

/// Has the machine have an image; the status and what is said.
pub(crate) fn restore(host: &Host, image: &[u8]) -> (u16, String) {
    let name = name(host);
    let mut stream = host.control();
    write!(
        stream,
        "PUT /v1/vms/{name}/image HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    .unwrap();
    // A daemon that refuses may not read all of it.
    let send = |mut to: &UnixStream| {
        for piece in image.chunks(70_001) {
            write!(to, "{:x}\r\n", piece.len())?;
            to.write_all(piece)?;
            to.write_all(b"\r\n")?;
        }
        to.write_all(b"0\r\n\r\n")
    };
    let _ = send(&stream);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

/// Sends the first half of an image as one chunk, and gives back the rest of that.
fn send_half<'a>(name: &str, stream: &mut UnixStream, image: &'a [u8]) -> &'a [u8] {
    write!(
        stream,
        "PUT /v1/vms/{name}/image HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        image.len()
    )
    .unwrap();
    let (first, rest) = image.split_at(image.len() / 2);
    stream.write_all(first).unwrap();
    rest
}

pub(crate) fn connect_with(host: &Host, memory: &File) -> FrontEnd {
    let mut a = FrontEnd::connect_with(&host.socket(), memory.try_clone().unwrap());
    assert_eq!(a.share_memory(MEMORY), Some(0));
    a.start();
    a
}

/// A machine that begins.
fn begin(host: &Host) -> FrontEnd {
    let memory = tempfile::tempfile().unwrap();
    memory.set_len(MEMORY).unwrap();
    connect_with(host, &memory)
}

/// As a VMM does that pauses its machine.
pub(crate) fn pause(a: &mut FrontEnd) {
    a.send(GET_VRING_BASE, 1, &pair(QUEUE, 0), &[]);
    a.receive().unwrap();
}

/// Another file with the same in it, as one that a VMM fills which restores a machine.
pub(crate) fn copy(memory: &File) -> File {
    let mut bytes = vec![0; usize::try_from(MEMORY).unwrap()];
    memory.read_exact_at(&mut bytes, 0).unwrap();
    let copy = tempfile::tempfile().unwrap();
    copy.write_all_at(&bytes, 0).unwrap();
    copy
}

/// The configuration space, once that is negotiated.
fn config_of(a: &mut FrontEnd) -> Vec<u8> {
    let wanted = a.protocol & (P_REPLY_ACK | P_CONFIG);
    a.send(SET_PROTOCOL_FEATURES, 1, &words(&[wanted]), &[]);
    a.config(256, 0)
}

/// With pools, one of them empty, and pages of both kinds.
pub(crate) fn fill(a: &mut FrontEnd) {
    assert_eq!(create_pool(a, 0), OK);
    assert_eq!(create_pool_of(a, 1, EPHEMERAL), OK);
    assert_eq!(create_pool(a, 7), OK);
    for index in 0..600 {
        a.write(DATA, &noise(index));
        assert_eq!(put_there(a, 0, index), OK);
    }
    assert_eq!(put(a, 1, 5, 55), OK);
}

/// It has what [`fill`] has put.
pub(crate) fn check(a: &mut FrontEnd) {
    for index in 0..600 {
        let first = *noise(index).first().unwrap();
        assert_eq!(get(a, 0, index), (OK, OK, first), "{index}");
        let mut page = [0; 4096];
        a.memory.read_exact_at(&mut page, DATA).unwrap();
        assert_eq!(page.as_slice(), noise(index));
    }
    assert_eq!(get(a, 1, 5), (OK, OK, 55));
    assert_eq!(create_pool(a, 7), EXISTS);
}

#[test]
fn a_machine_goes_on_elsewhere_with_what_was_saved() {
    let one = host();
    let mut a = begin(&one);
    fill(&mut a);
    let config = config_of(&mut a);
    let refused = ask_for_image(&one).unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 409 "), "{refused}");
    pause(&mut a);
    let memory = copy(&a.memory);
    let image = save(&one);
    // The one that was saved goes on, too: the other is a copy.
    a.start();
    assert_eq!(put(&mut a, 0, 3, 1), OK);

    for restarts in [false, true] {
        let mut other = host();
        let said = restore(&other, &image);
        assert_eq!(said.0, 200, "{}", said.1);
        assert!(said.1.contains("\"pages\": 601"), "{}", said.1);
        if restarts {
            other.restart(Signal::KILL);
        }
        let memory = copy(&memory);
        let mut b = connect_with(&other, &memory);
        check(&mut b);
        // The set of pools has the name that its driver knows.
        assert_eq!(config_of(&mut b), config);
        // What it does from now on is its own.
        assert_eq!(put(&mut b, 0, 9, 9), OK);
        drop(b);
        let mut b = connect_with(&other, &memory);
        assert_eq!(get(&mut b, 0, 9), (OK, OK, 9));
    }
    assert_eq!(get(&mut a, 0, 3), (OK, OK, 1));
    assert_eq!(get(&mut a, 0, 9).2, *noise(9).first().unwrap());
}

/// The front end may have left: then its pages are saved while they are kept.
#[test]
fn a_machine_without_a_front_end_is_saved_and_goes_back_in_time() {
    let one = host();
    let mut a = begin(&one);
    fill(&mut a);
    let memory = copy(&a.memory);
    let now = a.memory.try_clone().unwrap();
    drop(a);
    while one.logged().matches("the front end left").count() == 0 {
        std::thread::yield_now();
    }
    let image = save(&one);
    let mut a = connect_with(&one, &now);
    for index in 0..600 {
        assert_eq!(put(&mut a, 0, index, 1), OK);
    }
    let refused = restore(&one, &image);
    assert_eq!(refused.0, 409, "connected: {}", refused.1);
    drop(a);
    while one.logged().matches("the front end left").count() < 2 {
        std::thread::yield_now();
    }
    assert_eq!(restore(&one, &image).0, 200);
    let mut a = connect_with(&one, &memory);
    check(&mut a);
}

/// Memory of another moment than that of the image, and a machine that begins.
#[test]
fn what_does_not_belong_together_does_not_meet() {
    let one = host();
    let mut a = begin(&one);
    fill(&mut a);
    pause(&mut a);
    let image = save(&one);
    a.start();
    assert_eq!(put(&mut a, 0, 3, 1), OK);
    pause(&mut a);
    let later = copy(&a.memory);
    let new = tempfile::tempfile().unwrap();
    new.set_len(MEMORY).unwrap();
    for (memory, restarts) in [(&later, false), (&new, false), (&later, true), (&new, true)] {
        let mut other = host();
        assert_eq!(restore(&other, &image).0, 200);
        if restarts {
            other.restart(Signal::KILL);
        }
        let mut b = connect_with(&other, memory);
        assert_eq!(get(&mut b, 0, 3).0, NO_POOL);
        assert_eq!(create_pool(&mut b, 0), OK);
    }
}

#[test]
fn a_machine_that_runs_on_is_not_saved() {
    let one = host();
    let mut a = begin(&one);
    fill(&mut a);
    pause(&mut a);
    // More than the socket takes: the daemon waits for who reads.
    let mut stream = ask_for_image(&one).unwrap();
    stream.fill_buf().unwrap();
    a.start();
    assert_eq!(put(&mut a, 0, 3, 1), OK);
    let (image, trailers) = chunks(stream);
    assert!(
        trailers.contains("Tmem-Error: ") && trailers.contains("ran on"),
        "{trailers}"
    );
    let other = host();
    let refused = restore(&other, &image);
    assert_eq!(refused.0, 400, "{}", refused.1);
    assert!(refused.1.contains("ends too early"), "{}", refused.1);
}

/// Who does not read holds up nobody but those that want an image, too, and not for ever.
#[test]
fn four_are_saved_at_a_time_and_nobody_waits_for_who_does_not_read() {
    let mut one = host();
    let mut a = begin(&one);
    fill(&mut a);
    pause(&mut a);
    let silent: Vec<_> = (0..4).map(|_| ask_for_image(&one).unwrap()).collect();
    let refused = ask_for_image(&one).unwrap_err();
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    // The machine and the control socket are served all the time.
    a.start();
    assert_eq!(put(&mut a, 0, 3, 1), OK);
    pause(&mut a);
    drop(silent);
    let mut image = ask_for_image(&one);
    while image.is_err() {
        image = ask_for_image(&one);
    }
    // A daemon that ends does not wait for them either.
    let began = Instant::now();
    one.end(Signal::TERM);
    assert!(began.elapsed() < Duration::from_secs(10));
}

/// Whoever sends an image may stop, and leave. Meanwhile nobody else restores the machine, and its
/// front end waits; then it has nothing.
#[test]
fn an_image_that_never_ends_leaves_nothing_behind() {
    let one = host();
    let mut a = begin(&one);
    fill(&mut a);
    pause(&mut a);
    let memory = copy(&a.memory);
    let image = save(&one);
    let other = host();
    let name = name(&other);
    let mut stream = other.control();
    // The daemon has all of this but what the socket holds: it is restoring.
    send_half(&name, &mut stream, &image);
    let refused = restore(&other, &image);
    assert_eq!(refused.0, 409, "{}", refused.1);
    let socket = other.socket();
    let waits = std::thread::spawn(move || FrontEnd::connect_with(&socket, memory));
    drop(stream);
    let mut b = waits.join().unwrap();
    assert_eq!(b.share_memory(MEMORY), Some(0));
    b.start();
    assert_eq!(get(&mut b, 0, 3).0, NO_POOL);
    assert_eq!(create_pool(&mut b, 0), OK);
}

/// Whoever removes a machine waits neither for who saves it nor for who restores it. A save that is
/// cut short is not taken for whole, and the next machine of the name has nothing.
#[test]
fn a_machine_may_be_removed_while_it_is_saved_or_restored() {
    let places = Places::new();
    let _host = places.host(Outside::Holder);
    places.add();
    let mut a = places.connect();
    fill(&mut a);
    pause(&mut a);
    let whole = ask_for_image_of("web1", places.control()).unwrap();
    let (image, trailers) = chunks(whole);
    assert!(trailers.contains("Tmem-Totals: "), "{trailers}");

    let saving = ask_for_image_of("web1", places.control()).unwrap();
    assert_eq!(places.ask("DELETE", "/v1/vms/web1", ""), 204);
    let (_, trailers) = chunks(saving);
    assert!(!trailers.contains("Tmem-Totals: "), "{trailers}");
    assert!(trailers.contains("Tmem-Error: "), "{trailers}");

    places.add();
    // At one moment or another of it.
    for _ in 0..16 {
        let mut restoring = places.control();
        let rest = send_half("web1", &mut restoring, &image);
        let began = Instant::now();
        assert_eq!(places.ask("DELETE", "/v1/vms/web1", ""), 204);
        assert!(began.elapsed() < Duration::from_secs(20));
        places.add();
        // It may not read all that it refuses.
        let _ = restoring.write_all(rest);
        let _ = restoring.write_all(b"\r\n0\r\n\r\n");
        let mut answer = String::new();
        let _ = restoring.read_to_string(&mut answer);
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    let mut b = places.connect();
    assert_eq!(get(&mut b, 0, 3).0, NO_POOL);
    assert_eq!(create_pool(&mut b, 0), OK);
}

/// Any change of an image is found; the machine has nothing then, by another name.
#[test]
fn what_is_damaged_is_refused_whole() {
    let one = host();
    let mut a = begin(&one);
    fill(&mut a);
    pause(&mut a);
    let memory = copy(&a.memory);
    let image = save(&one);
    let other = host();
    let len = image.len();
    let places = (0..64)
        .chain((64..len).step_by(len / 40))
        .chain(len - 32..len);
    for at in places {
        let mut changed = image.clone();
        *changed.get_mut(at).unwrap() ^= 1 << (at % 8);
        let refused = restore(&other, &changed);
        assert_eq!(refused.0, 400, "{at}: {}", refused.1);
    }
    for end in [0, 1, 100, len / 2, len - 1] {
        let refused = restore(&other, image.get(..end).unwrap());
        assert_eq!(refused.0, 400, "{end}: {}", refused.1);
    }
    let longer = [image.as_slice(), &[0]].concat();
    assert_eq!(restore(&other, &longer).0, 400);
    let mut b = connect_with(&other, &memory);
    assert_eq!(get(&mut b, 0, 3).0, NO_POOL);
}
