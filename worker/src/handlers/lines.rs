//! A pipe → lines, as they come, however long or odd they are.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::report::MAX_LINE;

/// Reads lines. What is longer than [`MAX_LINE`] is cut; what is no UTF-8 is replaced.
#[derive(Debug)]
pub(super) struct Lines<R> {
    pipe: R,
    chunk: Vec<u8>,
    line: Vec<u8>,
    is_open: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(pipe: R) -> Self {
        Self { pipe, chunk: Vec::with_capacity(16 * 1024), line: Vec::new(), is_open: true }
    }

    /// Whether there may be more.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Reads once and returns the lines that are complete now; at the end also one without a line end. Cancel safe.
    pub(super) async fn more(&mut self) -> io::Result<Vec<String>> {
        self.chunk.clear();
        let read = self.pipe.read_buf(&mut self.chunk).await.inspect_err(|_| self.is_open = false)?;
        let mut lines = Vec::new();
        let mut pieces = self.chunk.split(|byte| *byte == b'\n');
        // The last piece has no line end behind it.
        let last = pieces.next_back().unwrap_or_default();
        for piece in pieces {
            keep(&mut self.line, piece);
            lines.push(finish(&mut self.line));
        }
        keep(&mut self.line, last);
        if read == 0 {
            self.is_open = false;
            if !self.line.is_empty() {
                lines.push(finish(&mut self.line));
            }
        }
        Ok(lines)
    }
}

/// Appends as much as a line may hold, and one byte more so that a character is not cut in two.
fn keep(line: &mut Vec<u8>, piece: &[u8]) {
    let room = (MAX_LINE + 4).saturating_sub(line.len());
    line.extend_from_slice(&piece[..piece.len().min(room)]);
}

fn finish(line: &mut Vec<u8>) -> String {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
    line.clear();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Vec<String> {
        let mut lines = Lines::new(bytes);
        let mut all = Vec::new();
        while lines.is_open() {
            all.extend(lines.more().await.unwrap());
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
}
