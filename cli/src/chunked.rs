// SPDX-License-Identifier: Apache-2.0 OR BSD-3-Clause
//! The chunked transfer coding of HTTP/1.1 (RFC 9112, section 7.1): a body whose length is not known
//! when it begins, and trailers that say what came of it. A body that ends without its last chunk is
//! not whole.

use std::io::{self, BufRead, ErrorKind, Read, Write};

/// Most bytes of a chunk's size, or of a trailer.
const MAX_LINE: u64 = 1 << 10;

/// Most trailers.
const MAX_TRAILERS: usize = 16;

/// Sends a body: each write is a chunk.
#[derive(Debug)]
pub struct Encoder<W: Write>(W);

impl<W: Write> Encoder<W> {
    /// Sends it to `to`, which has had the head.
    pub fn new(to: W) -> Self {
        Self(to)
    }

    /// Ends the body with trailers: names and values of fields.
    ///
    /// # Errors
    /// What the other side's stream says.
    pub fn end(mut self, trailers: &[(&str, &str)]) -> io::Result<()> {
        let mut last = "0\r\n".to_owned();
        for (name, value) in trailers {
            // No line of a value may pass for another field.
            let value = value.replace(['\r', '\n'], " ");
            last.push_str(&format!("{name}: {value}\r\n"));
        }
        last.push_str("\r\n");
        self.0.write_all(last.as_bytes())?;
        self.0.flush()
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.0
                .write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
            self.0.write_all(bytes)?;
            self.0.write_all(b"\r\n")?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Reads a body until its last chunk.
#[derive(Debug)]
pub struct Decoder<R> {
    from: R,
    /// Bytes of the chunk that are left.
    left: u64,
    is_first: bool,
    is_over: bool,
    trailers: Vec<(String, String)>,
}

impl<R: BufRead> Decoder<R> {
    /// Reads one from `from`, whose head was read.
    pub fn new(from: R) -> Self {
        Self {
            from,
            left: 0,
            is_first: true,
            is_over: false,
            trailers: Vec::new(),
        }
    }

    /// The value of a trailer, once all was read.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        let mut all = self.trailers.iter();
        let found = all.find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.from).take(MAX_LINE);
        bounded.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let text = line.strip_suffix(b"\r\n").map(str::from_utf8);
        let text = text.and_then(Result::ok).map(str::to_owned);
        text.ok_or_else(|| malformed("a line of it does not end"))
    }

    /// Finds the next chunk.
    fn begin(&mut self) -> io::Result<()> {
        if !std::mem::take(&mut self.is_first) && !self.line()?.is_empty() {
            return Err(malformed("a chunk is longer than it says"));
        }
        let line = self.line()?;
        // What comes after the size is an extension, of which none is known.
        let size = line.split(';').next().unwrap_or_default().trim();
        self.left = u64::from_str_radix(size, 16)
            .map_err(|_| malformed("a chunk does not say how long it is"))?;
        if self.left > 0 {
            return Ok(());
        }
        loop {
            let line = self.line()?;
            if line.is_empty() {
                self.is_over = true;
                return Ok(());
            }
            let field = line.split_once(':');
            let (name, value) = field.ok_or_else(|| malformed("a trailer is no field"))?;
            if self.trailers.len() >= MAX_TRAILERS {
                return Err(malformed("it has too many trailers"));
            }
            let field = (name.trim().to_owned(), value.trim().to_owned());
            self.trailers.push(field);
        }
    }
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("the chunked body is malformed: {what}"),
    )
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        if self.left == 0 && !self.is_over {
            self.begin()?;
        }
        if self.is_over {
            return Ok(0);
        }
        let read = (&mut self.from).take(self.left).read(to)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> io::Result<(Vec<u8>, Option<String>)> {
        let mut decoder = Decoder::new(bytes);
        let mut all = Vec::new();
        decoder.read_to_end(&mut all)?;
        let said = decoder.trailer("said").map(str::to_owned);
        Ok((all, said))
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes);
        let body: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        for piece in body.chunks(1237) {
            encoder.write_all(piece).unwrap();
        }
        encoder.write_all(b"").unwrap();
        encoder.end(&[("Said", "a\r\nb: c")]).unwrap();
        let decoded = decode(&bytes).unwrap();
        assert_eq!(decoded, (body, Some("a  b: c".to_owned())));
        // One that was cut anywhere is not whole.
        for end in (0..200).chain(bytes.len() - 200..bytes.len()) {
            decode(&bytes[..end]).unwrap_err();
        }
    }

    /// The example of RFC 9112 has no extension; others send some.
    #[test]
    fn what_others_encode_is_decoded_and_nonsense_is_not() {
        let right = b"4;a=b\r\nWiki\r\n5\r\npedia\r\nE\r\n in\r\n\r\nchunks.\r\n0\r\n\r\n";
        let (body, said) = decode(right).unwrap();
        assert_eq!(body, b"Wikipedia in\r\n\r\nchunks.");
        assert_eq!(said, None);
        for wrong in [
            &b""[..],
            b"x\r\n",
            b"-1\r\n",
            b"4\nWiki\r\n0\r\n\r\n",
            b"4\r\nWikip\r\n0\r\n\r\n",
            b"ffffffffffffffffff\r\n",
            b"0\r\nnonsense\r\n\r\n",
        ] {
            decode(wrong).unwrap_err();
        }
        let endless = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(100)].concat();
        decode(&endless).unwrap_err();
        decode(&vec![b'1'; 1 << 20]).unwrap_err();
    }
}
