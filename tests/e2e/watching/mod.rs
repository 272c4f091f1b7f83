// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A daemon that Prometheus watches: what it exports is understood, alerts fire when they should,
//! and the dashboard shows something.

mod prometheus;

use crate::bed;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use prometheus::Prometheus;
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tmem_e2e::DaemonOptions;
use tmem_e2e::protocol::Order;
use tmem_e2e::until;

/// For Prometheus to have scraped a few times, on a machine that is busy.
const SCRAPED: Duration = Duration::from_secs(120);

/// A file of this checkout.
fn file(path: &str) -> PathBuf {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    PathBuf::from(root).join(path)
}

fn rules() -> PathBuf {
    file("dist/prometheus/virtio-tmem.rules.yml")
}

/// Runs promtool, which must be content.
fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    let mut command = bed::assets()?.services.command("promtool")?;
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot start promtool")?;
    let mut stdin = child.stdin.take().context("promtool has no input")?;
    // It may end without reading it.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().context("promtool is lost")?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success(), "promtool {arguments:?}: {said}");
    Ok(())
}

#[test]
fn alerts_fire_when_they_should() -> Result<()> {
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    // The tests name the rules beside them.
    let path = |name: &str| dir.path().join(name).display().to_string();
    for (from, name) in [
        (rules(), "virtio-tmem.rules.yml"),
        (file("tests/prometheus/virtio-tmem.test.yml"), "test.yml"),
    ] {
        fs::copy(&from, path(name)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    promtool(&["check", "rules", &path("virtio-tmem.rules.yml")], "")?;
    promtool(&["test", "rules", &path("test.yml")], "")
}

/// What is at `pointer` (RFC 6901), or null.
fn part<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

fn text_of<'a>(value: &'a Value, pointer: &str) -> &'a str {
    part(value, pointer).as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    part(value, pointer).as_array().map_or(&[], Vec::as_slice)
}

/// The queries of the dashboard, by panel, with its variables as Grafana would fill them in.
fn queries() -> Result<Vec<(String, String)>> {
    let text = fs::read_to_string(file("dist/grafana/virtio-tmem.json"))
        .context("cannot read the dashboard")?;
    let dashboard: Value = serde_json::from_str(&text).context("the dashboard is no JSON")?;
    let mut queries = Vec::new();
    let mut add = |title: &Value, query: &str| {
        let query = query
            .replace("$__rate_interval", "1m")
            .replace("$instance", ".*")
            .replace("$vm", ".*");
        ensure!(!query.contains('$'), "a variable is unknown: {query}");
        queries.push((title.to_string(), query));
        Ok(())
    };
    for panel in list(&dashboard, "/panels") {
        for target in list(panel, "/targets") {
            add(part(panel, "/title"), text_of(target, "/expr"))?;
        }
    }
    for variable in list(&dashboard, "/templating/list") {
        if text_of(variable, "/type") == "query" {
            // label_values(SERIES, LABEL)
            let query = text_of(variable, "/query");
            let inner = query
                .strip_prefix("label_values(")
                .context("another query")?;
            let (series, _) = inner.rsplit_once(',').context("no label")?;
            add(part(variable, "/name"), series)?;
        }
    }
    ensure!(queries.len() > 20, "{queries:?}");
    Ok(queries)
}

#[test]
fn prometheus_understands_the_daemon_and_the_dashboard_shows_something() -> Result<()> {
    let daemon = bed::daemon(DaemonOptions {
        listens: true,
        ..DaemonOptions::default()
    })?;
    let prometheus = Prometheus::start(&bed::assets()?, &daemon.listens()?, &rules())?;
    let guest = bed::guest("watching", 160, &daemon, "vm0")?;
    guest.swap_on()?;
    let mut job = guest.workload(256, 1)?;
    job.filled()?;
    job.order(Order::Verify)?;

    promtool(&["check", "metrics"], &daemon.metrics()?)?;
    until("a scrape", SCRAPED, || {
        let up = prometheus.query("up{job=\"virtio-tmem\"} == 1")?;
        Ok((!up.is_empty()).then_some(()))
    })?;
    for (panel, query) in queries()? {
        until(&format!("{panel}: {query}"), SCRAPED, || {
            Ok((!prometheus.query(&query)?.is_empty()).then_some(()))
        })?;
    }
    // With all its guests' work it is well.
    until("the rules to be evaluated", SCRAPED, || {
        let rules = prometheus.rules()?;
        ensure!(rules.len() > 5, "{rules:?}");
        for rule in &rules {
            match text_of(rule, "/health") {
                "ok" => {}
                "unknown" => return Ok(None),
                _ => bail!("a rule fails: {rule}"),
            }
            ensure!(text_of(rule, "/state") != "firing", "{rule}");
        }
        Ok(Some(()))
    })?;
    job.end()?;
    guest.power_off()?;
    prometheus.stop()?;
    daemon.stop()
}
