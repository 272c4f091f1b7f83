// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Writing and reading an image, from its first byte to its last, once.

use std::io::{self, ErrorKind, Read, Write};

use tmem_store::{Client, Refused, RestoreError, SAVED_SEGMENT};

use super::About;
use crate::registry::Refusal;

/// What an image begins with.
const MAGIC: [u8; 8] = *b"tmem-vm\n";

/// The version of the layout.
const VERSION: u32 = 1;

/// Bytes before the note: magic, version, the note's length, and the checksum of these and the note.
const HEAD: usize = 20;

/// Most bytes of the note: some hundred for each queue.
const MAX_NOTE: u32 = 1 << 20;

/// What was in an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pages.
    pub pages: u64,
    /// Bytes of the image.
    pub bytes: u64,
    /// When saved, pages that the spill area does not give back and that are not in the image; when
    /// restored, ephemeral pages for which there was no room.
    pub missing: u64,
}

fn crc(parts: &[&[u8]]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    parts.iter().for_each(|part| crc.update(part));
    crc.finalize()
}

/// Writes the image of a client that nobody changes meanwhile, but for its end, which is given: it is to
/// be written once it is sure that nobody has.
///
/// # Errors
/// What the stream says.
pub fn write(
    to: &mut impl Write,
    about: &About,
    client: &Client,
) -> io::Result<(Totals, [u8; 24])> {
    let note = serde_json::to_vec(about)?;
    let length = u32::try_from(note.len()).ok().filter(|it| *it <= MAX_NOTE);
    let length = length.ok_or_else(|| io::Error::other("the note is too long"))?;
    let mut head = Vec::with_capacity(HEAD + note.len());
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&crc(&[&head, &note]).to_le_bytes());
    head.extend_from_slice(&note);
    to.write_all(&head)?;
    let mut totals = Totals {
        bytes: head.len() as u64,
        ..Totals::default()
    };
    let mut count = 0_u64;
    let mut save = client.save();
    for segment in save.by_ref() {
        count += 1;
        let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
        let check = crc(&[&count.to_le_bytes(), &segment]);
        to.write_all(&length.to_le_bytes())?;
        to.write_all(&check.to_le_bytes())?;
        to.write_all(&segment)?;
        totals.bytes += 8 + u64::from(length);
    }
    totals.pages = save.pages();
    totals.missing = save.lost();
    let mut end = [0; END];
    let (count, pages) = (count.to_le_bytes(), totals.pages.to_le_bytes());
    let check = crc(&[&count, &pages]).to_le_bytes();
    let parts = [0; 4].iter().chain(&check).chain(&count).chain(&pages);
    end.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
    totals.bytes += END as u64;
    Ok((totals, end))
}

/// Bytes of the end.
const END: usize = 24;

/// An image that is being read.
#[derive(Debug)]
pub struct Image<R> {
    from: R,
    about: About,
    /// Bytes that were read of it.
    bytes: u64,
}

/// Why bytes are not read.
fn unread(error: &io::Error) -> Refusal {
    Refusal::Invalid(match error.kind() {
        ErrorKind::UnexpectedEof => {
            "the image ends too early: it was not saved or sent to its end".into()
        }
        _ => format!("the image cannot be read: {error}"),
    })
}

fn damaged(what: &str) -> Refusal {
    Refusal::Invalid(format!("the image is damaged: {what}"))
}

fn array<const N: usize>(from: &mut impl Read) -> Result<[u8; N], Refusal> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes)
        .map_err(|error| unread(&error))?;
    Ok(bytes)
}

fn word(from: &mut impl Read) -> Result<u32, Refusal> {
    Ok(u32::from_le_bytes(array(from)?))
}

impl<R: Read> Image<R> {
    /// Begins to read one.
    ///
    /// # Errors
    /// It is none, of another version, or damaged.
    pub fn open(mut from: R) -> Result<Self, Refusal> {
        let magic: [u8; 8] = array(&mut from)?;
        if magic != MAGIC {
            return Err(Refusal::Invalid(
                "this is no image that `tmemctl vm save` has written".into(),
            ));
        }
        let version = word(&mut from)?;
        let length = word(&mut from)?;
        let check = word(&mut from)?;
        if version != VERSION {
            return Err(Refusal::Invalid(format!(
                "the image has version {version}, and this program reads version {VERSION}"
            )));
        }
        if length > MAX_NOTE {
            return Err(damaged("its note is too long"));
        }
        let mut note = Vec::new();
        let read = from.by_ref().take(length.into()).read_to_end(&mut note);
        read.map_err(|error| unread(&error))?;
        let (version, length) = (version.to_le_bytes(), length.to_le_bytes());
        if crc(&[&magic, &version, &length, &note]) != check {
            return Err(damaged("its note is not as it was written"));
        }
        let about = serde_json::from_slice(&note);
        let about = about.map_err(|error| damaged(&format!("its note: {error}")))?;
        let bytes = (HEAD + note.len()) as u64;
        Ok(Self { from, about, bytes })
    }

    /// What it says beside the pages.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Has a client keep all pages, while `goes_on` says so. Their pools are to be there.
    ///
    /// # Errors
    /// The image is damaged or not whole, a page has no room, or it is not to go on. Some pages are
    /// there then, and are not to be used.
    pub fn restore(
        mut self,
        client: &Client,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Totals, Refusal> {
        let mut totals = Totals {
            bytes: self.bytes + END as u64,
            ..Totals::default()
        };
        let mut count = 0_u64;
        let mut segment = Vec::new();
        loop {
            let length = word(&mut self.from)?;
            let check = word(&mut self.from)?;
            if length == 0 {
                return self.end((check, count), totals);
            }
            if length as usize > SAVED_SEGMENT {
                return Err(damaged("a segment is too long"));
            }
            if !goes_on() {
                return Err(Refusal::Failed("the program ends".into()));
            }
            count += 1;
            segment.clear();
            let read = (&mut self.from)
                .take(length.into())
                .read_to_end(&mut segment);
            let read = read.map_err(|error| unread(&error))?;
            if read < length as usize {
                return Err(unread(&ErrorKind::UnexpectedEof.into()));
            }
            if crc(&[&count.to_le_bytes(), &segment]) != check {
                return Err(damaged(
                    "a segment is not as it was written, or not in its place",
                ));
            }
            let restored = client.restore(&segment, count);
            let restored = restored.map_err(|error| refused(client, error))?;
            totals.pages += restored.pages;
            totals.missing += restored.dropped;
            totals.bytes += 8 + u64::from(length);
        }
    }

    /// Reads the end.
    fn end(mut self, (check, count): (u32, u64), totals: Totals) -> Result<Totals, Refusal> {
        let (segments, pages) = (array(&mut self.from)?, array(&mut self.from)?);
        if crc(&[&segments, &pages]) != check {
            return Err(damaged("its end is not as it was written"));
        }
        let is_all = u64::from_le_bytes(segments) == count
            && u64::from_le_bytes(pages) == totals.pages + totals.missing;
        if !is_all {
            return Err(damaged("pages are missing"));
        }
        let mut more = [0];
        match self.from.read(&mut more) {
            Ok(0) => Ok(totals),
            Ok(_) => Err(damaged("something follows its end")),
            Err(error) => Err(unread(&error)),
        }
    }
}

/// Why the store does not keep a page.
pub(super) fn refused(client: &Client, error: RestoreError) -> Refusal {
    let name = client.stats().name;
    match error {
        RestoreError::Damaged | RestoreError::NoPool { .. } => damaged(&error.to_string()),
        RestoreError::Refused(Refused::Quota) => Refusal::Conflict(format!(
            "the image has more than the quota of {name}: raise it with `tmemctl vm set {name} --quota`"
        )),
        RestoreError::Refused(Refused::Memory) => Refusal::Conflict(
            "the store has no memory for all pages of the image: see `tmemctl freeable`".into(),
        ),
        RestoreError::Refused(Refused::Frozen) => Refusal::Conflict(format!(
            "{name} is frozen: have it take pages again with `tmemctl vm thaw {name}`"
        )),
        RestoreError::Refused(_) => {
            Refusal::Failed("a pool went while pages were put to it".into())
        }
    }
}
