// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A cluster that wants a password, and encrypts.

use super::MEMORY;
use super::pages::Pages;
use crate::bed;
use anyhow::Context;
use anyhow::Result;
use anyhow::ensure;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use std::fs;
use std::path::Path;
use tmem_e2e::Cluster;

const PASSWORD: &str = "correct horse";

#[test]
fn passwords_and_certificates_are_asked_for_and_given() -> Result<()> {
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    certificates(dir.path())?;
    let (key, certificate, authority) = (at("key.pem"), at("cert.pem"), at("ca.pem"));
    let files = Files {
        authority: &authority,
        certificate: &certificate,
        key: &key,
    };
    let mut options = files.options("no");
    options.extend(["--requirepass", PASSWORD, "--masterauth", PASSWORD]);
    let client = [
        "--tls",
        "--cacert",
        &authority,
        "--no-auth-warning",
        "-a",
        PASSWORD,
    ];
    let cluster = Cluster::start_with(&bed::assets()?.services, &options, &client)?;

    fs::write(at("password"), format!("{PASSWORD}\n")).context("cannot write a file")?;
    fs::write(at("wrong"), "wrong\n").context("cannot write a file")?;
    let url = |password: &str, tls: &str| {
        let password = at(password);
        cluster.url(&format!(
            "namespace=tls&size=1G&password-file={password}&tls={tls}"
        ))
    };
    // Not to a node that an authority of the system has not signed, not without encryption, and not
    // without the password.
    for (password, tls) in [
        ("password", "on"),
        ("password", "off"),
        ("wrong", authority.as_str()),
    ] {
        let opened = Pages::open(&url(password, tls), MEMORY);
        let error = opened.err().map(|error| format!("{error:#}"));
        let error = error.with_context(|| format!("{password} and tls={tls} will do"))?;
        println!("{error}");
        ensure!(error.contains("does not serve"), "{error}");
        ensure!(!error.contains(PASSWORD), "{error}");
    }
    let mut pages = Pages::open(&url("password", &authority), MEMORY)?;
    pages.put_new(super::PAGES)?;
    ensure!(pages.remote() > 0);
    pages.verify()
}

#[test]
fn nodes_that_want_a_certificate_are_shown_one() -> Result<()> {
    let dir = tempfile::tempdir().context("cannot make a directory")?;
    let at = |name: &str| dir.path().join(name).display().to_string();
    certificates(dir.path())?;
    // Of an authority that nodes do not know.
    let others = dir.path().join("others");
    fs::create_dir(&others).context("cannot make a directory")?;
    certificates(&others)?;
    let (key, certificate, authority) = (at("key.pem"), at("cert.pem"), at("ca.pem"));
    let files = Files {
        authority: &authority,
        certificate: &certificate,
        key: &key,
    };
    let client = [
        "--tls",
        "--cacert",
        &authority,
        "--cert",
        &certificate,
        "--key",
        &key,
    ];
    let options = files.options("yes");
    let cluster = Cluster::start_with(&bed::assets()?.services, &options, &client)?;
    let url = |shown: &str| cluster.url(&format!("namespace=shown&size=1G&tls={authority}{shown}"));
    let shown = |certificate: &str, key: &str| {
        url(&format!(
            "&tls-cert={}&tls-key={}",
            at(certificate),
            at(key)
        ))
    };
    for (wrong, part) in [
        (url(""), "does not serve"),
        (shown("others/cert.pem", "others/key.pem"), "does not serve"),
        (
            shown("cert.pem", "others/key.pem"),
            "no certificate and its key",
        ),
        (shown("key.pem", "key.pem"), "no certificate (PEM)"),
        (shown("cert.pem", "cert.pem"), "no key (PEM)"),
        (shown("none.pem", "key.pem"), "cannot read"),
    ] {
        let opened = Pages::open(&wrong, MEMORY);
        let error = opened.err().map(|error| format!("{error:#}"));
        let error = error.with_context(|| format!("{wrong} will do"))?;
        println!("{error}");
        ensure!(error.contains(part), "{error}");
    }
    let mut pages = Pages::open(&shown("cert.pem", "key.pem"), MEMORY)?;
    pages.put_new(super::PAGES)?;
    ensure!(pages.remote() > 0);
    pages.verify()
}

/// What nodes have.
struct Files<'a> {
    authority: &'a str,
    certificate: &'a str,
    key: &'a str,
}

impl<'a> Files<'a> {
    /// Nodes that encrypt, and want certificates of clients, or do not.
    fn options(&self, wants: &'a str) -> Vec<&'a str> {
        let mut options = vec!["--tls-port", "PORT", "--tls-auth-clients", wants];
        options.extend(["--tls-cluster", "yes", "--tls-replication", "yes"]);
        options.extend(["--tls-ca-cert-file", self.authority]);
        options.extend(["--tls-cert-file", self.certificate]);
        options.extend(["--tls-key-file", self.key]);
        options
    }
}

/// An authority, and a certificate of it for this host.
fn certificates(dir: &Path) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new([])?;
    authority
        .distinguished_name
        .push(DnType::CommonName, "authority of a test");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = authority.self_signed(&authority_key)?;
    let key = KeyPair::generate()?;
    let mut node = CertificateParams::new(["127.0.0.1".to_owned()])?;
    node.distinguished_name.push(DnType::CommonName, "node");
    let node = node.signed_by(&key, &Issuer::new(authority, authority_key))?;
    for (name, text) in [
        ("ca.pem", own.pem()),
        ("cert.pem", node.pem()),
        ("key.pem", key.serialize_pem()),
    ] {
        fs::write(dir.join(name), text).context("cannot write a file")?;
    }
    Ok(())
}
