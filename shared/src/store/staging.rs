//! Inputs of children to be, on their way into the store: in chunks that become children together, and short transactions.

use serde_json::Value;
use uuid::Uuid;

use super::texts::json_without_nul;
use super::{Result, Store};
use crate::crash::{self, Commit};

/// Beyond so many bytes of JSON a chunk takes no further input.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that are kept in one transaction.
const TOGETHER: usize = 20;
/// Beyond so many bytes of JSON no further chunk is kept in the same transaction.
const TOGETHER_BYTES: usize = 1024 * 1024;

/// The inputs of one batch, kept as they come. They are forgotten unless a run with this batch is accepted soon.
#[derive(Debug)]
pub struct Staging {
    store: Store,
    batch: Uuid,
    /// The number of the first chunk of those that are complete.
    first: i32,
    complete: Vec<Vec<Value>>,
    complete_bytes: usize,
    chunk: Vec<Value>,
    chunk_bytes: usize,
    total: u32,
    bytes: usize,
}

impl Staging {
    /// A batch without inputs.
    #[must_use]
    pub fn new(store: Store, batch: Uuid) -> Self {
        Self {
            store,
            batch,
            first: 0,
            complete: Vec::new(),
            complete_bytes: 0,
            chunk: Vec::new(),
            chunk_bytes: 0,
            total: 0,
            bytes: 0,
        }
    }

    /// How many inputs it has been given, and how many bytes of JSON they had.
    #[must_use]
    pub const fn given(&self) -> (u32, usize) {
        (self.total, self.bytes)
    }

    /// Takes an input, whose JSON has so many bytes. Nothing is kept yet.
    pub fn add(&mut self, input: Value, bytes: usize) {
        // Few, as the transaction that makes children of a chunk may not take long.
        let most = self.store.kind().births();
        if self.chunk.len() >= most || (!self.chunk.is_empty() && self.chunk_bytes + bytes > CHUNK_BYTES) {
            self.complete();
        }
        self.chunk.push(json_without_nul(input));
        self.chunk_bytes += bytes;
        self.total = self.total.saturating_add(1);
        self.bytes += bytes;
    }

    /// Takes an input likewise, and keeps what has come together once that is enough.
    ///
    /// # Errors
    /// As those of [`Staging::keep`].
    pub async fn put(&mut self, input: Value, bytes: usize) -> Result<()> {
        self.add(input, bytes);
        if self.is_full() { self.keep().await } else { Ok(()) }
    }

    fn complete(&mut self) {
        self.complete_bytes += std::mem::take(&mut self.chunk_bytes);
        self.complete.push(std::mem::take(&mut self.chunk));
    }

    /// Whether enough has come together for [`Staging::keep`].
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.complete.len() >= TOGETHER || self.complete_bytes >= TOGETHER_BYTES
    }

    /// Keeps the chunks that are complete.
    ///
    /// # Errors
    /// [`super::StoreError::Query`]: they are kept or not; repeating it is harmless.
    pub async fn keep(&mut self) -> Result<()> {
        if self.complete.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        for (number, inputs) in (self.first..).zip(&self.complete) {
            tx.stage_inputs(self.batch, number, inputs).await?;
        }
        crash::around(Commit::StageInputs, tx.commit()).await?;
        self.first += i32::try_from(self.complete.len()).unwrap_or(i32::MAX);
        self.complete.clear();
        self.complete_bytes = 0;
        Ok(())
    }

    /// Keeps all that is left.
    ///
    /// # Errors
    /// As those of [`Staging::keep`].
    pub async fn finish(&mut self) -> Result<()> {
        if !self.chunk.is_empty() {
            self.complete();
        }
        self.keep().await
    }
}
