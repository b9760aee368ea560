//! What is known of a run, in the words of others' clients: one file each, and none of them knows the store.
//!
//! - [`oci`]: Oracle's work requests, served by [`super::oci`].
//! - [`azure`]: Microsoft's status monitors, which the native view is as well.
//! - [`google`]: `google.longrunning.Operations`, served by [`super::google`].

pub(crate) mod azure;
pub(crate) mod google;
pub(crate) mod oci;
