// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A Valkey cluster as a place for segments.

use crate::key::Keys;
use crate::leftovers::Leftovers;
use crate::link::{Cluster, Failure, Link};
use crate::reads::{Begun, Reads};
use crate::resp::Answer;
use crate::settings::{Settings, namespace};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tmem_store::{Area, Reading, SEGMENT_BYTES, SegmentKey};

/// Threads that read. One of them always has time for reads that have not failed.
const READERS: usize = 4;

/// How long nodes that are named are asked one after the other whether they know the cluster.
const START: Duration = Duration::from_secs(10);

/// Between two lines in the log about what goes wrong.
const QUIET: Duration = Duration::from_secs(10);

/// Why a cluster is not used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// What was said of it does not go, or names files that cannot be read.
    #[error("{0}")]
    Settings(String),
    /// It does not answer, or refuses.
    #[error("{cluster} does not serve: {why}")]
    Cluster {
        /// The cluster.
        cluster: String,
        /// What it says.
        why: String,
    },
    /// The namespace is another host's.
    #[error(
        "the namespace {namespace} in {cluster} belongs to the host with machine id {owner}; give another one with namespace=NAME, or remove the key {key} if that host is gone"
    )]
    Taken {
        /// The cluster.
        cluster: String,
        /// The namespace.
        namespace: String,
        /// Whose it is.
        owner: String,
        /// The key that says so.
        key: String,
    },
    /// The namespace is in use by another daemon of this host.
    #[error(
        "another daemon of this host uses the namespace {0}; give each one of its own with namespace=NAME"
    )]
    InUse(String),
    /// The system refuses.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// A Valkey cluster as a place for segments. Nobody else on this host uses its namespace meanwhile, and
/// no other host.
#[derive(Debug)]
pub struct Valkey {
    name: String,
    segments: u32,
    replicas: u32,
    timeout: Duration,
    keys: Keys,
    identity: AtomicU64,
    shared: Arc<Shared>,
    writer: Mutex<Link>,
    /// Keeps other daemons of this host away.
    _claim: OwnedFd,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    name: String,
    reads: Reads,
    leftovers: Leftovers,
    said: Mutex<Option<Instant>>,
}

impl Shared {
    /// Has the log tell what goes wrong, but not each time.
    fn say(&self, what: &str, failure: &Failure) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|said| said.elapsed() >= QUIET) {
            *said = Some(Instant::now());
            log::warn!("cannot {what} {}: {failure}", self.name);
        }
    }
}

impl Valkey {
    /// Connects to a cluster, claims the namespace, and starts the threads that speak to it, each of which
    /// calls `prepare` before it does anything else, for example to confine itself. Segments may take
    /// `size` bytes there.
    ///
    /// # Errors
    /// See [`RemoteError`].
    pub fn open(
        settings: &Settings,
        size: u64,
        prepare: impl Fn() + Clone + Send + 'static,
    ) -> Result<Self, RemoteError> {
        let segments = size / SEGMENT_BYTES as u64;
        let segments = u32::try_from(segments).unwrap_or(u32::MAX);
        if segments < 8 {
            let least = 8 * SEGMENT_BYTES;
            let text = format!("a size of {size} bytes is too small; give at least {least}");
            return Err(RemoteError::Settings(text));
        }
        let space = match &settings.namespace {
            Some(name) => name.clone(),
            None => host_name()?,
        };
        let (name, keys) = (settings.shown(), Keys::new(space.clone()));
        let claim = claim_here(&space)?;
        let cluster = Cluster::new(settings).map_err(RemoteError::Settings)?;
        let mut writer = cluster.link();
        claim_there(&mut writer, cluster.named(), &keys, &name, &space)?;
        let shared = Arc::new(Shared {
            name: name.clone(),
            reads: Reads::for_threads(READERS),
            leftovers: Leftovers::default(),
            said: Mutex::default(),
        });
        let valkey = Self {
            name,
            segments,
            replicas: settings.replicas,
            timeout: settings.timeout,
            identity: AtomicU64::new(0),
            writer: Mutex::new(writer),
            _claim: claim,
            keys,
            shared,
        };
        // They are told to end when it is dropped, if one cannot be started.
        for _ in 0..READERS {
            let mut link = cluster.link();
            valkey.start("remote", prepare.clone(), move |shared, _| {
                let failed = |failure: &Failure| shared.say("read from", failure);
                shared.reads.work(&mut link, failed);
            })?;
        }
        let mut link = cluster.link();
        valkey.start("leftovers", prepare, move |shared, keys| {
            let failed = |failure: &Failure| shared.say("remove what is not needed from", failure);
            shared.leftovers.work(&mut link, keys, failed);
        })?;
        Ok(valkey)
    }

    fn start(
        &self,
        name: &str,
        prepare: impl FnOnce() + Send + 'static,
        work: impl FnOnce(&Shared, &Keys) + Send + 'static,
    ) -> Result<(), RemoteError> {
        let (shared, keys) = (self.shared.clone(), self.keys.clone());
        let thread = thread::Builder::new().name(name.into()).spawn(move || {
            prepare();
            work(&shared, &keys);
        });
        let action = "start a thread";
        // It ends by itself once it is told to, and what it waits for has answered.
        thread
            .map(|_| ())
            .map_err(|source| RemoteError::System { action, source })
    }

    fn reading(&self, segment: SegmentKey, offset: usize, len: usize) -> Begun {
        let (key, reads) = (self.key(segment), &self.shared.reads);
        reads.begin(key, offset, len, self.timeout)
    }

    fn key(&self, segment: SegmentKey) -> String {
        self.keys.segment(self.identity(), segment)
    }
}

impl Drop for Valkey {
    fn drop(&mut self) {
        self.shared.reads.end();
        self.shared.leftovers.end();
    }
}

impl Area for Valkey {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn identity(&self) -> u64 {
        self.identity.load(Relaxed)
    }

    fn segments(&self) -> u32 {
        self.segments
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn renew(&self) -> io::Result<()> {
        let mut random = [0; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let identity = self.keys.identity(u32::from_le_bytes(random));
        self.identity.store(identity, Relaxed);
        self.shared.leftovers.keep_only(identity);
        Ok(())
    }

    fn take_over(&self, identity: u64) -> bool {
        let is_ours = self.keys.is_ours(identity);
        if is_ours {
            self.identity.store(identity, Relaxed);
        }
        is_ours
    }

    fn read(
        &self,
        segment: SegmentKey,
        offset: usize,
        bytes: &mut [u8],
        go_on: &mut dyn FnMut() -> bool,
    ) -> io::Result<()> {
        let begun = self.reading(segment, offset, bytes.len());
        begun.wait(bytes, go_on)
    }

    fn begin(&self, segment: SegmentKey, offset: usize, len: usize) -> Option<Box<dyn Reading>> {
        Some(Box::new(self.reading(segment, offset, len)))
    }

    fn write(&self, segment: SegmentKey, bytes: &[u8]) -> io::Result<()> {
        let key = self.key(segment);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.set(&key, bytes, self.replicas).map_err(|failure| {
            self.shared.say("write to", &failure);
            // It may be there, with fewer replicas, or come late.
            self.shared.leftovers.forget(key);
            io::Error::other(failure)
        })
    }

    fn forget(&self, segment: SegmentKey) {
        self.shared.leftovers.forget(self.key(segment));
    }
}

fn host_name() -> Result<String, RemoteError> {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    namespace(&name).map_err(|_| {
        let text =
            format!("the host's name '{name}' is no namespace; give one with namespace=NAME");
        RemoteError::Settings(text)
    })
}

/// Keeps other daemons of this host from using the namespace.
fn claim_here(space: &str) -> Result<OwnedFd, RemoteError> {
    let failed = |action| {
        move |source: rustix::io::Errno| RemoteError::System {
            action,
            source: source.into(),
        }
    };
    let name = format!("virtio-tmem-remote-{space}");
    let address = SocketAddrUnix::new_abstract_name(name.as_bytes());
    let address = address.map_err(failed("name a socket"))?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
    let socket = socket.map_err(failed("make a socket"))?;
    match rustix::net::bind(&socket, &address) {
        Ok(()) => Ok(socket),
        Err(rustix::io::Errno::ADDRINUSE) => Err(RemoteError::InUse(space.into())),
        Err(other) => Err(failed("claim the namespace")(other)),
    }
}

/// Keeps other hosts from using the namespace, until this host's claim is removed.
fn claim_there(
    link: &mut Link,
    named: usize,
    keys: &Keys,
    cluster: &str,
    space: &str,
) -> Result<(), RemoteError> {
    let host =
        std::fs::read_to_string("/etc/machine-id").map_err(|source| RemoteError::System {
            action: "read /etc/machine-id",
            source,
        })?;
    let (host, key) = (host.trim(), keys.owner());
    let words = ["SET", &key, host, "NX", "GET"];
    let words = words.map(str::as_bytes);
    let mut owner = link.command(&key, &words);
    // The node that was asked where the others are may not know.
    let begin = Instant::now();
    let is_soon = || begin.elapsed() < START;
    for _ in 1..named {
        if owner
            .as_ref()
            .is_err_and(|failure| failure.may_be_one_node_s() && is_soon())
        {
            owner = link.command(&key, &words);
        }
    }
    // Who takes pages over while one of the nodes is silent would wait for each, and lose it.
    let owner = owner.and_then(|owner| link.check(is_soon).map(|()| owner));
    let owner = owner.map_err(|failure| RemoteError::Cluster {
        cluster: cluster.into(),
        why: failure.to_string(),
    })?;
    match owner {
        // It was nobody's.
        Answer::Nothing => Ok(()),
        Answer::Bytes(owner) if owner == host.as_bytes() => Ok(()),
        Answer::Bytes(owner) => Err(RemoteError::Taken {
            cluster: cluster.into(),
            namespace: space.into(),
            owner: shown(&owner),
            key,
        }),
        other => Err(RemoteError::Cluster {
            cluster: cluster.into(),
            why: format!("it answers with {}", other.kind()),
        }),
    }
}

/// A machine id has 32 digits; what is there may be anything.
fn shown(owner: &[u8]) -> String {
    let owner = String::from_utf8_lossy(owner);
    owner
        .chars()
        .take(64)
        .flat_map(char::escape_debug)
        .collect()
}
