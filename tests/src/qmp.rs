// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! QEMU's machine protocol, as far as plugging devices needs it.

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use serde_json::Value;
use serde_json::json;
use std::collections::VecDeque;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use std::time::Instant;

/// For QEMU to answer a command.
const ANSWER: Duration = Duration::from_secs(60);

/// A connection to QEMU's monitor.
pub struct Qmp {
    port: BufReader<UnixStream>,
    /// A line that has not arrived whole.
    part: Vec<u8>,
    events: VecDeque<Value>,
}

impl Qmp {
    pub(crate) fn new(port: UnixStream) -> Result<Self> {
        let mut qmp = Self {
            port: BufReader::new(port),
            part: Vec::new(),
            events: VecDeque::new(),
        };
        qmp.message(Instant::now() + ANSWER)
            .context("QEMU's monitor does not greet")?;
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs a command.
    ///
    /// # Errors
    /// QEMU refuses it, or does not answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let line = json!({ "execute": command, "arguments": arguments }).to_string();
        self.port
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .context("QEMU has ended")?;
        let end = Instant::now() + ANSWER;
        loop {
            let message = self
                .message(end)
                .with_context(|| format!("QMP {command}"))?;
            if let Some(value) = message.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = message.get("error") {
                let why = error.get("desc").and_then(Value::as_str).unwrap_or("");
                bail!("QEMU refuses {line}: {why}");
            }
            self.events.push_back(message);
        }
    }

    /// Waits for the event `name` about the device `device`.
    ///
    /// # Errors
    /// It does not come within `limit`.
    pub fn event(&mut self, name: &str, device: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let wanted = |event: &Value| {
            event.get("event").and_then(Value::as_str) == Some(name)
                && event.pointer("/data/device").and_then(Value::as_str) == Some(device)
        };
        loop {
            while let Some(event) = self.events.pop_front() {
                if wanted(&event) {
                    return Ok(());
                }
            }
            let message = self
                .message(end)
                .with_context(|| format!("waited {} s for {name} of {device}", limit.as_secs()))?;
            self.events.push_back(message);
        }
    }

    fn message(&mut self, end: Instant) -> Result<Value> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("QEMU does not answer");
            }
            self.port
                .get_ref()
                .set_read_timeout(Some(left))
                .context("cannot set a timeout")?;
            match self.port.read_until(b'\n', &mut self.part) {
                Ok(_) if self.part.ends_with(b"\n") => {
                    let line = std::mem::take(&mut self.part);
                    return serde_json::from_slice(&line).context("QEMU speaks no JSON");
                }
                Ok(_) => bail!("QEMU has ended"),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("QEMU has ended"),
            }
        }
    }
}
