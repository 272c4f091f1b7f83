// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A machine is removed that takes its time to end.

use std::io::Read;
use std::os::unix::net::UnixStream;

use super::Held;
use crate::http::{Answer, Request};
use crate::image::{Begin, Workers};

fn request(method: &str, path: &str, body: &str) -> Request {
    Request {
        method: method.to_owned(),
        path: path.to_owned(),
        body: body.into(),
        ..Request::default()
    }
}

/// The answer to a request that needs no thread of its own.
fn said(held: &Held, workers: &Workers, (method, path, body): (&str, &str, &str)) -> u16 {
    let answer = held.api.serve(&request(method, path, body), workers);
    let Answer::Said(response) = answer else {
        panic!("{method} {path} is not answered at once");
    };
    let answer = (response.status, response.content_type, &*response.body);
    held.document.judge(method, path, answer);
    response.status
}

/// Has a thread answer; what it says can be read.
fn remove(held: &Held, workers: &Workers, path: &str) -> UnixStream {
    let removal = request("DELETE", path, "");
    let Answer::Stream(take_over) = held.api.serve(&removal, workers) else {
        panic!("{path} does not begin to be removed");
    };
    let (client, stream) = UnixStream::pair().unwrap();
    take_over(stream.into(), removal);
    client
}

fn status(mut client: UnixStream) -> String {
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[test]
fn others_are_answered_while_one_is_removed_and_its_name_is_taken_until_then() {
    let held = Held::new();
    let begin = Begin {
        starter: || (),
        worker: || (),
        remover: || (),
    };
    let workers = Workers::start(2, begin).unwrap();
    let ends = held.door.hold_ends();
    let first = remove(&held, &workers, "/v1/vms/web1");
    for (request, expected) in [
        (("GET", "/v1/vms", ""), 200),
        (("GET", "/v1/vms/web1", ""), 200),
        (("GET", "/metrics", ""), 200),
        (("DELETE", "/v1/vms/web1", ""), 409),
        (("POST", "/v1/vms", r#"{"name": "web1"}"#), 409),
        (("PATCH", "/v1/vms/web1", r#"{"weight": 7}"#), 409),
        (("POST", "/v1/vms", r#"{"name": "web2"}"#), 201),
        (("POST", "/v1/vms", r#"{"name": "web3"}"#), 201),
        (("DELETE", "/v1/vms/nobody", ""), 404),
        (("DELETE", "/v1/vms/fixed", ""), 409),
    ] {
        assert_eq!(said(&held, &workers, request), expected, "{request:?}");
    }
    let second = remove(&held, &workers, "/v1/vms/web2");
    // As many as there are threads.
    let third = ("DELETE", "/v1/vms/web3", "");
    assert_eq!(said(&held, &workers, third), 503);
    assert_eq!(said(&held, &workers, ("GET", "/v1/vms/web3", "")), 200);
    // None has ended: that of `web1` is to be waited for by who removes it alone.
    assert_eq!(held.door.served(), ["fixed", "web1", "web2", "web3"]);
    drop(ends);
    for client in [first, second] {
        assert_eq!(status(client), "204");
    }
    assert_eq!(held.door.served(), ["fixed", "web3"]);
    assert_eq!(said(&held, &workers, ("GET", "/v1/vms/web1", "")), 404);
    let again = ("POST", "/v1/vms", r#"{"name": "web1"}"#);
    assert_eq!(said(&held, &workers, again), 201);
}

#[test]
fn a_removal_that_comes_to_nothing_can_be_begun_again() {
    let held = Held::new();
    let removal = held.api.registry.begin_removal("web1").unwrap();
    held.api.registry.begin_removal("web1").unwrap_err();
    let entry = held.api.registry.get("web1").unwrap();
    assert!(entry.is_removed());
    drop(removal);
    assert!(!entry.is_removed());
    held.api.registry.begin_removal("web1").unwrap().end();
    // Who was busy with it all the time can still see that it is to end.
    assert!(entry.is_removed());
    held.api.registry.get("web1").unwrap_err();
}
