// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The metrics as scrapers get them.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod common;
#[path = "common/exposition.rs"]
mod exposition;
#[path = "common/tcp.rs"]
mod tcp;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use common::{Daemon, run, until};
use exposition::{Exposition, Flavor};
use tempfile::TempDir;
use vhost_user_tmem::testing::{Ask, FrontEnd, guest_memory};
use virtio_tmem::testing::page_of;
use virtio_tmem::wire::{Extent, PoolKind};

const OBJECT: [u8; 24] = [3; 24];

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

/// A daemon that can be scraped over TCP, where, and the folder of a machine with a disk.
fn scraped() -> (Daemon, SocketAddr, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.sock");
    let disk = format!("socket={},personality=blk", disk.display());
    let options = ["--metrics-listen", "127.0.0.1:0", "--vm", &disk];
    let daemon = Daemon::start(&["vm", "idle"], &options);
    let mut at = None;
    until("it listens on TCP", || {
        at = tcp::listening(daemon.pid());
        at.is_some()
    });
    (daemon, at.unwrap(), folder)
}

/// What a scraper that accepts this gets: media type and body.
fn scrape(at: SocketAddr, accept: &str) -> (String, String) {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n");
    let said = tcp::ask(at, &request);
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Type: "));
    (kind.unwrap().to_owned(), body.to_owned())
}

/// Has the machine `vm` do all that is timed, but for puts that are refused.
fn work(daemon: &Daemon) {
    let mem = guest_memory(64 << 20);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    let pages: Vec<_> = (0..32).map(page_of).collect();
    for (id, kind) in [(0, PoolKind::Persistent), (1, PoolKind::Ephemeral)] {
        driver.create_pool(id, kind);
        driver.put(id, &OBJECT, 0, &pages);
        driver.get(id, &OBJECT, 0, 32);
        driver.get(id, &OBJECT, 100, 32);
        driver.flush(id, &OBJECT, 0, 1);
        driver.flush_object(id, &OBJECT);
        driver.flush_extents(id, &OBJECT, &[Extent { index: 0, count: 1 }]);
    }
}

#[test]
fn each_scraper_gets_the_format_that_it_asks_for() {
    let (daemon, at, _folder) = scraped();
    work(&daemon);
    let (kind, text) = scrape(at, "*/*");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let text = Exposition::read(Flavor::Text, &text);
    let (kind, open) = scrape(at, OPEN_METRICS);
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let open = Exposition::read(Flavor::OpenMetrics, &open);
    // They name the same samples.
    let names = |all: &Exposition| -> BTreeSet<String> { all.samples.keys().cloned().collect() };
    assert_eq!(names(&text), names(&open));
    assert_eq!(
        open.units["tmem_device_request_duration_seconds"],
        "seconds"
    );
    assert_eq!(open.units["tmem_vm_held_bytes"], "bytes");
}

#[test]
fn requests_are_in_histograms_by_what_came_of_them() {
    let (daemon, at, _folder) = scraped();
    work(&daemon);
    let (_, text) = scrape(at, OPEN_METRICS);
    let all = Exposition::read(Flavor::OpenMetrics, &text);
    for pool in ["persistent", "ephemeral"] {
        for (op, result) in [
            ("put", "kept"),
            ("get", "hit"),
            ("get", "miss"),
            ("flush", "done"),
            ("flush_object", "done"),
            ("flush_extents", "done"),
        ] {
            let count = format!(
                "tmem_device_request_duration_seconds_count{{vm=\"vm\",op=\"{op}\",result=\"{result}\",pool=\"{pool}\"}}"
            );
            assert_eq!(all.samples.get(&count), Some(&1.0), "{count}");
        }
    }
    // A machine that does nothing has the other metrics, but no empty histograms.
    assert!(text.contains("tmem_vm_held_bytes{vm=\"idle\"}"));
    assert!(!text.contains("tmem_device_request_duration_seconds_count{vm=\"idle\""));
    let stats = daemon.vm_stats("vm");
    let latencies = stats["device"]["request_duration_seconds"].as_array();
    assert_eq!(latencies.unwrap().len(), 12);
}

#[test]
fn metrics_are_all_that_is_to_be_had_over_tcp() {
    let (daemon, at, _folder) = scraped();
    for (request, status) in [
        ("GET /metrics", 200),
        ("GET /metrics?x=1", 200),
        ("POST /metrics", 405),
        ("GET /", 404),
        ("GET /v1/vms", 404),
        ("GET /v1/stats", 404),
        ("DELETE /v1/vms/vm", 404),
        ("nonsense", 400),
    ] {
        let said = tcp::ask(at, &format!("{request} HTTP/1.1\r\n\r\n"));
        assert!(
            said.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request}: {said}"
        );
    }
    assert!(daemon.control("GET", "/v1/vms", "").is_some());
}

#[test]
fn only_this_host_reaches_it_unless_that_is_asked_for() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9749"] {
        let dir = tempfile::tempdir().unwrap();
        let control = dir.path().join("control.sock");
        let control = control.to_str().unwrap();
        let options = ["--control-socket", control, "--metrics-listen", address];
        let output = run(&options);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{address}");
        assert!(said.contains("--metrics-remote"), "{said}");
    }
    let options = ["--metrics-listen", "0.0.0.0:0", "--metrics-remote"];
    let daemon = Daemon::start(&["vm"], &options);
    until("it listens on TCP", || {
        tcp::listening(daemon.pid()).is_some()
    });
}

/// All that a daemon exports whose machine has had everything happen to it.
fn everything() -> Exposition {
    let (daemon, at, _folder) = scraped();
    work(&daemon);
    let (status, _) = daemon
        .control("PATCH", "/v1/vms/vm", r#"{"frozen": true}"#)
        .unwrap();
    assert_eq!(status, 200);
    let share = r#"{"name": "golden", "domain": "team-a"}"#;
    let (status, _) = daemon.control("POST", "/v1/shares", share).unwrap();
    assert_eq!(status, 201);
    let mem = guest_memory(64 << 20);
    let mut front_end = FrontEnd::connect(&daemon.socket("vm"), &mem, Ask::default()).unwrap();
    let mut driver = front_end.driver(1);
    driver.create_pool(2, PoolKind::Persistent);
    driver.put(2, &OBJECT, 0, &[page_of(1)]);
    let mut text = String::new();
    until("the daemon has looked at the guest's memory", || {
        text = scrape(at, OPEN_METRICS).1;
        text.contains("tmem_vm_backed_bytes{vm=\"vm\"}")
    });
    Exposition::read(Flavor::OpenMetrics, &text)
}

/// Names of our metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c));
    words
        .filter(|word| word.starts_with("tmem_") || word.starts_with("process_"))
        .collect()
}

#[test]
fn what_alerts_and_the_dashboard_name_is_exported() {
    let all = everything();
    let exported: BTreeSet<_> = all
        .samples
        .keys()
        .map(|series| series.split('{').next().unwrap())
        .collect();
    for (file, text) in [
        (
            "rules",
            include_str!("../../dist/prometheus/virtio-tmem.rules.yml"),
        ),
        (
            "tests of rules",
            include_str!("../../tests/prometheus/virtio-tmem.test.yml"),
        ),
        (
            "dashboard",
            include_str!("../../dist/grafana/virtio-tmem.json"),
        ),
    ] {
        let named = names(text);
        assert!(named.len() > 10, "{file}: {named:?}");
        for name in named {
            assert!(exported.contains(name), "{file}: nothing is called {name}");
        }
    }
}

#[test]
fn what_the_documentation_names_is_there() {
    let all = everything();
    let text = include_str!("../../docs/metrics.md");
    let counters = include_str!("../../guest/driver/counters.rs");
    // Names, and perhaps labels.
    let is_exported = |what: &str| {
        let (name, labels) = what.split_once('{').unwrap_or((what, "}"));
        let labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
        let of_family = all.types.contains_key(name) && labels == [""];
        of_family
            || all.samples.keys().any(|series| {
                let (is, has) = series.split_once('{').unwrap_or((series, ""));
                is == name && labels.iter().all(|label| has.contains(label))
            })
    };
    let (watch, history) = text.split_once("## Xen's").unwrap();
    for name in names(watch) {
        assert!(is_exported(name), "nothing is called {name}");
    }
    let mut judged = 0;
    for row in history.lines().filter(|line| line.starts_with("| ")) {
        let here = row.rsplit('|').nth(1).unwrap();
        assert!(
            here.contains('`') || here.contains("none") || here.contains("here"),
            "{row}"
        );
        for what in here.split('`').skip(1).step_by(2) {
            judged += 1;
            let is_there = if what.starts_with("tmem_") || what.starts_with("process_") {
                is_exported(what)
            } else if let Some(counter) = what.strip_prefix("/sys/kernel/debug/tmem/") {
                counters.contains(&format!("    {counter},\n"))
            } else if what.starts_with("vhost-user-tmem ") {
                let words = what.split_whitespace();
                vhost_user_tmem::cli::command()
                    .try_get_matches_from(words)
                    .is_ok()
            } else {
                // Judged with tmemctl.
                what.starts_with("tmemctl ") || what == "/dev/tmem0"
            };
            assert!(is_there, "there is no {what}: {row}");
        }
    }
    assert!(judged > 60, "{judged}");
}
