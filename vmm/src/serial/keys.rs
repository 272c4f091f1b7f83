// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The keys of a terminal that are for the VMM and not for the guest.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What [`Action::Help`] shows.
pub(super) const HELP: &str =
    "\r\nCtrl-A x: quit, Ctrl-A Ctrl-A: send Ctrl-A, Ctrl-A h: this help\r\n";

/// What is known of the keys before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Keys {
    /// The next key is for the guest.
    #[default]
    Guest,
    /// The key before was Ctrl-A.
    Escaped,
}

/// What to do with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Wait for the next.
    Nothing,
    /// It is the guest's.
    Pass,
    /// It and the Ctrl-A before are the guest's: a command line is edited with
    /// it, for example.
    PassBoth,
    /// End the machine.
    Quit,
    /// Show [`HELP`].
    Help,
}

impl Keys {
    /// What `key` does, and what to know for the next.
    pub(super) fn press(self, key: u8) -> (Self, Action) {
        match (self, key) {
            (Self::Guest, ESCAPE) => (Self::Escaped, Action::Nothing),
            (Self::Guest, _) | (Self::Escaped, ESCAPE) => (Self::Guest, Action::Pass),
            (Self::Escaped, b'x') => (Self::Guest, Action::Quit),
            (Self::Escaped, b'h') => (Self::Guest, Action::Help),
            (Self::Escaped, _) => (Self::Guest, Action::PassBoth),
        }
    }

    /// What `typed` does: bytes for the guest, and the other actions. Ends at
    /// the first [`Action::Quit`].
    pub(super) fn read(&mut self, typed: &[u8]) -> (Vec<u8>, Vec<Action>) {
        let (mut guest, mut actions) = (Vec::with_capacity(typed.len()), Vec::new());
        for key in typed {
            let (next, action) = self.press(*key);
            *self = next;
            match action {
                Action::Nothing => {}
                Action::Pass => guest.push(*key),
                Action::PassBoth => guest.extend([ESCAPE, *key]),
                Action::Quit | Action::Help => actions.push(action),
            }
            if action == Action::Quit {
                break;
            }
        }
        (guest, actions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(typed: &[u8]) -> (Vec<u8>, Vec<Action>) {
        Keys::default().read(typed)
    }

    #[test]
    fn all_but_the_escape_key_is_the_guests() {
        let keys: Vec<u8> = (0..=255).filter(|key| *key != 0x01).collect();
        assert_eq!(read(&keys), (keys, Vec::new()));
    }

    #[test]
    fn the_escape_key_twice_is_sent_once() {
        assert_eq!(read(b"a\x01\x01b"), (b"a\x01b".to_vec(), Vec::new()));
        // The second belongs to the first: what follows is no command.
        assert_eq!(read(b"\x01\x01x"), (b"\x01x".to_vec(), Vec::new()));
    }

    #[test]
    fn commands_are_not_sent() {
        assert_eq!(read(b"a\x01hb"), (b"ab".to_vec(), vec![Action::Help]));
        assert_eq!(read(b"a\x01xb"), (b"a".to_vec(), vec![Action::Quit]));
    }

    #[test]
    fn the_escape_key_before_another_is_sent_with_it() {
        assert_eq!(read(b"\x01e\x01X"), (b"\x01e\x01X".to_vec(), Vec::new()));
    }

    #[test]
    fn a_command_may_come_in_two_parts() {
        let mut keys = Keys::default();
        assert_eq!(keys.read(b"a\x01"), (b"a".to_vec(), Vec::new()));
        assert_eq!(keys.read(b"x"), (Vec::new(), vec![Action::Quit]));
    }
}
