// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! A terminal that the program runs on.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};
use tempfile::TempDir;

use crate::vmm::Vmm;

/// A person's side of a terminal.
pub(crate) struct Terminal {
    person: File,
    /// The settings before any program.
    before: Termios,
}

impl Terminal {
    /// Starts `program` on a new terminal, stderr included.
    pub(crate) fn start(mut program: Command, dir: TempDir) -> (Self, Vmm) {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let path = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
        let line: OwnedFd = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(path)
            .unwrap()
            .into();
        let before = tcgetattr(&line).unwrap();
        program
            .stdin(line.try_clone().unwrap())
            .stdout(line.try_clone().unwrap())
            .stderr(line);
        let child = program.spawn().unwrap();
        // With it goes our end of the line: a terminal ends with its programs.
        drop(program);
        let person = File::from(person);
        let screen = person.try_clone().unwrap();
        let vmm = Vmm::watch(child, dir, screen, std::io::empty());
        (Self { person, before }, vmm)
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &[u8]) {
        self.person.write_all(keys).unwrap();
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.person).unwrap()
    }

    /// Whether keys go to the program as they are pressed.
    pub(crate) fn is_raw(&self) -> bool {
        !self.settings().local_modes.contains(LocalModes::ICANON)
    }

    /// Checks that the settings are as they were.
    pub(crate) fn is_as_before(&self) {
        let modes = |settings: Termios| {
            let Termios {
                input_modes,
                output_modes,
                control_modes,
                local_modes,
                ..
            } = settings;
            (input_modes, output_modes, control_modes, local_modes)
        };
        assert_eq!(modes(self.settings()), modes(self.before.clone()));
    }
}
