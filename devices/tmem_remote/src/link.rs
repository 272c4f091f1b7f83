// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Connections to a cluster that are made anew whenever something is wrong with one of them.

use crate::node::{Access, Limits, Node};
use crate::resp::{self, Answer};
use crate::routes::{Address, Redirect, Routes};
use crate::settings::Settings;
use crate::tls;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long an operation may take, with all nodes that it asks. A node that is alive needs much less; one
/// that is not makes all wait who ask through the same link.
const TIME: Duration = Duration::from_secs(2);

/// Whoever moves fewer bytes in a millisecond is as good as gone.
const SLOWEST: usize = 1024;

/// What answers may take besides the bytes that are asked for: a list of all slots, or of the keys that
/// a step of SCAN has found.
const ANSWERS: usize = 16 << 20;

/// How long a node waits for its replicas, at most.
const ACKNOWLEDGE: Duration = Duration::from_secs(1);

/// Nodes that a link has connections to, at most.
const NODES: usize = 64;

/// How often one operation is sent on from node to node.
const REDIRECTS: usize = 3;

/// Makes links to a cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    /// Those that are named.
    nodes: Arc<[Address]>,
    access: Arc<Access>,
}

impl Cluster {
    /// Reads the files that `settings` name.
    ///
    /// # Errors
    /// A sentence about what is wrong with them.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let password = match &settings.password_file {
            Some(path) => {
                let text = String::from_utf8(tls::read(path)?);
                let text = text.map_err(|_| format!("{} is no text", path.display()))?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            None => None,
        };
        let nodes = settings.nodes.iter().map(|(host, port)| Address {
            host: host.clone(),
            port: *port,
        });
        let access = Access {
            tls: tls::config(settings)?,
            user: settings.user.clone(),
            password,
        };
        Ok(Self {
            nodes: nodes.collect(),
            access: Arc::new(access),
        })
    }

    /// Connections that are made when they are first needed.
    pub(crate) fn link(&self) -> Link {
        Link {
            cluster: self.clone(),
            first: 0,
            routes: None,
            nodes: BTreeMap::new(),
        }
    }

    /// How many nodes are named.
    pub(crate) fn named(&self) -> usize {
        self.nodes.len()
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without passwords.
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

/// A connection to each node, as far as they are needed.
pub(crate) struct Link {
    cluster: Cluster,
    /// Which node that is named is to say where the others are.
    first: usize,
    routes: Option<Routes>,
    nodes: BTreeMap<Address, Node>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link")
            .field("nodes", &self.nodes.len())
            .finish_non_exhaustive()
    }
}

/// A part of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range<'a> {
    pub(crate) key: &'a str,
    pub(crate) offset: usize,
    pub(crate) len: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A node cannot be asked.
    #[error("{0}: {1}")]
    Node(Address, io::Error),
    /// A node refuses.
    #[error("{0} says {1}")]
    Refused(Address, String),
    /// A node has given another answer than the command has.
    #[error("{0} answers with {1}")]
    Odd(Address, String),
    /// The slot of a key is nobody's, as a node says.
    #[error("no node is known for a key")]
    Nobody,
    /// Nodes send from one to the other.
    #[error("nodes send in circles")]
    Circle,
    /// Too many nodes are asked.
    #[error("more than {NODES} nodes are asked")]
    Nodes,
    /// Too few replicas have a segment.
    #[error("{have} of {wanted} replicas have acknowledged")]
    Replicas {
        /// So many have.
        have: i64,
        /// So many were asked for.
        wanted: u32,
    },
}

impl Failure {
    /// Whether another node may know better.
    pub(crate) fn may_be_one_node_s(&self) -> bool {
        !matches!(self, Self::Refused(..) | Self::Replicas { .. })
    }
}

/// Commands for a key, and as many answers.
struct Commands<'a> {
    key: &'a str,
    packed: Vec<u8>,
    count: usize,
}

impl<'a> Commands<'a> {
    fn new(key: &'a str) -> Self {
        let (packed, count) = (Vec::new(), 0);
        Self { key, packed, count }
    }

    fn and(mut self, words: &[&[u8]]) -> Self {
        resp::append(&mut self.packed, words);
        self.count += 1;
        self
    }
}

/// Answers of a node.
type Answered = (Address, Vec<Answer>);

impl Link {
    /// Does an operation that moves so many bytes. After an error, the next one has new connections: what
    /// comes late on old ones would be taken for the answer to something else, and another node is to say
    /// where all are.
    fn operate<T>(
        &mut self,
        bytes: usize,
        operate: impl FnOnce(&mut Self, &mut Limits) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.find()?;
        let more = u64::try_from(bytes / SLOWEST).unwrap_or(u64::MAX);
        let time = TIME.saturating_add(Duration::from_millis(more));
        let mut limits = Limits::new(time, ANSWERS.saturating_add(bytes));
        operate(self, &mut limits).inspect_err(|_| self.begin_anew())
    }

    fn begin_anew(&mut self) {
        self.routes = None;
        self.nodes.clear();
        self.first = self.first.wrapping_add(1);
    }

    /// Has one of the nodes that are named say where all are.
    fn find(&mut self) -> Result<(), Failure> {
        let named = self.cluster.nodes.clone();
        let mut found = Err(Failure::Nobody);
        for _ in 0..named.len() {
            if self.routes.is_some() {
                return Ok(());
            }
            let Some(address) = named.get(self.first % named.len()) else {
                break;
            };
            // One that does not answer takes no time of the others.
            found = self.find_at(address, &mut Limits::new(TIME, ANSWERS));
            if found.is_err() {
                self.begin_anew();
            }
        }
        found
    }

    fn find_at(&mut self, address: &Address, limits: &mut Limits) -> Result<(), Failure> {
        let node = self.node(address, limits)?;
        let answer = node.ask(&[b"CLUSTER", b"SLOTS"], limits);
        let answer = answer.map_err(|error| Failure::Node(address.clone(), error))?;
        let answer = accepted(address, answer)?;
        let routes = Routes::read(&answer, address);
        self.routes = Some(routes.ok_or_else(|| odd(address, &answer))?);
        Ok(())
    }

    /// The connection to a node.
    fn node(&mut self, address: &Address, limits: &mut Limits) -> Result<&mut Node, Failure> {
        if !self.nodes.contains_key(address) {
            if self.nodes.len() >= NODES {
                return Err(Failure::Nodes);
            }
            let node = Node::connect(&self.cluster.access, address, limits);
            let node = node.map_err(|error| Failure::Node(address.clone(), error))?;
            self.nodes.insert(address.clone(), node);
        }
        self.nodes.get_mut(address).ok_or(Failure::Nodes)
    }

    fn node_of(&self, key: &str) -> Result<Address, Failure> {
        let node = self.routes.as_ref().and_then(|routes| routes.node(key));
        node.cloned().ok_or(Failure::Nobody)
    }

    /// Has the node that has a key do commands, wherever it is.
    fn ask(&mut self, commands: &Commands<'_>, limits: &mut Limits) -> Result<Answered, Failure> {
        let to = self.node_of(commands.key)?;
        let answers = self.ask_at(&to, commands, limits)?;
        self.follow(to, answers, commands, limits)
    }

    fn ask_at(
        &mut self,
        to: &Address,
        commands: &Commands<'_>,
        limits: &mut Limits,
    ) -> Result<Vec<Answer>, Failure> {
        let node = self.node(to, limits)?;
        let sent = node.send(&commands.packed, limits);
        sent.map_err(|error| Failure::Node(to.clone(), error))?;
        self.answers(to, commands, limits)
    }

    fn answers(
        &mut self,
        of: &Address,
        commands: &Commands<'_>,
        limits: &mut Limits,
    ) -> Result<Vec<Answer>, Failure> {
        let node = self.node(of, limits)?;
        let answers = (0..commands.count).map(|_| node.receive(limits));
        let answers: io::Result<_> = answers.collect();
        answers.map_err(|error| Failure::Node(of.clone(), error))
    }

    /// Goes where the first of the answers sends it.
    fn follow(
        &mut self,
        mut from: Address,
        mut answers: Vec<Answer>,
        commands: &Commands<'_>,
        limits: &mut Limits,
    ) -> Result<Answered, Failure> {
        for _ in 0..=REDIRECTS {
            let redirect = match answers.first() {
                Some(Answer::Error(error)) => Redirect::read(error, &from),
                _ => None,
            };
            match redirect {
                None => return Ok((from, answers)),
                Some(Redirect::Moved(to)) => {
                    if let Some(routes) = &mut self.routes {
                        routes.moved(commands.key, &to);
                    }
                    from = to;
                }
                Some(Redirect::Ask(to)) => {
                    let answer = self.node(&to, limits)?.ask(&[b"ASKING"], limits);
                    let answer = answer.map_err(|error| Failure::Node(to.clone(), error))?;
                    accepted(&to, answer)?;
                    from = to;
                }
            }
            answers = self.ask_at(&from, commands, limits)?;
        }
        Err(Failure::Circle)
    }

    /// As [`Link::ask`], for keys that may be on several nodes: all are asked before the first is waited
    /// for.
    fn ask_all(
        &mut self,
        all: &[Commands<'_>],
        limits: &mut Limits,
    ) -> Result<Vec<Answered>, Failure> {
        let mut packed: BTreeMap<Address, Vec<u8>> = BTreeMap::new();
        let mut nodes = Vec::new();
        for commands in all {
            let node = self.node_of(commands.key)?;
            packed
                .entry(node.clone())
                .or_default()
                .extend_from_slice(&commands.packed);
            nodes.push(node);
        }
        for (to, packed) in &packed {
            let sent = self.node(to, limits)?.send(packed, limits);
            sent.map_err(|error| Failure::Node(to.clone(), error))?;
        }
        let mut answered = Vec::new();
        for (commands, node) in all.iter().zip(nodes) {
            let answers = self.answers(&node, commands, limits)?;
            answered.push((node, answers));
        }
        // Only now are there no more answers to come.
        let answered = answered.into_iter().zip(all);
        answered
            .map(|((node, answers), commands)| self.follow(node, answers, commands, limits))
            .collect()
    }

    /// Has the node that has a key do a command.
    pub(crate) fn command(&mut self, key: &str, words: &[&[u8]]) -> Result<Answer, Failure> {
        let commands = Commands::new(key).and(words);
        self.operate(0, |link, limits| {
            let (node, answers) = link.ask(&commands, limits)?;
            accepted(&node, first(answers))
        })
    }

    /// Has a node do a command.
    pub(crate) fn command_at(
        &mut self,
        node: &Address,
        words: &[&[u8]],
    ) -> Result<Answer, Failure> {
        self.operate(0, |link, limits| {
            let answer = link.node(node, limits)?.ask(words, limits);
            let answer = answer.map_err(|error| Failure::Node(node.clone(), error))?;
            accepted(node, answer)
        })
    }

    /// Where the nodes are that have keys of their own.
    pub(crate) fn primaries(&mut self) -> Result<Vec<Address>, Failure> {
        self.routes = None;
        self.operate(0, |link, _| {
            let routes = link.routes.as_ref().ok_or(Failure::Nobody)?;
            Ok(routes.nodes().to_vec())
        })
    }

    /// Asks each node that has keys of its own whether it is there, for as long as `go_on` says so.
    pub(crate) fn check(&mut self, mut go_on: impl FnMut() -> bool) -> Result<(), Failure> {
        let nodes = self.primaries()?;
        if !self.routes.as_ref().is_some_and(Routes::is_whole) {
            return Err(Failure::Nobody);
        }
        for node in nodes.iter().take_while(|_| go_on()) {
            self.command_at(node, &[b"PING"])?;
            // There may be more of them than are connected to at a time.
            self.nodes.remove(node);
        }
        Ok(())
    }

    /// Sets `key`, and waits for replicas to acknowledge it.
    ///
    /// # Errors
    /// The value may be there all the same.
    pub(crate) fn set(&mut self, key: &str, value: &[u8], replicas: u32) -> Result<(), Failure> {
        let mut commands = Commands::new(key).and(&[b"SET", key.as_bytes(), value]);
        if replicas > 0 {
            let (wanted, most) = (replicas.to_string(), ACKNOWLEDGE.as_millis().to_string());
            commands = commands.and(&[b"WAIT", wanted.as_bytes(), most.as_bytes()]);
        }
        self.operate(value.len(), |link, limits| {
            let (node, answers) = link.ask(&commands, limits)?;
            let mut answers = answers.into_iter();
            let set = accepted(&node, answers.next().unwrap_or(Answer::Nothing))?;
            if set != Answer::Status("OK".into()) {
                return Err(odd(&node, &set));
            }
            match answers.next() {
                None => Ok(()),
                Some(Answer::Number(have)) if have >= i64::from(replicas) => Ok(()),
                Some(Answer::Number(have)) => Err(Failure::Replicas {
                    have,
                    wanted: replicas,
                }),
                Some(other) => Err(odd(&node, &accepted(&node, other)?)),
            }
        })
    }

    /// Bytes of some values, each `None` if there are fewer, or no value.
    pub(crate) fn get(&mut self, ranges: &[Range<'_>]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let commands: Vec<_> = ranges.iter().map(Range::get).collect();
        let bytes = ranges.iter().map(|range| range.len).sum();
        self.operate(bytes, |link, limits| {
            let answered = link.ask_all(&commands, limits)?.into_iter().zip(ranges);
            let whole = answered.map(|((node, answers), range)| {
                match accepted(&node, first(answers))? {
                    Answer::Bytes(bytes) if bytes.len() == range.len => Ok(Some(bytes)),
                    // It may be that there is no more; but there is never more.
                    Answer::Bytes(bytes) if bytes.len() < range.len => Ok(None),
                    other => Err(odd(&node, &other)),
                }
            });
            whole.collect()
        })
    }

    /// Removes those of some keys that are there.
    pub(crate) fn unlink(&mut self, keys: &[impl AsRef<str>]) -> Result<(), Failure> {
        let keys = keys.iter().map(AsRef::as_ref);
        let commands: Vec<_> = keys
            .map(|key: &str| Commands::new(key).and(&[b"UNLINK", key.as_bytes()]))
            .collect();
        self.operate(0, |link, limits| {
            for (node, answers) in link.ask_all(&commands, limits)? {
                accepted(&node, first(answers))?;
            }
            Ok(())
        })
    }
}

impl<'a> Range<'a> {
    fn get(&self) -> Commands<'a> {
        let last = (self.offset + self.len).saturating_sub(1);
        let (first, last) = (self.offset.to_string(), last.to_string());
        Commands::new(self.key).and(&[
            b"GETRANGE",
            self.key.as_bytes(),
            first.as_bytes(),
            last.as_bytes(),
        ])
    }
}

fn first(answers: Vec<Answer>) -> Answer {
    answers.into_iter().next().unwrap_or(Answer::Nothing)
}

/// An answer that is no refusal.
fn accepted(node: &Address, answer: Answer) -> Result<Answer, Failure> {
    match answer {
        Answer::Error(error) => Err(Failure::Refused(node.clone(), error)),
        answer => Ok(answer),
    }
}

fn odd(node: &Address, answer: &Answer) -> Failure {
    Failure::Odd(node.clone(), answer.kind())
}
