//! Jobs: named definitions of business logic.

pub(crate) mod fan_out;
pub(crate) mod get;
pub(crate) mod history;
pub(crate) mod list;
pub(crate) mod trigger;
pub(crate) mod view;

use reveille_shared::definition::Job;
use reveille_shared::store::Versioned;

use super::ApiState;
use super::access::Tenant;
use super::error::Problem;
use super::extract::is_name;

/// The job in force that a path names, if the caller may see it.
pub(crate) async fn find(state: &ApiState, tenant: &Tenant, name: &str) -> Result<Versioned<Job>, Problem> {
    let may_be = is_name(name) && tenant.jobs.has(name);
    let known = if may_be { state.store.job(&tenant.namespace, name).await? } else { None };
    known.ok_or_else(|| Problem::not_found("job", name))
}
