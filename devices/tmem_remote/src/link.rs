// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A connection to the cluster that is made anew whenever something is wrong with it.

use crate::settings::{Settings, Tls};
use redis::cluster::{ClusterClient, ClusterConnection, cluster_pipe};
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{
    Cmd, ConnectionAddr, ConnectionLike, Pipeline, RedisError, TlsCertificates, TlsMode, Value,
};
use std::time::Duration;

/// How long a connection may take to be made, and an answer to come. A node that is alive needs much
/// less; one that is not makes all wait who ask through the same connection.
const CONNECT: Duration = Duration::from_millis(500);
const ANSWER: Duration = Duration::from_secs(2);

/// How long a node waits for its replicas, at most.
const ACKNOWLEDGE: Duration = Duration::from_secs(1);

/// Makes connections to a cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: ClusterClient,
    /// A host of it.
    host: String,
}

impl Cluster {
    /// Reads the files that `settings` name.
    ///
    /// # Errors
    /// A sentence about what is wrong with them.
    pub(crate) fn new(settings: &Settings) -> Result<Self, String> {
        let read = |path: &std::path::Path| {
            std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
        };
        let nodes = settings.nodes.iter().map(|(host, port)| {
            let (host, port) = (host.clone(), *port);
            match settings.tls {
                Tls::Off => ConnectionAddr::Tcp(host, port),
                Tls::System | Tls::Authority(_) => ConnectionAddr::TcpTls {
                    host,
                    port,
                    insecure: false,
                    tls_params: None,
                },
            }
        });
        let mut client = ClusterClient::builder(nodes)
            .connection_timeout(CONNECT)
            .response_timeout(ANSWER)
            // Who asks tries again, with a connection that knows the nodes of now.
            .retries(1)
            .min_retry_wait(1)
            .max_retry_wait(2);
        if let Some(path) = &settings.password_file {
            let text = read(path)?;
            let text = String::from_utf8(text);
            let text = text.map_err(|_| format!("{} is no text", path.display()))?;
            client = client.password(text.lines().next().unwrap_or_default());
        }
        if let Some(user) = &settings.user {
            client = client.username(user);
        }
        if settings.tls != Tls::Off {
            // The first is as good as any.
            let _ = rustls::crypto::ring::default_provider().install_default();
            client = client.tls(TlsMode::Secure);
        }
        if let Tls::Authority(path) = &settings.tls {
            client = client.certs(TlsCertificates {
                client_tls: None,
                root_cert: Some(read(path)?),
            });
        }
        let client = client.build().map_err(|error| error.to_string())?;
        let host = settings.nodes.first().map(|(host, _)| host.clone());
        let host = host.unwrap_or_default();
        Ok(Self { client, host })
    }

    fn connect(&self) -> Result<ClusterConnection, RedisError> {
        let connection = self.client.get_connection()?;
        connection.set_write_timeout(Some(ANSWER))?;
        Ok(connection)
    }

    /// A connection that is made when it is first needed.
    pub(crate) fn link(&self) -> Link {
        Link {
            cluster: self.clone(),
            connection: None,
        }
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
    connection: Option<ClusterConnection>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let is_open = self.connection.is_some();
        f.debug_struct("Link")
            .field("is_open", &is_open)
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
    /// What the client or a node says.
    #[error("{0}")]
    Client(RedisError),
    /// A node has given another answer than the command has.
    #[error("a node has answered with {0}")]
    Odd(String),
    /// Too few replicas have a segment.
    #[error("{have} of {wanted} replicas have acknowledged")]
    Replicas {
        /// So many have.
        have: i64,
        /// So many were asked for.
        wanted: u32,
    },
}

impl Link {
    /// Has `ask` ask the cluster. After an error, the next one who asks has a new connection: what comes
    /// late on the old one would be taken for the answer to something else.
    fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut ClusterConnection) -> Result<T, RedisError>,
    ) -> Result<T, Failure> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.cluster.connect().map_err(Failure::Client)?,
        };
        let answer = ask(&mut connection).map_err(Failure::Client)?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// The host of a node that does not know its own address: it is the only one.
    pub(crate) fn only_host(&self) -> &str {
        &self.cluster.host
    }

    /// Runs a command on the node that has its key.
    pub(crate) fn command(&mut self, command: &Cmd) -> Result<Value, Failure> {
        let answer = self.ask(|connection| connection.req_command(command))?;
        self.judged(answer)
    }

    /// Runs a command on a node.
    pub(crate) fn command_at(
        &mut self,
        (host, port): (&str, u16),
        command: &Cmd,
    ) -> Result<Value, Failure> {
        let at = SingleNodeRoutingInfo::ByAddress {
            host: host.into(),
            port,
        };
        let routing = RoutingInfo::SingleNode(at);
        let answer = self.ask(|connection| connection.route_command(command, routing))?;
        self.judged(answer)
    }

    fn judged(&mut self, answer: Value) -> Result<Value, Failure> {
        answer.extract_error().map_err(|error| {
            self.connection = None;
            Failure::Client(error)
        })
    }

    /// Sets `key`, and waits for replicas to acknowledge it.
    ///
    /// # Errors
    /// The value may be there all the same.
    pub(crate) fn set(&mut self, key: &str, value: &[u8], replicas: u32) -> Result<(), Failure> {
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("SET").arg(key).arg(value);
        if replicas > 0 {
            let most = u64::try_from(ACKNOWLEDGE.as_millis()).unwrap_or(u64::MAX);
            commands.cmd("WAIT").arg(replicas).arg(most);
        }
        let packed = commands.get_packed_pipeline();
        let answers =
            self.ask(|connection| connection.req_packed_commands(&packed, 0, commands.len()))?;
        let mut answers = answers.into_iter();
        let set = answers.next().unwrap_or(Value::Nil);
        let set = self.judged(set)?;
        if set != Value::Okay {
            return Err(self.odd(&set));
        }
        if replicas == 0 {
            return Ok(());
        }
        let acknowledged = answers.next().unwrap_or(Value::Nil);
        match self.judged(acknowledged)? {
            Value::Int(have) if have >= i64::from(replicas) => Ok(()),
            Value::Int(have) => Err(Failure::Replicas {
                have,
                wanted: replicas,
            }),
            other => Err(self.odd(&other)),
        }
    }

    /// Bytes of some values, each `None` if there are fewer, or no value. All are asked for before the
    /// first is waited for.
    pub(crate) fn get(&mut self, ranges: &[Range<'_>]) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        let mut commands = cluster_pipe();
        for Range { key, offset, len } in ranges {
            let last = (offset + len).saturating_sub(1);
            commands.cmd("GETRANGE").arg(key).arg(offset).arg(last);
        }
        let found: Vec<Vec<u8>> = self.ask(|connection| commands.query(connection))?;
        if found.len() != ranges.len() {
            return Err(self.odd(&Value::Nil));
        }
        let whole = found.into_iter().zip(ranges);
        Ok(whole
            .map(|(bytes, range)| (bytes.len() == range.len).then_some(bytes))
            .collect())
    }

    pub(crate) fn odd(&mut self, value: &Value) -> Failure {
        self.connection = None;
        let kind = match value {
            Value::BulkString(bytes) => format!("{} bytes", bytes.len()),
            Value::Array(values) => format!("{} values", values.len()),
            other => format!("{other:.60?}"),
        };
        Failure::Odd(kind)
    }
}
