// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A Valkey cluster on this machine, as Debian's packages have it: nodes with keys of their own, three
//! unless a test says more, and a replica of each.

use crate::assets::Services;
use crate::wait::until;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use anyhow::ensure;
use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::net::TcpListener;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;

const PROMPT: Duration = Duration::from_secs(60);

/// After so many milliseconds without an answer a node is dead to the others.
const NODE_TIMEOUT: u32 = 1000;

/// Nodes that have keys, and as many replicas, unless a test says where it wants them.
const PRIMARIES: usize = 3;

/// Where a node is: an address of this machine, and what a program is started with to have it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address.
    pub host: String,
    /// A program and its arguments, to which those of the node are added; nothing: it is here.
    pub enter: Vec<String>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".into(),
            enter: Vec::new(),
        }
    }
}

/// Its nodes run until this is dropped.
pub struct Cluster {
    services: Services,
    dir: TempDir,
    /// What each node is started with beside.
    options: Vec<String>,
    /// What the command line client is told beside.
    client: Vec<String>,
    nodes: Vec<Node>,
}

struct Node {
    place: Place,
    port: u16,
    child: Child,
}

impl Node {
    fn address(&self) -> String {
        format!("{}:{}", self.place.host, self.port)
    }
}

impl Cluster {
    /// Starts one, and waits until it is whole.
    ///
    /// # Errors
    /// The programs were not made, or a node does not start.
    pub fn start(services: &Services) -> Result<Self> {
        Self::start_with(services, &[], &[])
    }

    /// Starts one whose nodes have these options, and who speaks to them those.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_with(services: &Services, options: &[&str], client: &[&str]) -> Result<Self> {
        let pairs = [const { [(); 2] }; PRIMARIES].map(|pair| pair.map(|()| Place::default()));
        Self::start_at(services, options, client, &pairs)
    }

    /// As [`Cluster::start_with`], with pairs of a node that has keys and its replica at some places.
    /// Those with keys are the first nodes.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_at(
        services: &Services,
        options: &[&str],
        client: &[&str],
        pairs: &[[Place; 2]],
    ) -> Result<Self> {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect();
        let mut cluster = Self {
            services: services.clone(),
            dir: tempfile::tempdir().context("cannot make a directory")?,
            options: owned(options),
            client: owned(client),
            nodes: Vec::new(),
        };
        let (primaries, replicas) = (
            pairs.iter().map(|pair| &pair[0]),
            pairs.iter().map(|pair| &pair[1]),
        );
        for place in primaries.chain(replicas) {
            let port = free_port()?;
            let (child, place) = (cluster.spawn(place, port)?, place.clone());
            cluster.nodes.push(Node { place, port, child });
        }
        for nth in 0..cluster.nodes.len() {
            cluster.answers(nth)?;
        }
        let mut words = vec!["--cluster".to_owned(), "create".to_owned()];
        words.extend(cluster.nodes.iter().take(pairs.len()).map(Node::address));
        words.push("--cluster-yes".into());
        cluster.run(None, &words)?;
        for nth in 0..pairs.len() {
            cluster.add_replica(pairs.len() + nth, nth)?;
        }
        cluster.is_whole()?;
        Ok(cluster)
    }

    fn add_replica(&self, replica: usize, of: usize) -> Result<()> {
        let (host, port) = match self.nodes.get(of) {
            Some(node) => (node.place.host.as_str(), node.port.to_string()),
            None => bail!("there is no such node"),
        };
        self.run(Some(replica), &["CLUSTER", "MEET", host, &port])?;
        let id = self.id(of)?;
        until("a replica to know its primary", PROMPT, || {
            let told = self.run(Some(replica), &["CLUSTER", "REPLICATE", &id]);
            Ok(told.ok().filter(|told| told.contains("OK")))
        })
        .map(|_| ())
    }

    fn id(&self, nth: usize) -> Result<String> {
        Ok(self.run(Some(nth), &["CLUSTER", "MYID"])?.trim().to_owned())
    }

    /// Moves so many slots, and what is in them, from one node to another, while they are in use.
    ///
    /// # Errors
    /// Some stay.
    pub fn reshard(&self, slots: u32, from: usize, to: usize) -> Result<()> {
        let node = self.nodes.get(from).context("there is no such node")?;
        let (slots, from, to) = (slots.to_string(), self.id(from)?, self.id(to)?);
        let address = node.address();
        let words = ["--cluster", "reshard", &address, "--cluster-yes"];
        let what = [
            "--cluster-slots",
            &slots,
            "--cluster-from",
            &from,
            "--cluster-to",
            &to,
        ];
        self.run(None, &[&words[..], &what].concat()).map(|_| ())
    }

    /// Whether a node has keys of its own now, rather than those of another.
    ///
    /// # Errors
    /// It does not answer.
    pub fn is_primary(&self, nth: usize) -> Result<bool> {
        Ok(self.run(Some(nth), &["ROLE"])?.starts_with("master"))
    }

    /// Whether a node takes slots for failed: who has them is dead to it, and nobody takes their place.
    ///
    /// # Errors
    /// It does not answer.
    pub fn misses_slots(&self, nth: usize) -> Result<bool> {
        let info = self.run(Some(nth), &["CLUSTER", "INFO"])?;
        let failed = info
            .lines()
            .find_map(|line| line.strip_prefix("cluster_slots_fail:"));
        Ok(failed.context("it does not say")?.trim() != "0")
    }

    /// How many slots a node has.
    ///
    /// # Errors
    /// It does not answer.
    pub fn slots_of(&self, nth: usize) -> Result<usize> {
        let nodes = self.run(Some(nth), &["CLUSTER", "NODES"])?;
        let own = nodes.lines().find(|line| line.contains("myself"));
        // Before these are eight other words.
        let ranges = own.context("it does not know itself")?.split(' ').skip(8);
        let number = |text: &str| text.parse::<usize>().context("it is no slot");
        ranges
            .map(|range| match range.split_once('-') {
                Some((first, last)) => Ok(number(last)? + 1 - number(first)?),
                None => number(range).map(|_| 1),
            })
            .sum()
    }

    /// How many keys a node has.
    ///
    /// # Errors
    /// It does not answer.
    pub fn keys_of(&self, nth: usize) -> Result<u64> {
        let size = self.run(Some(nth), &["DBSIZE"])?;
        size.trim().parse().context("it is no number")
    }

    fn spawn(&self, place: &Place, port: u16) -> Result<Child> {
        let dir = self.dir.path().join(port.to_string());
        fs::create_dir_all(&dir).context("cannot make a directory")?;
        let log = File::create(dir.join("log")).context("cannot make a log")?;
        let mut command = entered(place, self.services.command("valkey-server")?);
        // One of them is enough, and says which.
        let port = port.to_string();
        command.args(["--bind", &place.host, "--cluster-enabled", "yes"]);
        if self.options.iter().any(|option| option == "--tls-port") {
            command.args(["--port", "0"]);
        } else {
            command.args(["--port", &port]);
        }
        command
            .args(["--cluster-node-timeout", &NODE_TIMEOUT.to_string()])
            .args([
                "--save",
                "",
                "--appendonly",
                "no",
                "--repl-diskless-sync-delay",
                "0",
            ])
            .args(self.options.iter().map(|option| match option.as_str() {
                "PORT" => port.as_str(),
                other => other,
            }))
            .arg("--dir")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start Valkey")
    }

    /// Runs the command line client, on a node if one is given.
    fn run(&self, node: Option<usize>, words: &[impl AsRef<str>]) -> Result<String> {
        let mut command = self.services.command("valkey-cli")?;
        command.args(&self.client);
        if let Some(node) = node.and_then(|nth| self.nodes.get(nth)) {
            command.args(["-h", &node.place.host, "-p", &node.port.to_string()]);
        }
        output(command.args(words.iter().map(AsRef::as_ref)))
    }

    fn answers(&self, nth: usize) -> Result<()> {
        until("a node to answer", PROMPT, || {
            Ok(self
                .run(Some(nth), &["PING"])
                .ok()
                .filter(|pong| pong.contains("PONG")))
        })
        .map(|_| ())
    }

    /// Waits until all slots are served and every node with keys has a replica.
    ///
    /// # Errors
    /// It does not become so.
    pub fn is_whole(&self) -> Result<()> {
        until("the cluster to be whole", PROMPT, || {
            for nth in 0..self.nodes.len() {
                let Ok(info) = self.run(Some(nth), &["CLUSTER", "INFO"]) else {
                    return Ok(None);
                };
                let replication = self.run(Some(nth), &["INFO", "replication"])?;
                let is_linked = replication.contains("master_link_status:up")
                    || replication.contains("state=online");
                if !info.contains("cluster_state:ok") || !is_linked {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
    }

    /// The cluster as `--remote` names it.
    pub fn url(&self, settings: &str) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(Node::address).collect();
        format!("valkey://{}?{settings}", nodes.join(","))
    }

    /// A node that has keys now.
    ///
    /// # Errors
    /// None has.
    pub fn primary(&self) -> Result<usize> {
        let mut all = 0..self.nodes.len();
        all.find(|nth| self.is_primary(*nth).is_ok_and(|is| is))
            .context("no node has keys")
    }

    /// Keys that all nodes have, those of replicas counted as well.
    ///
    /// # Errors
    /// A node does not answer.
    pub fn keys(&self) -> Result<u64> {
        let mut all = 0;
        for nth in 0..self.nodes.len() {
            all += self.keys_of(nth)?;
        }
        Ok(all)
    }

    /// Sets a key to some value.
    ///
    /// # Errors
    /// The cluster refuses.
    pub fn set(&self, key: &str) -> Result<()> {
        let answer = self.run(Some(0), &["-c", "SET", key, "x"])?;
        ensure!(answer.contains("OK"), "{answer}");
        Ok(())
    }

    /// The keys that there are, in order.
    ///
    /// # Errors
    /// A node does not answer.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = BTreeSet::new();
        for nth in 0..self.nodes.len() {
            let found = self.run(Some(nth), &["KEYS", "*"])?;
            names.extend(found.split_whitespace().map(str::to_owned));
        }
        Ok(names.into_iter().collect())
    }

    /// Ends a node as a crash would.
    ///
    /// # Errors
    /// There is no such node.
    pub fn kill(&mut self, nth: usize) -> Result<()> {
        let node = self.nodes.get_mut(nth).context("there is no such node")?;
        node.child.kill().context("cannot end it")?;
        node.child.wait().context("it is lost")?;
        Ok(())
    }

    /// Starts a node again that was ended. It has nothing but its place in the cluster.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self, nth: usize) -> Result<()> {
        let node = self.nodes.get(nth).context("there is no such node")?;
        let child = self.spawn(&node.place, node.port)?;
        if let Some(node) = self.nodes.get_mut(nth) {
            node.child = child;
        }
        self.answers(nth)
    }

    /// Removes all keys, as when all nodes have lost power.
    ///
    /// # Errors
    /// Some stay.
    pub fn empty(&self) -> Result<()> {
        for nth in 0..self.nodes.len() {
            // Replicas follow, and refuse.
            let _ = self.run(Some(nth), &["FLUSHALL"]);
        }
        until("the cluster to be empty", PROMPT, || {
            Ok((self.keys()? == 0).then_some(()))
        })
    }

    /// Has no node answer any more, with all connections as they are, or all of them again.
    ///
    /// # Errors
    /// A node is gone.
    pub fn set_silent(&self, silent: bool) -> Result<()> {
        for node in &self.nodes {
            let pid = i32::try_from(node.child.id()).context("it has no number")?;
            let pid = rustix::process::Pid::from_raw(pid).context("it has no number")?;
            let signal = match silent {
                true => rustix::process::Signal::STOP,
                false => rustix::process::Signal::CONT,
            };
            rustix::process::kill_process(pid, signal).context("cannot signal it")?;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            let _ = node.child.kill();
            let _ = node.child.wait();
        }
    }
}

/// What starts a program at a place.
fn entered(place: &Place, program: Command) -> Command {
    let Some((enter, words)) = place.enter.split_first() else {
        return program;
    };
    let mut command = Command::new(enter);
    command
        .args(words)
        .arg(program.get_program())
        .args(program.get_args());
    command
}

/// A port, and the one for the cluster's own messages, that nobody listens on.
fn free_port() -> Result<u16> {
    /// What nodes add to their port for these.
    const BUS: u16 = 10_000;
    until("free ports", PROMPT, || {
        let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
        let port = listener.local_addr().context("it has no address")?.port();
        let bus = port.checked_add(BUS);
        let is_free = bus.is_some_and(|bus| TcpListener::bind(("127.0.0.1", bus)).is_ok());
        Ok(is_free.then_some(port))
    })
}

fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cannot start valkey-cli")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valkey-cli failed: {text}{errors}");
    Ok(text)
}
