// SPDX-License-Identifier: GPL-2.0

//! `/dev/tmem`, by which `tmemctl` talks to the module.

use crate::{
    sys::misc::{
        Backend,
        Registration, //
    },
    uapi::{
        self,
        Filter,
        GivenBack,
        Kind,
        SharedTarget,
        Status,
        Target,
        VerifiedTarget, //
    },
};
use kernel::{
    prelude::*,
    sync::Arc,
    uaccess::{
        UserPtr,
        UserSlice, //
    }, //
};

/// [`uapi::DEVICE_NAME`] as the kernel takes it.
const NAME: &CStr = c"tmem";

const _: () = assert!(NAME.to_bytes().len() == uapi::DEVICE_NAME.len());

/// What can be done through the device. Errors are those that `uapi` lists for the ioctl.
pub(crate) trait Control: Send + Sync + 'static {
    /// Attaches a filter; the target's kind is a known one.
    fn attach(&self, target: &Target) -> Result;

    /// Attaches a filter with a share; the target's flags are known ones.
    fn attach_shared(&self, target: &SharedTarget) -> Result;

    /// Attaches a filter with a verified share; the target's flags are known ones.
    fn attach_verified(&self, target: &VerifiedTarget) -> Result;

    /// Detaches a filter, whatever the target's kind. Takes as long as it takes, or until a signal
    /// arrives.
    fn detach(&self, target: &Target) -> Result;

    /// A filter, counted from 0; its field `position` need not be set.
    fn filter(&self, position: u32) -> Option<Filter>;

    /// The module and its device; the field `version` need not be set.
    fn status(&self) -> Status;

    /// Begins to give memory back.
    fn give_back(&self) -> Result;

    /// Ends it.
    fn keep(&self);

    /// Memory that is given back.
    fn given_back(&self) -> GivenBack;
}

impl<T: Control> Backend for T {
    fn ioctl(&self, command: u32, argument: UserPtr) -> Result {
        match command {
            uapi::ATTACH => {
                let target = target(argument)?;
                Kind::from_number(target.kind).ok_or(EINVAL)?;
                self.attach(&target)
            }
            uapi::ATTACH_SHARED => self.attach_shared(&shared_target(argument)?),
            uapi::ATTACH_VERIFIED => self.attach_verified(&verified_target(argument)?),
            uapi::DETACH => self.detach(&target(argument)?),
            uapi::GET_FILTER => {
                let (mut reader, mut writer) =
                    UserSlice::new(argument, Filter::SIZE).reader_writer();
                let mut asked = [0; Filter::SIZE];
                reader.read_slice(&mut asked)?;
                let position = Filter::decode(&asked).position;
                let filter = self.filter(position).ok_or(ENOENT)?;
                writer.write_slice(&Filter { position, ..filter }.encode())
            }
            uapi::GET_STATUS => {
                let status = Status {
                    version: uapi::VERSION,
                    ..self.status()
                };
                UserSlice::new(argument, Status::SIZE)
                    .writer()
                    .write_slice(&status.encode())
            }
            uapi::GIVE_BACK => self.give_back(),
            uapi::KEEP => {
                self.keep();
                Ok(())
            }
            uapi::GET_GIVEN_BACK => UserSlice::new(argument, GivenBack::SIZE)
                .writer()
                .write_slice(&self.given_back().encode()),
            _ => Err(ENOTTY),
        }
    }
}

/// Reads a target. What is reserved must be zero, so that it can get a meaning later.
fn target(argument: UserPtr) -> Result<Target> {
    let mut bytes = [0; Target::SIZE];
    UserSlice::new(argument, Target::SIZE)
        .reader()
        .read_slice(&mut bytes)?;
    let target = Target::decode(&bytes);
    if target.encode() != bytes {
        return Err(EINVAL);
    }
    Ok(target)
}

/// Likewise for one with a share.
fn shared_target(argument: UserPtr) -> Result<SharedTarget> {
    let mut bytes = [0; SharedTarget::SIZE];
    UserSlice::new(argument, SharedTarget::SIZE)
        .reader()
        .read_slice(&mut bytes)?;
    let target = SharedTarget::decode(&bytes);
    if target.encode() != bytes || target.flags & !SharedTarget::IMMUTABLE != 0 {
        return Err(EINVAL);
    }
    Ok(target)
}

/// Likewise for one with a verified share.
fn verified_target(argument: UserPtr) -> Result<VerifiedTarget> {
    let mut bytes = [0; VerifiedTarget::SIZE];
    UserSlice::new(argument, VerifiedTarget::SIZE)
        .reader()
        .read_slice(&mut bytes)?;
    let target = VerifiedTarget::decode(&bytes);
    if target.encode() != bytes || target.shared.flags & !SharedTarget::IMMUTABLE != 0 {
        return Err(EINVAL);
    }
    Ok(target)
}

/// Makes the device, for `control` to answer. Register it last: see [`Registration`].
pub(crate) fn register<T: Control>(control: Arc<T>) -> impl PinInit<Registration<T>, Error> {
    Registration::new(NAME, control)
}
