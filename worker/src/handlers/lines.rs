//! Bytes → lines, as they come, however long, odd or many they are.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::report::MAX_LINE;

/// As much as a pipe holds.
const CHUNK: usize = 64 * 1024;

/// Cuts chunks into lines. What is longer than [`MAX_LINE`] is cut; what is no UTF-8 is replaced.
#[derive(Debug, Default)]
pub(super) struct Lines {
    line: Vec<u8>,
}

impl Lines {
    /// Those of the lines that are complete with this chunk that are wanted.
    pub(super) fn cut(&mut self, chunk: &[u8], is_wanted: impl Fn(&[u8]) -> bool) -> Found {
        let mut found = Found::default();
        let mut pieces = chunk.split(|byte| *byte == b'\n');
        // The last piece has no line end behind it.
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            if self.line.is_empty() {
                found.add(piece, &is_wanted);
            } else {
                keep(&mut self.line, piece);
                found.add(&self.line, &is_wanted);
                self.line.clear();
            }
        }
        keep(&mut self.line, last);
        found
    }

    /// What is left, without a line end.
    pub(super) fn rest(&mut self, is_wanted: impl Fn(&[u8]) -> bool) -> Found {
        let mut found = Found::default();
        if !self.line.is_empty() {
            found.add(&std::mem::take(&mut self.line), is_wanted);
        }
        found
    }
}

/// A pipe that lines come out of.
#[derive(Debug)]
pub(super) struct Pipe<R> {
    pipe: R,
    chunk: Vec<u8>,
    lines: Lines,
    is_open: bool,
}

impl<R: AsyncRead + Unpin> Pipe<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self { pipe, chunk: Vec::with_capacity(CHUNK), lines: Lines::default(), is_open: true }
    }

    /// Whether there may be more.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Reads once, and gives those of the lines that are complete now that are wanted; at the end also one without a line
    /// end. Cancel safe.
    pub(super) async fn more(&mut self, is_wanted: impl Fn(&[u8]) -> bool) -> io::Result<Found> {
        self.chunk.clear();
        let read = self.pipe.read_buf(&mut self.chunk).await.inspect_err(|_| self.is_open = false)?;
        if read == 0 {
            self.is_open = false;
            return Ok(self.lines.rest(is_wanted));
        }
        Ok(self.lines.cut(&self.chunk, is_wanted))
    }
}

/// What a read has found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lines: Vec<String>,
    /// How many were not wanted, and how many bytes they had. Empty ones are not counted, as none is kept.
    pub(super) unwanted: (u64, u64),
}

impl Found {
    fn add(&mut self, line: &[u8], is_wanted: impl Fn(&[u8]) -> bool) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if is_wanted(line) {
            self.lines.push(String::from_utf8_lossy(&line[..line.len().min(MAX_LINE + 4)]).into_owned());
        } else if !line.is_empty() {
            self.unwanted.0 += 1;
            self.unwanted.1 += line.len() as u64;
        }
    }
}

/// Appends as much as a line may hold, and one byte more so that a character is not cut in two.
fn keep(line: &mut Vec<u8>, piece: &[u8]) {
    let room = (MAX_LINE + 4).saturating_sub(line.len());
    line.extend_from_slice(&piece[..piece.len().min(room)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Vec<String> {
        let mut lines = Pipe::new(bytes);
        let mut all = Vec::new();
        while lines.is_open() {
            all.extend(lines.more(|_| true).await.unwrap().lines);
        }
        all
    }

    #[tokio::test]
    async fn cuts_at_line_ends() {
        assert_eq!(read(b"a\r\n\nb").await, ["a", "", "b"]);
        assert_eq!(read(b"a\n").await, ["a"]);
        assert!(read(b"").await.is_empty());
        assert_eq!(read(b"\xff\xfe\n").await, ["\u{fffd}\u{fffd}"]);
    }

    #[tokio::test]
    async fn a_line_without_end_takes_no_memory() {
        let mut long = vec![b'x'; 1024 * 1024];
        long.extend_from_slice(b"\nnext");
        let lines = read(&long).await;
        assert_eq!((lines[0].len(), lines[1].as_str()), (MAX_LINE + 4, "next"));
    }

    #[tokio::test]
    async fn what_is_not_wanted_is_counted() {
        let mut lines = Pipe::new(&b"one\n\ntwo\r\n::progress 1\nthree"[..]);
        let mut found = Vec::new();
        while lines.is_open() {
            found.push(lines.more(|line| line.starts_with(b"::")).await.unwrap());
        }
        let kept: Vec<_> = found.iter().flat_map(|found| &found.lines).collect();
        assert_eq!(kept, ["::progress 1"]);
        let unwanted = found.iter().fold((0, 0), |sum, found| (sum.0 + found.unwanted.0, sum.1 + found.unwanted.1));
        assert_eq!(unwanted, (3, 11));
    }
}
