// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! `tmemctl attach`.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, anyhow};
use rustix::io::Errno;

use crate::cli::Attach;
use crate::disk::{self, Number};
use crate::failure;
use crate::module::{Kernel, Module};
use crate::share::ShareId;
use crate::system::{self, CONFIDENTIAL, Candidate, System, Verdict};
use crate::terms::kind_name;
use crate::uapi::{Kind, State};
use crate::verity::{self, Hashes};
use crate::{complain, warn};

/// A device that a person named.
struct Named<'a> {
    name: &'a str,
    device: Number,
    kind: Kind,
    /// For [`Kind::Shared`].
    shared: Option<Shared>,
    /// What is to be known of it.
    warnings: Vec<String>,
}

/// The share of a disk.
#[derive(Clone, Copy)]
struct Shared {
    id: ShareId,
    /// Nobody writes to the disk though that is possible.
    is_immutable: bool,
    /// It is a verified one, whose pages have these names.
    hashes: Option<Hashes>,
}

/// Attaches what is wanted; says whether all of it is.
///
/// # Errors
/// When nothing can be attached at all.
pub(crate) fn run(wanted: &Attach, out: &mut impl Write) -> Result<bool> {
    let system = System::read()?;
    if wanted.all {
        let candidates = system.candidates(&system::Kernel(Path::new(disk::SYS)));
        return all(&Kernel::open()?, candidates, out);
    }
    // Mistakes are told before anything is done.
    let devices = named(wanted, &system)?;
    each(&Kernel::open()?, &devices, out)
}

fn named<'a>(wanted: &'a Attach, system: &System) -> Result<Vec<Named<'a>>> {
    if wanted.verity.is_some() && wanted.devices.len() > 1 {
        return Err(anyhow!(
            "--verity is for one disk, whose hash device it names: attach the others by themselves"
        ));
    }
    let mut devices = Vec::new();
    for name in &wanted.devices {
        let device = disk::at(name)?;
        let kind = match (wanted.shared, wanted.kind) {
            (Some(_), _) => Kind::Shared,
            (None, Some(kind)) => kind.into(),
            (None, None) => system.kind(device),
        };
        // The name that the kernel knows, not a link to it.
        let known = disk::name(Path::new(disk::SYS), device);
        if let Some(objection) = system.objection(device, &known, kind) {
            return Err(anyhow!(objection));
        }
        let hashes = wanted.verity.as_deref().map(|path| {
            let hash = disk::at(path)?;
            let hashes = verity::read(path, hash, wanted.hash_offset)?;
            verity::check(Path::new(disk::SYS), name, device, hash)?;
            anyhow::Ok(hashes)
        });
        let hashes = hashes.transpose()?;
        let shared = wanted.shared.map(|id| Shared {
            id,
            is_immutable: wanted.immutable,
            hashes,
        });
        let disks = system::Kernel(Path::new(disk::SYS));
        let warnings = system.warnings(device, &known, kind, &disks);
        devices.push(Named {
            name,
            device,
            kind,
            shared,
            warnings,
        });
    }
    Ok(devices)
}

fn each(module: &impl Module, devices: &[Named<'_>], out: &mut impl Write) -> Result<bool> {
    let mut complete = true;
    if module.status()?.is_confidential != 0 {
        warn("this guest's memory is encrypted, and the host gets its pages in the clear");
    }
    for Named {
        name,
        device,
        kind,
        shared,
        warnings,
    } in devices
    {
        let attached = match *shared {
            None => {
                let attached = module.attach(device.target(*kind));
                attached.map_err(|errno| failure::attach(name, errno))
            }
            Some(Shared {
                id,
                is_immutable,
                hashes,
            }) => {
                let target = device.shared_target(id, is_immutable);
                match hashes {
                    None => {
                        let attached = module.attach_shared(target);
                        attached.map_err(|errno| failure::attach_shared(name, &id, errno))
                    }
                    Some(hashes) => {
                        let attached = module.attach_verified(hashes.target(target));
                        attached.map_err(|errno| failure::attach_verified(name, &id, errno))
                    }
                }
            }
        };
        match attached {
            Ok(()) => {
                say(out, "attached", name, kind_name(*kind))?;
                for warning in warnings {
                    warn(warning);
                }
            }
            Err(error) => {
                complain(&error);
                complete = false;
            }
        }
    }
    remark(module, out)?;
    Ok(complete)
}

fn all(module: &impl Module, candidates: Vec<Candidate>, out: &mut impl Write) -> Result<bool> {
    let mut complete = true;
    let is_confidential = module.status()?.is_confidential != 0;
    for Candidate {
        name,
        used,
        verdict,
    } in candidates
    {
        let (device, kind) = match verdict {
            Verdict::Attach(..) if is_confidential => {
                say(out, "skipped", &name, &format!("{used}: {CONFIDENTIAL}"))?;
                continue;
            }
            Verdict::Attach(device, kind) => (device, kind),
            Verdict::Skip(reason) => {
                say(out, "skipped", &name, &format!("{used}: {reason}"))?;
                continue;
            }
        };
        let what = format!("{}, {used}", kind_name(kind));
        match module.attach(device.target(kind)) {
            Ok(()) => say(out, "attached", &name, &what)?,
            Err(Errno::EXIST) => say(out, "was attached", &name, &what)?,
            // It is not suitable, or not there any more.
            Err(errno @ (Errno::OPNOTSUPP | Errno::NXIO | Errno::FBIG)) => {
                let reason = failure::attach(&name, errno);
                say(out, "skipped", &name, &format!("{used}: {reason:#}"))?;
            }
            Err(errno) => {
                complain(&failure::attach(&name, errno));
                complete = false;
            }
        }
    }
    remark(module, out)?;
    Ok(complete)
}

/// One line of what was done.
fn say(out: &mut impl Write, done: &str, name: &str, what: &str) -> Result<()> {
    writeln!(out, "{done:<12}  {name}  {what}")?;
    Ok(())
}

/// Says so when filters have nothing to do yet.
fn remark(module: &impl Module, out: &mut impl Write) -> Result<()> {
    // One with a share may wait for that only: see the status.
    let (waiting, shared) = (State::Waiting as u32, Kind::Shared as u32);
    let is_away = module.status()?.is_attached == 0;
    if module
        .filters()?
        .iter()
        .any(|filter| filter.state == waiting && (is_away || filter.kind != shared))
    {
        writeln!(
            out,
            "The host's device is not there: everything goes to the disks until it comes."
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Fake, number};

    fn candidate(name: &str, verdict: Verdict) -> Candidate {
        Candidate {
            name: name.into(),
            used: "ext4 on /".into(),
            verdict,
        }
    }

    fn attached(module: &Fake, candidates: Vec<Candidate>) -> (bool, String) {
        let mut out = Vec::new();
        let complete = all(module, candidates, &mut out).unwrap();
        (complete, String::from_utf8(out).unwrap())
    }

    #[test]
    fn with_all_what_is_attached_or_unsuitable_is_no_failure() {
        let module = Fake::default();
        module
            .attach(number("254:1").target(Kind::Precache))
            .unwrap();
        module.fail(number("254:2"), Errno::OPNOTSUPP);
        let (complete, out) = attached(
            &module,
            vec![
                candidate(
                    "/dev/vda1",
                    Verdict::Attach(number("254:1"), Kind::Precache),
                ),
                candidate(
                    "/dev/vda2",
                    Verdict::Attach(number("254:2"), Kind::Precache),
                ),
                candidate("/dev/vda3", Verdict::Attach(number("254:3"), Kind::Preswap)),
                candidate("/dev/vda4", Verdict::Skip("because".into())),
            ],
        );
        assert!(complete);
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines[0], "was attached  /dev/vda1  precache, ext4 on /");
        assert!(lines[1].starts_with("skipped       /dev/vda2  ext4 on /: the module cannot"));
        assert_eq!(lines[2], "attached      /dev/vda3  preswap, ext4 on /");
        assert_eq!(lines[3], "skipped       /dev/vda4  ext4 on /: because");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn a_failure_does_not_keep_the_others_from_being_attached() {
        let module = Fake::default();
        module.fail(number("254:1"), Errno::NOMEM);
        let attach = |minor: &str| Verdict::Attach(number(minor), Kind::Precache);
        let (complete, out) = attached(
            &module,
            vec![
                candidate("/dev/vda1", attach("254:1")),
                candidate("/dev/vda2", attach("254:2")),
            ],
        );
        assert!(!complete);
        assert_eq!(out, "attached      /dev/vda2  precache, ext4 on /\n");
        assert_eq!(module.filters().unwrap().len(), 1);
    }

    #[test]
    fn in_a_confidential_guest_only_what_is_named_is_attached() {
        let module = Fake::default();
        module.encrypt();
        let all = vec![
            candidate(
                "/dev/vda1",
                Verdict::Attach(number("254:1"), Kind::Precache),
            ),
            candidate("/dev/vda3", Verdict::Attach(number("254:3"), Kind::Preswap)),
            candidate("/dev/vda4", Verdict::Skip("because".into())),
        ];
        let (complete, out) = attached(&module, all);
        assert!(complete);
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 3, "{out}");
        for line in &lines[..2] {
            assert!(line.starts_with("skipped"), "{line}");
            assert!(line.contains("memory is encrypted"), "{line}");
        }
        assert_eq!(module.filters().unwrap(), []);

        let named = Named {
            name: "/dev/vda1",
            device: number("254:1"),
            kind: Kind::Precache,
            shared: None,
            warnings: Vec::new(),
        };
        assert!(each(&module, &[named], &mut Vec::new()).unwrap());
        assert_eq!(module.filters().unwrap().len(), 1);
    }

    #[test]
    fn by_name_an_attached_device_is_a_failure() {
        let module = Fake::default();
        let device = || Named {
            name: "/dev/vda1",
            device: number("254:1"),
            kind: Kind::Precache,
            shared: None,
            warnings: Vec::new(),
        };
        let mut out = Vec::new();
        assert!(!each(&module, &[device(), device()], &mut out).unwrap());
        assert_eq!(out, b"attached      /dev/vda1  precache\n");
    }

    #[test]
    fn a_share_is_attached_by_its_own_call() {
        let module = Fake::default();
        let share = "6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11".parse().unwrap();
        let named = Named {
            name: "/dev/vdb",
            device: number("254:16"),
            kind: Kind::Shared,
            shared: Some(Shared {
                id: share,
                is_immutable: false,
                hashes: None,
            }),
            warnings: Vec::new(),
        };
        let mut out = Vec::new();
        assert!(each(&module, &[named], &mut out).unwrap());
        assert_eq!(out, b"attached      /dev/vdb  shared\n");
        assert_eq!(module.filters().unwrap()[0].share, share.0);
    }

    #[test]
    fn a_verified_share_is_attached_with_its_hashes() {
        let module = Fake::default();
        let id = "6b1f0c1e-37d5-4a52-9c7e-0d8b2f5a4e11".parse().unwrap();
        let hashes = Hashes {
            device: number("254:32"),
            at: 8192,
            blocks: 6144,
        };
        let named = Named {
            name: "/dev/vdb",
            device: number("254:16"),
            kind: Kind::Shared,
            shared: Some(Shared {
                id,
                is_immutable: true,
                hashes: Some(hashes),
            }),
            warnings: Vec::new(),
        };
        let mut out = Vec::new();
        assert!(each(&module, &[named], &mut out).unwrap());
        assert_eq!(out, b"attached      /dev/vdb  shared\n");
        let filter = module.filters().unwrap()[0];
        assert_eq!((filter.share, filter.is_verified), (id.0, 1));

        let disks = ["/dev/vdb", "/dev/vdc"].map(String::from).to_vec();
        let wanted = Attach {
            devices: disks,
            shared: Some(id),
            verity: Some("/dev/vdd".into()),
            ..Attach::default()
        };
        let error = named_error(&wanted);
        assert!(error.contains("for one disk"), "{error}");
    }

    fn named_error(wanted: &Attach) -> String {
        let error = named(wanted, &System::default()).map(drop).unwrap_err();
        error.to_string()
    }

    #[test]
    fn a_filter_that_waits_is_remarked() {
        let module = Fake::default();
        module.leave();
        let (complete, out) = attached(
            &module,
            vec![candidate(
                "/dev/vda1",
                Verdict::Attach(number("254:1"), Kind::Precache),
            )],
        );
        assert!(complete);
        assert!(out.contains("device is not there"), "{out}");
    }
}
