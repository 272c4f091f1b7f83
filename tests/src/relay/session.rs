// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! What a front end has told its back end, to be told to the next one.

use super::message::GET_FEATURES;
use super::message::GET_PROTOCOL_FEATURES;
use super::message::Message;
use super::message::SET_FEATURES;
use super::message::SET_MEM_TABLE;
use super::message::SET_OWNER;
use super::message::SET_PROTOCOL_FEATURES;
use super::message::SET_VRING_ADDR;
use super::message::SET_VRING_BASE;
use super::message::SET_VRING_CALL;
use super::message::SET_VRING_ENABLE;
use super::message::SET_VRING_KICK;
use super::message::SET_VRING_NUM;
use anyhow::Context;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

/// Where the index is in an available or a used ring.
const INDEX: u64 = 2;

/// A ring's messages, by their code.
type Ring = BTreeMap<u32, Message>;

/// See the module.
#[derive(Default)]
pub(super) struct Session {
    /// Those that are not about a ring.
    general: BTreeMap<u32, Message>,
    rings: BTreeMap<u32, Ring>,
}

impl Session {
    /// Keeps what a message has set.
    pub(super) fn keep(&mut self, message: Message) {
        match message.code {
            SET_FEATURES | SET_PROTOCOL_FEATURES | SET_MEM_TABLE => {
                self.general.insert(message.code, message);
            }
            SET_VRING_NUM | SET_VRING_ADDR | SET_VRING_ENABLE => {
                self.keep_of_ring(message.u32(0), message);
            }
            SET_VRING_KICK | SET_VRING_CALL => self.keep_of_ring(message.u32(0) & 0xff, message),
            _ => (),
        }
    }

    fn keep_of_ring(&mut self, ring: u32, message: Message) {
        let ring = self.rings.entry(ring).or_default();
        ring.insert(message.code, message);
    }

    /// The ring is not used any more.
    pub(super) fn stop(&mut self, ring: u32) {
        if let Some(ring) = self.rings.get_mut(&ring) {
            // Who is to be called was said once for all.
            ring.retain(|code, _| *code == SET_VRING_CALL);
        }
    }

    /// Tells a new back end all of it. What is in a ring beyond its used index is done again; but
    /// one that is `halted` is not served.
    pub(super) fn replay(&self, to: &UnixStream, halted: Option<u32>) -> Result<()> {
        Message::request(SET_OWNER, Vec::new()).send(to)?;
        // Back ends acknowledge only what they were asked about.
        for code in [GET_FEATURES, GET_PROTOCOL_FEATURES] {
            Message::request(code, Vec::new()).send(to)?;
            Message::receive(to)?.context("the back end does not answer")?;
        }
        for code in [SET_PROTOCOL_FEATURES, SET_FEATURES, SET_MEM_TABLE] {
            self.resend(self.general.get(&code), to)?;
        }
        for (number, ring) in &self.rings {
            if !ring.contains_key(&SET_VRING_ADDR) {
                continue;
            }
            for code in [SET_VRING_NUM, SET_VRING_ADDR] {
                self.resend(ring.get(&code), to)?;
            }
            base(*number, self.used(*number)?).send(to)?;
            for code in [SET_VRING_CALL, SET_VRING_KICK] {
                self.resend(ring.get(&code), to)?;
            }
            match halted == Some(*number) {
                true => enable(*number, false).send(to)?,
                false => self.resend(ring.get(&SET_VRING_ENABLE), to)?,
            }
            let kick = ring.get(&SET_VRING_KICK);
            if let Some(kick) = kick.and_then(|kick| kick.files.first()) {
                rustix::io::write(kick, &1u64.to_ne_bytes())?;
            }
        }
        Ok(())
    }

    fn resend(&self, message: Option<&Message>, to: &UnixStream) -> Result<()> {
        let Some(message) = message else {
            return Ok(());
        };
        let mut copy = Message::request(message.code, message.body.clone());
        for file in &message.files {
            copy.files.push(file.try_clone()?);
        }
        copy.send(to)
    }

    /// The ring's available index.
    pub(super) fn available(&self, ring: u32) -> Result<u16> {
        self.index(ring, 24)
    }

    /// The ring's used index.
    pub(super) fn used(&self, ring: u32) -> Result<u16> {
        self.index(ring, 16)
    }

    /// The index in the part of a ring whose address is at `at` of SET_VRING_ADDR.
    fn index(&self, ring: u32, at: usize) -> Result<u16> {
        let addresses = self.rings.get(&ring).and_then(|r| r.get(&SET_VRING_ADDR));
        let address = addresses.context("a ring without addresses")?.u64(at) + INDEX;
        let memory = self.general.get(&SET_MEM_TABLE).context("no memory")?;
        for (number, file) in memory.files.iter().enumerate() {
            let region = 8 + number * 32;
            let [size, user, offset] = [8, 16, 24].map(|field| memory.u64(region + field));
            if let Some(inside) = address.checked_sub(user).filter(|inside| *inside < size) {
                let mut index = [0; 2];
                File::from(file.try_clone()?).read_exact_at(&mut index, offset + inside)?;
                return Ok(u16::from_le_bytes(index));
            }
        }
        anyhow::bail!("ring {ring} is not in memory")
    }
}

/// Has a ring served, or not.
pub(super) fn enable(ring: u32, is_served: bool) -> Message {
    let mut body = ring.to_le_bytes().to_vec();
    body.extend(u32::from(is_served).to_le_bytes());
    Message::request(SET_VRING_ENABLE, body)
}

/// Has a ring begin at `index`.
pub(super) fn base(ring: u32, index: u16) -> Message {
    let mut body = ring.to_le_bytes().to_vec();
    body.extend(u32::from(index).to_le_bytes());
    Message::request(SET_VRING_BASE, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 0x1000;

    fn words(first: [u32; 2], rest: &[u64]) -> Vec<u8> {
        let first = first.iter().flat_map(|word| word.to_le_bytes());
        let rest = rest.iter().flat_map(|word| word.to_le_bytes());
        first.chain(rest).collect()
    }

    /// Of a front end with three rings.
    fn session() -> Session {
        let memory = tempfile::tempfile().unwrap();
        memory.set_len(BYTES).unwrap();
        let mut table = Message::request(SET_MEM_TABLE, words([1, 0], &[0, BYTES, 0, 0]));
        table.files.push(memory.into());
        let mut session = Session::default();
        session.keep(table);
        for ring in 0..3 {
            for (code, body) in [
                (SET_VRING_NUM, words([ring, 8], &[])),
                (SET_VRING_ADDR, words([ring, 0], &[0, 0x100, 0x200, 0])),
            ] {
                session.keep(Message::request(code, body));
            }
            session.keep(enable(ring, true));
        }
        session
    }

    /// Which rings the next back end is told to serve.
    fn served(halted: Option<u32>) -> Vec<u32> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let told = std::thread::spawn(move || {
            let mut served = Vec::new();
            // Until the end of the connection.
            while let Ok(Some(message)) = Message::receive(&theirs) {
                if message.needs_answer() {
                    message.reply(vec![0; 8]).send(&theirs).unwrap();
                }
                if message.code == SET_VRING_ENABLE && message.u32(4) == 1 {
                    served.push(message.u32(0));
                }
            }
            served
        });
        session().replay(&ours, halted).unwrap();
        drop(ours);
        told.join().unwrap()
    }

    #[test]
    fn a_ring_that_is_halted_stays_so_with_the_next_back_end() {
        assert_eq!(served(None), [0, 1, 2]);
        assert_eq!(served(Some(1)), [0, 2]);
    }
}
