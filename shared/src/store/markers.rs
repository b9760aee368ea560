//! Markers: messages that go through a route to show that what was sent before them has come through too.
//!
//! A trigger that was sent before a marker, and that nobody has claimed some time after that has come back, is lost. A
//! queue's depth tells nothing of that: it counts no message that a worker holds, and not which messages there are.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Result, Store};
use crate::broker::Route;
use crate::crash::{self, Commit};
use crate::trigger::Trigger;

/// A marker that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker {
    /// Its name.
    pub id: Uuid,
    /// Where it went.
    pub route: Route,
    /// When it was noted; it went out after that.
    pub sent_at: Timestamp,
    /// When a worker received it.
    pub back_at: Option<Timestamp>,
}

impl Store {
    /// Notes a marker, to be published after this returns.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn put_marker(&self, route: &Route) -> Result<Trigger> {
        let mut tx = self.begin().await?;
        let trigger = Trigger::marker(tx.now());
        tx.put_marker(trigger.id.0, route).await?;
        crash::around(Commit::PutMarker, tx.commit()).await?;
        Ok(trigger)
    }

    /// Notes that a marker has come back.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn marker_back(&self, marker: &Trigger) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.marker_back(marker.id.0).await?;
        crash::around(Commit::MarkerBack, tx.commit()).await
    }

    /// All markers that are remembered, the oldest first.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn markers(&self) -> Result<Vec<Marker>> {
        self.db.markers().await
    }

    /// Forgets markers that were sent before this instant.
    ///
    /// # Errors
    /// [`super::StoreError::Query`].
    pub async fn purge_markers(&self, sent_before: Timestamp) -> Result<()> {
        let mut tx = self.begin().await?;
        tx.purge_markers(sent_before).await?;
        crash::around(Commit::PurgeMarkers, tx.commit()).await
    }
}
