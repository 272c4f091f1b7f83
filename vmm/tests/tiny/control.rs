// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What is done to a guest from outside.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tmem_vmm::machine::{layout, power};

use crate::api::{ask, request};
use crate::asm::{If, Reg, Width};
use crate::guest::Guest;
use crate::terminal::Line;
use crate::vmm::{PATIENCE, Vmm, can_run, machine};

/// A guest that does nothing, once it has said so.
fn idle() -> Guest {
    let mut guest = Guest::new();
    guest.print("idle\n");
    guest.halt();
    guest
}

/// A machine with [`idle`].
pub(crate) fn idling(args: &[&str]) -> Vmm {
    let mut vmm = Vmm::start(&idle(), args);
    vmm.see("idle\n");
    vmm
}

/// A guest that writes the digits from 0 to 9, again and again.
fn counting() -> Guest {
    let mut guest = Guest::new();
    let again = guest.code.here();
    guest.code.set(Reg::Rax, b'0'.into());
    let next = guest.code.here();
    guest.print_al();
    guest.code.add(Reg::Rax, 1);
    guest.code.compare(Reg::Rax, i32::from(b'9') + 1);
    guest.code.jump_if(If::Different, next);
    guest.code.jump(again);
    guest
}

fn state(api: &Path, method: &str, path: &str) -> String {
    let state = ask(api, method, path, "")["state"].clone();
    state.as_str().unwrap().to_owned()
}

#[test]
fn signals_end_the_machine_with_code_0() {
    if !can_run() {
        return;
    }
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT] {
        let vmm = idling(&[]);
        vmm.signal(signal);
        vmm.end().silently(0);
    }
}

#[test]
fn the_api_ends_the_machine_with_code_0() {
    if !can_run() {
        return;
    }
    for paused in [false, true] {
        let vmm = idling(&[]);
        if paused {
            assert_eq!(state(&vmm.api(), "PUT", "/v1/vm/pause"), "paused");
        }
        ask(&vmm.api(), "PUT", "/v1/vm/shutdown", r#"{"force": true}"#);
        vmm.end().silently(0);
    }
}

#[test]
fn a_pause_that_is_asked_for_before_the_guest_runs_lasts() {
    if !can_run() {
        return;
    }
    let vmm = Vmm::start(&counting(), &[]);
    // As soon as there is a socket.
    let began = std::time::Instant::now();
    while UnixStream::connect(vmm.api()).is_err() {
        assert!(began.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    assert_eq!(state(&vmm.api(), "PUT", "/v1/vm/pause"), "paused");
    assert_eq!(state(&vmm.api(), "GET", "/v1/vm"), "paused");
    ask(&vmm.api(), "PUT", "/v1/vm/shutdown", r#"{"force": true}"#);
    assert_eq!(vmm.end().code(), Some(0));
}

#[test]
fn two_keys_end_the_machine_with_code_0() {
    if !can_run() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let program = machine(dir.path(), &idle(), &[]);
    let (mut terminal, mut vmm) = Line::start(program, dir);
    vmm.see("idle\n");
    assert!(terminal.is_raw());
    terminal.press(b"\x03\x01x");
    let ended = vmm.end();
    assert_eq!((ended.code(), &*ended.out), (Some(0), ""), "{ended:?}");
    terminal.is_as_before();
}

#[test]
fn a_paused_guest_stands_still_and_goes_on_where_it_was() {
    if !can_run() {
        return;
    }
    let mut vmm = Vmm::start(&counting(), &[]);
    let api = vmm.api();
    let mut expected = (b'0'..=b'9').map(char::from).cycle();
    let mut count = |text: &str| {
        for digit in text.chars() {
            assert_eq!(Some(digit), expected.next());
        }
    };
    for _ in 0..3 {
        count(&vmm.more(PATIENCE).expect("a guest that runs counts"));
        assert_eq!(state(&api, "PUT", "/v1/vm/pause"), "paused");
        // Some that it wrote before are still on their way. If it ran, this
        // would have no end: it writes one after the other.
        while let Some(text) = vmm.more(Duration::from_millis(50)) {
            count(&text);
        }
        assert_eq!(state(&api, "PUT", "/v1/vm/pause"), "paused", "once more");
        assert_eq!(state(&api, "GET", "/v1/vm"), "paused");
        assert_eq!(state(&api, "PUT", "/v1/vm/resume"), "running");
    }
    count(&vmm.more(PATIENCE).expect("a guest that runs counts"));
    assert_eq!(state(&api, "GET", "/v1/vm"), "running");
}

#[test]
fn the_power_button_is_pressed_once() {
    if !can_run() {
        return;
    }
    let mut guest = Guest::new();
    guest.print("idle\n");
    guest.wait_for_button();
    guest.input(Width::One, layout::POWER + power::HAPPENED);
    guest.expect("the button", 0);
    guest.print("pressed\n");
    guest.power_off();
    let mut vmm = Vmm::start(&guest, &[]);
    vmm.see("idle\n");
    ask(&vmm.api(), "PUT", "/v1/vm/shutdown", "");
    let ended = vmm.end();
    ended.silently(0);
    assert_eq!(ended.out, "pressed\n");
}

#[test]
fn the_api_tells_what_there_is_and_refuses_what_is_not() {
    if !can_run() {
        return;
    }
    let vmm = idling(&[]);
    let api = vmm.api();
    let told = ask(&api, "GET", "/v1/vm", "");
    assert_eq!(told["cpus"], 1);
    assert_eq!(told["memory"], 8 << 20);
    assert_eq!(told["tmem"], "none");
    assert_eq!(
        ask(&api, "GET", "/v1/stats", "")["rng"]["rng0"]["requests"],
        0
    );
    let (status, metrics) = request(&api, "GET", "/metrics", "");
    assert_eq!(status, 200);
    let line = "tmem_vmm_rng_requests_total{device=\"rng0\"} 0";
    assert!(metrics.lines().any(|is| is == line), "{metrics}");
    for (method, path, body, status) in [
        ("GET", "/", "", 404),
        ("GET", "/v1/vm/pause", "", 405),
        ("POST", "/metrics", "", 405),
        ("PUT", "/v1/vm/shutdown", "{\"force\": 1}", 400),
        ("PUT", "/v1/vm/shutdown", "{\"now\": true}", 400),
        ("PUT", "/v1/vm/shutdown", "now", 400),
    ] {
        let answer = request(&api, method, path, body);
        assert_eq!(answer.0, status, "{method} {path} {body}: {}", answer.1);
    }
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}

#[test]
fn several_machines_processors_are_started_and_ended() {
    if !can_run() {
        return;
    }
    let mut vmm = Vmm::start(&idle(), &["--cpus", "4"]);
    vmm.see("idle\n");
    let api = vmm.api();
    assert_eq!(state(&api, "PUT", "/v1/vm/pause"), "paused");
    assert_eq!(state(&api, "PUT", "/v1/vm/resume"), "running");
    vmm.signal(Signal::TERM);
    vmm.end().silently(0);
}
