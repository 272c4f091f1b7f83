// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The image of a machine, whichever way it goes: written while its driver stands still, and read while
//! none uses what it has.

use std::io::{Read, Write};

use serde_json::Value;
use tmem_store::{Client, CloneError};

use super::{About, Image, Totals, file};
use crate::personality::VmDevice;
use crate::registry::{Fill, Machine, NoBase, Refusal, Still};

/// Writes the image of the machine `name`; `None` if nobody reads it. The end is written only if its
/// driver has stood still the whole time, as `stands_still` says.
///
/// # Errors
/// It runs, or ran on meanwhile.
pub fn save(
    to: &mut impl Write,
    name: &str,
    personality: &str,
    device: &dyn VmDevice,
    stands_still: impl Fn() -> Result<Still, String>,
) -> Result<Option<Totals>, Refusal> {
    let conflict = |why: &str| Refusal::Conflict(format!("{name}: {why}"));
    let still = stands_still().map_err(|why| conflict(&why))?;
    let number = still.number;
    let about = About::of(personality, device, still);
    let Ok((totals, end)) = file::write(to, &about, device.client()) else {
        return Ok(None);
    };
    if is_as_it_was(device, &about, number, stands_still()) {
        return Ok(to.write_all(&end).ok().map(|()| totals));
    }
    let why = "it ran on before all of it was saved; pause it for as long as that takes";
    Err(conflict(why))
}

/// Whether the driver has stood still since it was known by `number`, and the device is still what the
/// image says.
fn is_as_it_was(
    device: &dyn VmDevice,
    about: &About,
    number: u64,
    now: Result<Still, String>,
) -> bool {
    device.instance() == about.instance.into_bytes() && now.is_ok_and(|now| now.number == number)
}

/// Reads an image for the machine `name`, and has `restore` have it: it is given the name of the pools,
/// how the driver was left, and what puts the pages there.
///
/// # Errors
/// The image is damaged, not whole or of another kind of device, or `restore` refuses.
pub fn restore(
    from: impl Read,
    name: &str,
    personality: &str,
    client: &Client,
    restore: impl FnOnce([u8; 16], &Value, &mut Fill<'_>) -> Result<(), Refusal>,
) -> Result<Totals, Refusal> {
    let image = Image::open(from)?;
    let about = image.about().clone();
    if about.personality != personality {
        return Err(Refusal::Invalid(format!(
            "the image is of a machine whose device is {}, and that of {name} is {personality}",
            about.personality
        )));
    }
    let mut image = Some(image);
    let mut totals = Totals::default();
    let instance = about.instance.into_bytes();
    restore(instance, &about.driver, &mut |goes_on| {
        about.make_pools(client)?;
        if let Some(image) = image.take() {
            totals = image.restore(client, goes_on)?;
        }
        Ok(())
    })?;
    Ok(totals)
}

/// A machine that is cloned, or is to be the clone.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its device is.
    pub personality: &'a str,
    /// What is served.
    pub machine: &'a dyn Machine,
}

/// How a clone comes by its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It and its source go on over one base; if that cannot be, pages are copied.
    Shared,
    /// Each page is copied, so that none can tell by the time of a get what the other has used.
    Copied,
}

/// Has `clone` have the pages of `source`, whose driver stands still the whole time.
///
/// # Errors
/// It runs, or ran on meanwhile; or `clone` cannot have them, and then has nothing.
pub fn clone(
    source: Party<'_>,
    clone: Party<'_>,
    how: How,
    is_wanted: &dyn Fn() -> bool,
) -> Result<Totals, Refusal> {
    let conflict = |why: &str| Refusal::Conflict(format!("{}: {why}", source.name));
    if source.personality != clone.personality {
        let why = format!(
            "its device is {}, and that of {} is {}",
            source.personality, clone.name, clone.personality
        );
        return Err(conflict(&why));
    }
    let still = source
        .machine
        .stands_still()
        .map_err(|why| conflict(&why))?;
    let from = source.machine.device();
    let number = still.number;
    let about = About::of(source.personality, from, still);
    let mut totals = Totals::default();
    let (instance, client) = (about.instance.into_bytes(), clone.machine.device().client());
    clone
        .machine
        .restore(instance, &about.driver, &mut |goes_on| {
            let is_as_it_was = || is_as_it_was(from, &about, number, source.machine.stands_still());
            let ran_on = || {
                let why =
                    "it ran on before its clone had all of it; pause it for as long as that takes";
                Err(conflict(why))
            };
            if how == How::Shared {
                match share(source, clone, &is_as_it_was)? {
                    Shared::Yes => {
                        let stats = client.stats();
                        totals.pages = stats.persistent_pages + stats.ephemeral_pages;
                        return Ok(());
                    }
                    Shared::RanOn => return ran_on(),
                    Shared::OnlyCopied => {}
                }
            }
            about.make_pools(client)?;
            let is_wanted = || goes_on() && is_wanted();
            let (from, to) = ((source.name, from.client()), (clone.name, client));
            totals = copy(from, to, &is_wanted)?;
            match is_as_it_was() {
                true => Ok(()),
                false => ran_on(),
            }
        })?;
    Ok(totals)
}

/// Whether a machine and its clone are over one base.
enum Shared {
    Yes,
    /// The machine has not stood still.
    RanOn,
    OnlyCopied,
}

/// Puts a machine and its clone over one base, if it is as it was.
///
/// # Errors
/// The clone has no room for its pages.
fn share(
    source: Party<'_>,
    clone: Party<'_>,
    is_as_it_was: &dyn Fn() -> bool,
) -> Result<Shared, Refusal> {
    let client = clone.machine.device().client();
    let share = |base: &_| client.go_on_over(base);
    match source.machine.to_base(is_as_it_was, &share) {
        Ok(()) => Ok(Shared::Yes),
        Err(NoBase::RanOn) => Ok(Shared::RanOn),
        Err(NoBase::OnlyCopied(why @ CloneError::Quota { .. })) => {
            Err(Refusal::Conflict(format!("{}: {why}", clone.name)))
        }
        Err(NoBase::OnlyCopied(why)) => {
            log::info!("{}: its pages are copied: {why}", source.name);
            Ok(Shared::OnlyCopied)
        }
    }
}

/// Copies all pages, as they are kept.
fn copy(
    (source, from): (&str, &Client),
    (clone, to): (&str, &Client),
    is_wanted: &dyn Fn() -> bool,
) -> Result<Totals, Refusal> {
    let mut totals = Totals::default();
    let mut save = from.save();
    for (count, segment) in (1..).zip(save.by_ref()) {
        if !is_wanted() {
            return Err(Refusal::Failed("nobody waits for it any more".into()));
        }
        let restored = to.restore(&segment, count);
        let restored = restored.map_err(|error| file::refused(to, error))?;
        totals.pages += restored.pages;
        totals.missing += restored.dropped;
        totals.bytes += segment.len() as u64;
    }
    if save.lost() > 0 {
        log::warn!(
            "{source}: {} pages cannot be read from the spill area: {clone} gets errors for them",
            save.lost()
        );
    }
    Ok(totals)
}
