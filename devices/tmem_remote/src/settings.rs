// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What operators say of a cluster.

use std::path::PathBuf;
use std::time::Duration;

/// The port of a node about which nothing is said.
const PORT: u16 = 6379;

/// Longest name of a namespace.
const MOST_NAME: usize = 64;

/// A cluster, and how it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Nodes that are asked for the others: host and port.
    pub nodes: Vec<(String, u16)>,
    /// What keys of this daemon begin with; `None`: the host's name.
    pub namespace: Option<String>,
    /// How many replicas have a segment before its pages leave memory.
    pub replicas: u32,
    /// Bytes that segments may take there; `None`: to be decided by who has these settings.
    pub size: Option<u64>,
    /// How long a read tries before the page is reported lost for now.
    pub timeout: Duration,
    /// The user to log in as; `None`: the default one.
    pub user: Option<String>,
    /// A file with the password in its first line.
    pub password_file: Option<PathBuf>,
    /// Whether connections are encrypted.
    pub tls: Tls,
    /// Who the daemon is to nodes that want a certificate.
    pub certificate: Option<Certificate>,
}

/// A certificate and its key, each in a file (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, and those of authorities between it and one that nodes know.
    pub chain: PathBuf,
    /// Its key, which nobody else should be able to read.
    pub key: PathBuf,
}

/// Whether connections are encrypted, and which certificates are good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// They are not.
    #[default]
    Off,
    /// Those that an authority of the system has signed.
    System,
    /// Those that an authority of this file (PEM) has signed.
    Authority(PathBuf),
}

const EXAMPLE: &str = "valkey://10.0.0.5,10.0.0.6:7000?replicas=1&tls=/etc/virtio-tmem/ca.pem";

impl Settings {
    /// Reads `valkey://[USER@]HOST[:PORT][,HOST[:PORT]…][?KEY=VALUE[&KEY=VALUE…]]`, with the keys
    /// `replicas`, `size`, `namespace`, `timeout`, `password-file`, `tls`, `tls-cert` and `tls-key`. `size`
    /// reads a number of bytes.
    ///
    /// # Errors
    /// A sentence about the first mistake.
    pub fn parse(text: &str, size: impl Fn(&str) -> Result<u64, String>) -> Result<Self, String> {
        let rest = text.strip_prefix("valkey://");
        let rest =
            rest.ok_or_else(|| format!("'{text}' is no cluster; write it as in {EXAMPLE}"))?;
        let (hosts, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (user, hosts) = match hosts.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err(
                    "a password on a command line is for everybody to see; write password-file=PATH"
                        .into(),
                );
            }
            Some((user, hosts)) => (Some(user.to_owned()), hosts),
            None => (None, hosts),
        };
        let mut settings = Self {
            nodes: hosts.split(',').map(node).collect::<Result<_, _>>()?,
            namespace: None,
            replicas: 1,
            size: None,
            timeout: Duration::from_secs(30),
            user,
            password_file: None,
            tls: Tls::Off,
            certificate: None,
        };
        let (mut chain, mut secret) = (None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            match key {
                "tls-cert" if !value.is_empty() => chain = Some(PathBuf::from(value)),
                "tls-key" if !value.is_empty() => secret = Some(PathBuf::from(value)),
                _ => settings.set(key, value, &size)?,
            }
        }
        settings.certificate = match (chain, secret) {
            (None, None) => None,
            (Some(_), Some(_)) if settings.tls == Tls::Off => {
                return Err("a certificate is shown to nodes only with tls=on or tls=PATH".into());
            }
            (Some(chain), Some(key)) => Some(Certificate { chain, key }),
            _ => {
                return Err("a certificate has a key; write tls-cert=PATH and tls-key=PATH".into());
            }
        };
        if settings.user.is_some() && settings.password_file.is_none() {
            return Err("a user has a password; write password-file=PATH".into());
        }
        Ok(settings)
    }

    fn set(
        &mut self,
        key: &str,
        value: &str,
        size: &impl Fn(&str) -> Result<u64, String>,
    ) -> Result<(), String> {
        match key {
            "replicas" => {
                let read = value.parse().ok().filter(|replicas| *replicas <= 16);
                self.replicas = read.ok_or_else(|| {
                    format!("replicas={value}: write a number from 0 to 16; with 0, a node that dies loses pages")
                })?;
            }
            "size" => self.size = Some(size(value)?),
            "namespace" => self.namespace = Some(namespace(value)?),
            "timeout" => {
                let read = value
                    .parse()
                    .ok()
                    .filter(|seconds| (1..=600).contains(seconds));
                let read = read.ok_or_else(|| {
                    format!("timeout={value}: write a number of seconds from 1 to 600")
                })?;
                self.timeout = Duration::from_secs(read);
            }
            "password-file" if !value.is_empty() => self.password_file = Some(value.into()),
            "tls" => {
                self.tls = match value {
                    "off" => Tls::Off,
                    "on" => Tls::System,
                    path if path.starts_with('/') => Tls::Authority(path.into()),
                    _ => {
                        return Err(format!(
                            "tls={value}: write on, off, or the path of a file with the authority's certificate"
                        ));
                    }
                };
            }
            _ => {
                return Err(format!(
                    "'{key}' is not a setting of a cluster; there are replicas, size, namespace, timeout, password-file, tls, tls-cert and tls-key"
                ));
            }
        }
        Ok(())
    }

    /// The cluster without what is nobody's business.
    pub fn shown(&self) -> String {
        let scheme = match self.tls {
            Tls::Off => "valkey",
            Tls::System | Tls::Authority(_) => "valkeys",
        };
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|(host, port)| address(host, *port))
            .collect();
        format!("{scheme}://{}", nodes.join(","))
    }
}

fn address(host: &str, port: u16) -> String {
    match (host.contains(':'), port) {
        (false, PORT) => host.to_owned(),
        (true, PORT) => format!("[{host}]"),
        (false, port) => format!("{host}:{port}"),
        (true, port) => format!("[{host}]:{port}"),
    }
}

/// A host with or without a port; an IPv6 address is in brackets.
fn node(text: &str) -> Result<(String, u16), String> {
    let wrong = || format!("'{text}' is no host; write HOST or HOST:PORT as in {EXAMPLE}");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or_else(wrong)?)),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| wrong()))?;
    let is_odd = |it: char| it.is_whitespace() || it.is_control() || "/?#@[]".contains(it);
    if host.is_empty() || port == 0 || host.contains(is_odd) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

/// A name that keys may begin with.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    let is_good = |it: char| it.is_ascii_alphanumeric() || "._-".contains(it);
    if text.is_empty() || text.len() > MOST_NAME || !text.chars().all(is_good) {
        return Err(format!(
            "namespace={text}: write 1 to {MOST_NAME} letters, digits, dots, dashes and underscores"
        ));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, |text| {
            text.parse().map_err(|_| format!("'{text}' is no size"))
        })
    }

    #[test]
    fn clusters_are_read_with_all_that_is_said_of_them() {
        let plain = parse("valkey://a").unwrap();
        assert_eq!(plain.nodes, [("a".to_owned(), 6379)]);
        assert_eq!((plain.replicas, &plain.tls), (1, &Tls::Off));
        let all = "valkey://me@a:1,10.0.0.6,[fe80::1]:7000,[::1]?replicas=2&size=77&namespace=h.1&timeout=5&password-file=/p&tls=/ca.pem&tls-key=/k&tls-cert=/c";
        let all = parse(all).unwrap();
        let nodes = [
            ("a", 1),
            ("10.0.0.6", 6379),
            ("fe80::1", 7000),
            ("::1", 6379),
        ];
        assert_eq!(all.nodes, nodes.map(|(host, port)| (host.to_owned(), port)));
        assert_eq!(
            (all.replicas, all.size, all.timeout.as_secs()),
            (2, Some(77), 5)
        );
        assert_eq!(all.user.as_deref(), Some("me"));
        assert_eq!(all.tls, Tls::Authority("/ca.pem".into()));
        let (chain, key) = ("/c".into(), "/k".into());
        assert_eq!(all.certificate, Some(Certificate { chain, key }));
        assert_eq!(all.shown(), "valkeys://a:1,10.0.0.6,[fe80::1]:7000,[::1]");
    }

    #[test]
    fn mistakes_have_sentences() {
        for (text, part) in [
            ("redis://a", "valkey://"),
            ("valkey://", "no host"),
            ("valkey://a,,b", "no host"),
            ("valkey://a:0", "no host"),
            ("valkey://a:b", "no host"),
            ("valkey://[::1", "no host"),
            ("valkey://a b", "no host"),
            ("valkey://u:secret@a", "password-file"),
            ("valkey://u@a", "password-file"),
            ("valkey://a?replicas=17", "0 to 16"),
            ("valkey://a?size=x", "no size"),
            ("valkey://a?namespace=", "letters"),
            ("valkey://a?namespace=a:b", "letters"),
            ("valkey://a?timeout=0", "1 to 600"),
            ("valkey://a?tls=yes", "tls=yes"),
            ("valkey://a?tls=on&tls-cert=/c", "tls-key=PATH"),
            ("valkey://a?tls=on&tls-key=/k", "tls-cert=PATH"),
            ("valkey://a?tls-cert=/c&tls-key=/k", "tls=on"),
            ("valkey://a?tls-cert=", "'tls-cert'"),
            ("valkey://a?colour=red", "'colour'"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
