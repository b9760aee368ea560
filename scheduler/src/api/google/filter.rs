//! Filters of lists of operations: `done=false AND job=invoice-run`.

use std::str::FromStr;

use reveille_shared::state::Status;
use reveille_shared::store::ListFilter;

use crate::api::extract::is_name;

/// What every operation of a list must be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    job: Option<String>,
    schedule: Option<String>,
    /// In one of these states, if that matters.
    status: Option<Vec<Status>>,
}

impl Filter {
    /// The same for the store.
    pub(crate) fn of(self, namespace: String) -> ListFilter {
        let Self { job, schedule, status } = self;
        ListFilter { namespace, job, schedule, status: status.unwrap_or_default(), ..ListFilter::default() }
    }

    fn only(&mut self, is_wanted: impl Fn(Status) -> bool) -> Result<(), String> {
        let mut status = self.status.take().unwrap_or_else(|| Status::ALL.to_vec());
        status.retain(|status| is_wanted(*status));
        if status.is_empty() {
            return Err("nothing can be both: done and status contradict each other".to_owned());
        }
        self.status = Some(status);
        Ok(())
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for term in text.split(" AND ").map(str::trim).filter(|term| !term.is_empty()) {
            let (field, value) = term.split_once('=').ok_or("not a list of field=value with AND between them")?;
            let value = value.trim().trim_matches('"');
            match field.trim() {
                "done" => {
                    let done: bool = value.parse().map_err(|_| "wrong: done must be true or false")?;
                    filter.only(|status| status.is_terminal() == done)?;
                }
                "status" => {
                    let wanted: Status = value.parse().map_err(|_| "wrong: status must be one of the six")?;
                    filter.only(|status| status == wanted)?;
                }
                "job" if is_name(value) => filter.job = Some(value.to_owned()),
                "schedule" if is_name(value) => filter.schedule = Some(value.to_owned()),
                "job" | "schedule" => return Err(format!("wrong: {value:?} can't be a name")),
                other => return Err(format!("wrong: {other:?} is none of done, status, job and schedule")),
            }
        }
        Ok(filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_combine() {
        let filter: Filter = "done=true AND job = \"invoice-run\" AND schedule=nightly".parse().unwrap();
        assert_eq!((filter.job.as_deref(), filter.schedule.as_deref()), (Some("invoice-run"), Some("nightly")));
        assert_eq!(filter.status, Some(vec![Status::Succeeded, Status::Failed, Status::Canceled]));
        assert_eq!("done=true AND status=FAILED".parse::<Filter>().unwrap().status, Some(vec![Status::Failed]));
        assert_eq!("".parse::<Filter>(), Ok(Filter::default()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in ["done", "done=maybe", "status=DONE", "job=A b", "name=x", "done=false AND status=FAILED"] {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong}");
        }
    }
}
