// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Terminals.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use tempfile::TempDir;

use crate::vmm::{PATIENCE, Vmm, is_readable};

/// A terminal from the side of the person, or of the device, at its end.
pub(crate) struct Line {
    end: File,
    path: String,
    /// The settings before any program.
    before: Termios,
}

impl Line {
    /// A new terminal.
    pub(crate) fn new() -> Self {
        let end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&end).unwrap();
        unlockpt(&end).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&end, size).unwrap();
        let path = ptsname(&end, Vec::new()).unwrap().into_string().unwrap();
        Self {
            before: tcgetattr(&end).unwrap(),
            end: end.into(),
            path,
        }
    }

    /// Starts `program` on a new terminal, stderr included.
    pub(crate) fn start(mut program: Command, dir: TempDir) -> (Self, Vmm) {
        let line = Self::new();
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(&line.path)
            .unwrap();
        program
            .stdin(file.try_clone().unwrap())
            .stdout(file.try_clone().unwrap())
            .stderr(file);
        let child = program.spawn().unwrap();
        // With these files: a terminal ends with the last that has it open.
        drop(program);
        let screen = line.end.try_clone().unwrap();
        let vmm = Vmm::watch(child, dir, screen, std::io::empty());
        (line, vmm)
    }

    /// Its device.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Types.
    pub(crate) fn press(&mut self, keys: &[u8]) {
        self.end.write_all(keys).unwrap();
    }

    /// Reads what a program writes, if nobody else does.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) {
        for byte in bytes.chunks_mut(1) {
            assert!(is_readable(&self.end, PATIENCE), "nothing comes");
            self.end.read_exact(byte).unwrap();
        }
    }

    fn settings(&self) -> Termios {
        tcgetattr(&self.end).unwrap()
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
