// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! Files that must be unpacked before they are of use, known by their first bytes.

/// How a file was packed.
#[derive(Debug, PartialEq, Eq)]
pub struct Compression {
    /// What people call it.
    pub name: &'static str,
    /// The command that unpacks a file.
    pub unpack: &'static str,
    magic: &'static [u8],
}

/// Those that kernels and images come in. Where the format's own specification has
/// fewer bytes than these, what always follows them is here as well.
const KNOWN: [Compression; 11] = [
    packed("gzip", "gzip -dk", b"\x1f\x8b\x08"),
    packed("xz", "xz -dk", b"\xfd7zXZ\0"),
    packed("zstd", "zstd -d", b"\x28\xb5\x2f\xfd"),
    packed("bzip2", "bzip2 -dk", b"BZh"),
    packed("LZ4", "lz4 -d", b"\x04\x22\x4d\x18"),
    // As for kernels.
    packed("LZ4", "lz4 -d", b"\x02\x21\x4c\x18"),
    packed("LZMA", "xz -dk --format=lzma", b"\x5d\0\0"),
    packed("LZO", "lzop -d", b"\x89LZO\0\r\n\x1a\n"),
    packed("lzip", "lzip -dk", b"LZIP\x01"),
    packed("ZIP", "unzip", b"PK\x03\x04"),
    packed("7-Zip", "7z x", b"7z\xbc\xaf\x27\x1c"),
];

const fn packed(name: &'static str, unpack: &'static str, magic: &'static [u8]) -> Compression {
    Compression {
        name,
        unpack,
        magic,
    }
}

/// How a file that begins with `head` (16 bytes suffice) was packed, if it was.
pub fn of(head: &[u8]) -> Option<&'static Compression> {
    KNOWN
        .iter()
        .find(|one| head.starts_with(one.magic) && is_likely(one.magic, head))
}

/// Looks at more of the formats with the weakest magic numbers.
fn is_likely(magic: &[u8], head: &[u8]) -> bool {
    match magic {
        // The level, and the begin of the first block.
        b"BZh" => head.get(3).is_some_and(u8::is_ascii_digit) && head.get(4..10) == Some(b"1AY&SY"),
        // The size of the content, unknown.
        b"\x5d\0\0" => head.get(5..13) == Some(&[0xff; 8]),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_files_are_known_by_their_first_bytes() {
        for (head, name) in [
            (&b"\x1f\x8b\x08\0"[..], "gzip"),
            (b"BZh91AY&SY", "bzip2"),
            (b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0", "LZMA"),
            (b"\x28\xb5\x2f\xfd\x04", "zstd"),
        ] {
            assert_eq!(of(head).map(|one| one.name), Some(name));
        }
        for head in [
            &b""[..],
            b"\x1f\x8b",
            b"BZhx",
            b"BZh9xxxxxx",
            b"\x5d\0\0\0\0\0\0\0\0\0\0\0\0",
            b"\x7fELF",
        ] {
            assert_eq!(of(head), None, "{head:?}");
        }
    }
}
