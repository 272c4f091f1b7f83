// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The guest's kernel: the stock one, checked for Rust, and unpacked from its
//! boot wrapper, because a machine emulated in software takes more than a
//! second to do that itself.

use crate::cache::Cache;
use crate::roots::Root;
use crate::versions::Versions;
use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

/// The boot protocol's header, by its offsets in the file
/// (Linux, Documentation/arch/x86/boot.rst).
const SETUP_SECTORS: usize = 0x1f1;
const SIGNATURE: usize = 0x202;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;

/// Fails unless the kernel is built with Rust.
pub(crate) fn check_rust(build: &Root, versions: &Versions) -> Result<()> {
    let config = build.file(&format!(
        "usr/src/linux-headers-{}/.config",
        versions.kernel
    ));
    let text = fs::read_to_string(&config).with_context(|| {
        format!(
            "cannot read the kernel's configuration {}",
            config.display()
        )
    })?;
    if !text.lines().any(|line| line == "CONFIG_RUST=y") {
        bail!(
            "the kernel {} in trixie-backports is built without CONFIG_RUST, so it cannot load \
             a Rust module; a mirror with another kernel can be given in TMEM_MIRROR",
            versions.kernel
        );
    }
    Ok(())
}

/// The cache's name of the unpacked kernel.
pub(crate) fn name(versions: &Versions) -> String {
    format!("kernel-{}-{}", versions.kernel, versions.kernel_package)
}

/// The uncompressed kernel, an ELF file that QEMU boots directly.
pub(crate) fn elf(cache: &Cache, build: &Root, versions: &Versions) -> Result<PathBuf> {
    let dir = cache.entry(&name(versions), |dir| {
        let packed = build.file(&format!("usr/lib/modules/{}/vmlinuz", versions.kernel));
        let image =
            fs::read(&packed).with_context(|| format!("cannot read {}", packed.display()))?;
        let kernel = unpack(&image)
            .with_context(|| format!("cannot unpack the kernel {}", packed.display()))?;
        fs::write(dir.join("vmlinux"), kernel).context("cannot write the unpacked kernel")
    })?;
    Ok(dir.join("vmlinux"))
}

/// The ELF file inside a bzImage.
fn unpack(image: &[u8]) -> Result<Vec<u8>> {
    let word = |at: usize| -> Option<usize> {
        let bytes = image.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    if image.get(SIGNATURE..SIGNATURE + 4) != Some(b"HdrS") {
        bail!("it is no bzImage");
    }
    let header = || -> Option<&[u8]> {
        let setup = (usize::from(*image.get(SETUP_SECTORS)?) + 1) * 512;
        let start = setup.checked_add(word(PAYLOAD_OFFSET)?)?;
        image.get(start..start.checked_add(word(PAYLOAD_LENGTH)?)?)
    };
    let payload = header().context("its payload lies outside the file")?;
    if payload.get(..4) != Some(&[0x28, 0xb5, 0x2f, 0xfd]) {
        bail!("its payload is not compressed with zstd");
    }
    let mut kernel = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(payload)
        .context("its payload is not valid zstd")?
        .read_to_end(&mut kernel)
        .context("its payload is not valid zstd")?;
    if kernel.get(..4) != Some(b"\x7fELF") {
        bail!("its payload is no ELF file");
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(unpack(b"").is_err());
        let mut image = vec![0; 4096];
        image[SIGNATURE..SIGNATURE + 4].copy_from_slice(b"HdrS");
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&[0xff; 4]);
        let error = unpack(&image).unwrap_err();
        assert!(error.to_string().contains("outside"), "{error}");
    }
}
