// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Which certificates are good, and which is shown.

use crate::settings::{Certificate, Settings, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, crypto};
use std::path::Path;
use std::sync::Arc;

/// What connections are encrypted with; `None`: they are not.
///
/// # Errors
/// A sentence about a file that does not go.
pub(crate) fn config(settings: &Settings) -> Result<Option<Arc<ClientConfig>>, String> {
    let roots = match &settings.tls {
        Tls::Off => return Ok(None),
        Tls::System => system()?,
        Tls::Authority(path) => authority(path)?,
    };
    let provider = Arc::new(crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    let config = config.with_root_certificates(roots);
    let config = match &settings.certificate {
        None => config.with_no_client_auth(),
        Some(Certificate { chain, key }) => {
            let (shown, known) = (certificates(chain)?, secret(key)?);
            let config = config.with_client_auth_cert(shown, known);
            config.map_err(|error| {
                let (chain, key) = (chain.display(), key.display());
                format!("{chain} and {key} are no certificate and its key: {error}")
            })?
        }
    };
    Ok(Some(Arc::new(config)))
}

/// Those that an authority of the system has signed.
fn system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (good, _) = roots.add_parsable_certificates(found.certs);
    match (good, found.errors.first()) {
        (0, Some(error)) => Err(format!("cannot read the system's certificates: {error}")),
        (0, None) => Err("the system has no certificates; write tls=PATH".into()),
        _ => Ok(roots),
    }
}

/// Those that an authority of a file has signed.
fn authority(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|error| format!("{}: {error}", path.display()))?;
    match found.is_empty() {
        true => Err(format!("{} has no certificate (PEM)", path.display())),
        false => Ok(found),
    }
}

fn secret(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| {
        // Which says nothing of what is in it.
        format!("{} has no key (PEM): {error}", path.display())
    })
}

/// Reads a file that settings name.
///
/// # Errors
/// A sentence.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}
