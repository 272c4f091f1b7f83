// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A Prometheus of its own, which watches one daemon.

use crate::bed::PROMPT;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::process::Stdio;
use tempfile::TempDir;
use tmem_e2e::Assets;
use tmem_e2e::until;

/// It runs until this is dropped.
pub(crate) struct Prometheus {
    child: Child,
    /// Address and port of its API.
    at: String,
    dir: TempDir,
}

impl Prometheus {
    /// One that scrapes `target` every second.
    pub(crate) fn start(assets: &Assets, target: &str, rules: &Path) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a directory")?;
        let path = |name: &str| dir.path().join(name);
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n  - job_name: virtio-tmem\n    static_configs: [{{targets: [\"{target}\"]}}]\n",
            rules.display()
        );
        fs::write(path("prometheus.yml"), config).context("cannot write a file")?;
        let log = File::create(path("log")).context("cannot make a log")?;
        let child = assets
            .services
            .command("prometheus")?
            .arg(format!(
                "--config.file={}",
                path("prometheus.yml").display()
            ))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start Prometheus")?;
        let mut prometheus = Self {
            child,
            at: String::new(),
            dir,
        };
        prometheus.at = until("Prometheus to listen", PROMPT, || {
            let log = prometheus.log();
            let ended = prometheus.child.try_wait().context("it is lost")?;
            ensure!(ended.is_none(), "Prometheus ended ({ended:?}): {log}");
            let line = log.lines().find(|line| line.contains("Listening on"));
            let at = line.and_then(|line| line.split("address=").nth(1));
            let at = at.map(|at| at.split_whitespace().next().unwrap_or(at).to_string());
            Ok(at)
        })?;
        until("Prometheus to be ready", PROMPT, || {
            Ok(prometheus.get("/-/ready").is_ok().then_some(()))
        })?;
        Ok(prometheus)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What a query finds now.
    pub(crate) fn query(&self, query: &str) -> Result<Vec<Value>> {
        let mut path = String::from("/api/v1/query?query=");
        for byte in query.bytes() {
            let _ = write!(path, "%{byte:02x}");
        }
        let found = self.json(&path).with_context(|| query.to_string())?;
        let found = found.pointer("/data/result").and_then(Value::as_array);
        found.cloned().context("no result")
    }

    /// The rules, and how they are.
    pub(crate) fn rules(&self) -> Result<Vec<Value>> {
        let all = self.json("/api/v1/rules")?;
        let groups = all.pointer("/data/groups").and_then(Value::as_array);
        let groups = groups.context("no groups")?.iter();
        let rules = groups.filter_map(|group| group.get("rules")?.as_array());
        Ok(rules.flatten().cloned().collect())
    }

    fn json(&self, path: &str) -> Result<Value> {
        let body = self.get(path)?;
        let value: Value = serde_json::from_str(&body).context("Prometheus's answer is no JSON")?;
        ensure!(
            value.get("status").is_some_and(|it| it == "success"),
            "{value}"
        );
        Ok(value)
    }

    /// The body of what is at `path`.
    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.at).context("Prometheus does not listen")?;
        stream
            .set_read_timeout(Some(PROMPT))
            .context("no timeout")?;
        // Of this version answers come in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").context("cannot ask Prometheus")?;
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .context("Prometheus does not answer")?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
        let status = head.split_whitespace().nth(1);
        match status {
            Some("200") => Ok(body.to_string()),
            _ => bail!("GET {path}: {answer}"),
        }
    }

    /// Ends it.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.child.kill().context("Prometheus cannot be ended")?;
        self.child.wait().context("Prometheus is lost")?;
        Ok(())
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
