//! One trigger with many inputs: a run for each, and one that ends with them.

use reveille_shared::fan_out::{FailPolicy, MAX_BYTES, MAX_CHILDREN};
use reveille_shared::store::{Acceptance, IdempotencyKey, NewFanOut, NewWorkRequest, Staging};
use reveille_shared::work_request::{MAX_INPUT, WorkRequestId};
use serde_json::Value;

use crate::api::ApiState;
use crate::api::body::{BodyFields, holds_nul, kind};
use crate::api::error::Problem;
use crate::api::idempotency;

/// The largest body of a trigger, in bytes: all inputs, and room for what stands between them.
pub(super) const MOST_BYTES: usize = MAX_BYTES + 1024 * 1024;
/// Wrong inputs that are told one by one.
const MOST_FAULTS: usize = 20;

/// An input, and how many bytes of JSON it has.
pub(super) type Sized = (Value, usize);

/// Takes the inputs of children, each an object.
pub(super) fn inputs(body: &mut BodyFields) -> Option<Vec<Sized>> {
    let items = match body.take("inputs")? {
        Value::Null => return None,
        Value::Array(items) => items,
        other => {
            body.fault("inputs", format!("must be a list of objects, not {}", kind(&other)));
            return None;
        }
    };
    let most = MAX_CHILDREN as usize;
    if !(1..=most).contains(&items.len()) {
        body.fault("inputs", format!("must have 1 to {most} items, not {}", items.len()));
        return None;
    }
    let mut taken = Vec::with_capacity(items.len());
    let (mut faults, mut bytes) = (0, 0);
    for (at, input) in items.into_iter().enumerate() {
        let size = input.to_string().len();
        bytes += size;
        let fault = if !input.is_object() {
            format!("must be an object, not {}", kind(&input))
        } else if size > MAX_INPUT {
            format!("its JSON text has {size} bytes, the limit is {MAX_INPUT}")
        } else if holds_nul(&input) {
            "must not hold the character U+0000".to_owned()
        } else {
            taken.push((input, size));
            continue;
        };
        faults += 1;
        if faults <= MOST_FAULTS {
            body.fault(&format!("inputs[{at}]"), fault);
        }
    }
    if faults > MOST_FAULTS {
        body.fault("inputs", format!("{faults} of them are wrong"));
    }
    if bytes > MAX_BYTES {
        body.fault("inputs", format!("their JSON texts have {bytes} bytes, the limit is {MAX_BYTES}"));
    }
    Some(taken)
}

/// Takes what failed children mean.
pub(super) fn fail(body: &mut BodyFields) -> Option<FailPolicy> {
    let value = body.take("fail").filter(|value| !value.is_null())?;
    FailPolicy::from_json(&value).map_err(|error| body.fault("fail", error)).ok()
}

/// Accepts a run whose children's inputs are staged.
pub(crate) async fn accept(
    state: &ApiState,
    request: NewWorkRequest,
    mut staging: Staging,
    (job, job_version, policy): (String, i64, FailPolicy),
    key: Option<&IdempotencyKey>,
) -> Result<WorkRequestId, Problem> {
    staging.finish().await?;
    let (total, _) = staging.given();
    let batch = request.id.0;
    let fan_out = NewFanOut { job, job_version, policy, batch, total };
    let acceptance = state.store.accept_fan_out(request, &fan_out, key).await?;
    if let Acceptance::New(id) = acceptance {
        return Ok(id);
    }
    state.store.discard_inputs(batch).await?;
    match acceptance {
        Acceptance::New(id) | Acceptance::Repeated(id) | Acceptance::Same(id) => Ok(id),
        Acceptance::KeyReused(fields) => Err(idempotency::reused(fields)),
    }
}
