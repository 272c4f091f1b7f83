// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a serial port is connected to, opened.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::stdio::{stdin, stdout};
use rustix::termios::{ControlModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use thiserror::Error;

use super::target::Target;

/// Why a connection could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// stdin or stdout cannot be used.
    #[error("cannot use this process's stdin and stdout for a serial port")]
    Tty(#[source] io::Error),
    /// A file or device.
    #[error("cannot open '{path}' for a serial port")]
    Open {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file where a device is needed.
    #[error("'{0}' is no character device; file={0} appends a serial port's output to a file")]
    NoDevice(PathBuf),
    /// A terminal device does not take its settings.
    #[error("cannot make '{path}' a plain line of bytes for a serial port")]
    Settings {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A socket.
    #[error("cannot connect a serial port to the socket '{path}'; something must listen there")]
    Connect {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What a serial port reads and writes.
pub struct Connection {
    /// As the user named it.
    pub(super) name: String,
    pub(super) input: Option<OwnedFd>,
    pub(super) output: Option<OwnedFd>,
    /// The input is this process's stdin, perhaps a terminal.
    pub(super) stdin: bool,
    /// For the quit key.
    pub(super) quit: Box<dyn FnMut() + Send>,
    pub(super) settings: Option<Settings>,
}

impl Target {
    /// Opens it.
    ///
    /// # Errors
    /// When it is not there or not what it should be.
    pub fn open(&self) -> Result<Connection, OpenError> {
        let mut connection = Connection {
            name: self.to_string(),
            input: None,
            output: None,
            stdin: false,
            quit: Box::new(|| {}),
            settings: None,
        };
        match self {
            Self::Null => {}
            Self::Tty => {
                let copy = |file: &dyn AsFd| file.as_fd().try_clone_to_owned();
                connection.input = Some(copy(&stdin()).map_err(OpenError::Tty)?);
                connection.output = Some(copy(&stdout()).map_err(OpenError::Tty)?);
                connection.stdin = true;
            }
            Self::File(path) => connection.output = Some(open_file(path)?),
            Self::Path(path) => {
                let (device, settings) = open_device(path)?;
                connection.settings = settings;
                connection.duplex(path, device)?;
            }
            Self::Socket(path) => {
                let error = |source| OpenError::Connect {
                    path: path.clone(),
                    source,
                };
                let socket = UnixStream::connect(path).map_err(error)?;
                connection.duplex(path, socket.into())?;
            }
        }
        Ok(connection)
    }
}

impl Connection {
    /// Calls `quit` when the user presses the keys for it. It is called on the
    /// thread that reads the terminal, and should only tell another.
    #[must_use]
    pub fn on_quit(mut self, quit: impl FnMut() + Send + 'static) -> Self {
        self.quit = Box::new(quit);
        self
    }

    fn duplex(&mut self, path: &Path, file: OwnedFd) -> Result<(), OpenError> {
        let output = file.try_clone().map_err(|source| OpenError::Open {
            path: path.to_owned(),
            source,
        })?;
        self.output = Some(output);
        self.input = Some(file);
        Ok(())
    }
}

/// The flag keeps a pipe that nobody reads from holding the open, and means
/// nothing to a file.
fn open_file(path: &Path) -> Result<OwnedFd, OpenError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map(Into::into)
        .map_err(|source| OpenError::Open {
            path: path.to_owned(),
            source,
        })
}

/// The flags: the device must not become our terminal, nor be waited for until
/// a modem answers.
fn open_device(path: &Path) -> Result<(OwnedFd, Option<Settings>), OpenError> {
    let error = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    let kind = std::fs::metadata(path).map_err(error)?.file_type();
    if !kind.is_char_device() {
        return Err(OpenError::NoDevice(path.to_owned()));
    }
    let device: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(path)
        .map_err(error)?
        .into();
    let settings = Settings::raw(&device).map_err(|source| OpenError::Settings {
        path: path.to_owned(),
        source,
    })?;
    Ok((device, settings))
}

/// The settings that a device had before it was made raw. Brought back when
/// this is dropped: it may be a person's other terminal.
#[derive(Debug)]
pub(super) struct Settings {
    device: OwnedFd,
    before: Termios,
}

impl Settings {
    /// Makes `device` raw, if it is one that has settings.
    fn raw(device: &OwnedFd) -> io::Result<Option<Self>> {
        if !rustix::termios::isatty(device) {
            return Ok(None);
        }
        let before = tcgetattr(device)?;
        let mut raw = before.clone();
        raw.make_raw();
        // Without these, a port whose other end shows no carrier is silent.
        raw.control_modes |= ControlModes::CLOCAL | ControlModes::CREAD;
        tcsetattr(device, OptionalActions::Now, &raw)?;
        let device = device.try_clone()?;
        Ok(Some(Self { device, before }))
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // A device that is gone needs none.
        let _ = tcsetattr(&self.device, OptionalActions::Now, &self.before);
    }
}
