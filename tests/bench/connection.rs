//! A connection that speaks HTTP/1.1 and nothing else: who measures must not take what is measured.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Kept alive, one request after the other.
pub(crate) struct Connection {
    stream: TcpStream,
    /// What has come, and was not looked at yet.
    text: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, text: Vec::with_capacity(2048) })
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(request).await?)
    }

    /// Sends a request, and reads its answer to the end. Answers the status.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<u16> {
        self.send(request).await?;
        let head = self.until(b"\r\n\r\n").await?;
        let head = std::str::from_utf8(&head)?;
        let status = head.get(9..12).context("no status")?.parse()?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
        let length: usize = length.parse()?;
        while self.text.len() < length {
            self.more().await?;
        }
        self.text.drain(..length);
        Ok(status)
    }

    /// Reads up to `end` and with it.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Result<Vec<u8>> {
        loop {
            if let Some(at) = self.text.windows(end.len()).position(|part| part == end) {
                let rest = self.text.split_off(at + end.len());
                return Ok(std::mem::replace(&mut self.text, rest));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.text).await?;
        ensure!(read > 0, "the connection has ended");
        Ok(())
    }
}

/// `GET`, or `POST` with a JSON body.
pub(crate) fn request(address: SocketAddr, line: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len())
    };
    format!("{line} HTTP/1.1\r\nhost: {address}\r\nx-api-key: {}\r\n{headers}{length}\r\n{body}", harness::key::text())
        .into_bytes()
}
