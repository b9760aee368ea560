//! What contradicts itself in a call whose operation is followed.

use super::super::build::RawPoll;
use super::super::node::Node;
use super::super::source::Remark;
use crate::duration::HumanDuration;

/// The shortest time between two questions that may be asked for.
const LEAST: HumanDuration = HumanDuration::from_millis(100);

/// Remarks on an `http` map.
pub(super) fn remarks(http: &Node) -> Vec<Remark> {
    let is_true = |node: &Node| node.text() == Some("true");
    let Some(follow) = http.get("follow") else { return Vec::new() };
    let follows = is_true(follow) || !follow.entries().is_empty();
    let mut remarks = Vec::new();
    if let Some(one_way) = http.get("one_way").filter(|node| follows && is_true(node)) {
        let remark = Remark::new(one_way.span, "a call whose answer is not read, and that is to be followed");
        remarks.push(remark.hint("remove `one_way` or `follow`"));
    }
    if let Some(condition) = ["failed", "running"].into_iter().find_map(|key| follow.get(key))
        && follow.get("succeeded").is_none()
    {
        let remark =
            Remark::new(condition.span, "a condition that says how it goes on, and none that says how it ends well");
        remarks.push(remark.hint("write `succeeded` as well: conditions take the place of the conventions"));
    }
    if let (Some(_), Some(cancel)) = (http.get("cancel"), follow.get("cancel")) {
        let remark = Remark::new(cancel.span, "a second way to cancel");
        remarks.push(remark.hint("remove it, or `cancel` of `http`"));
    }
    remarks.extend(follow.get("poll").and_then(poll_remark));
    remarks
}

fn poll_remark(poll: &Node) -> Option<Remark> {
    let read = |key| poll.get(key)?.text()?.parse::<HumanDuration>().ok();
    let written = RawPoll { min: read("min"), max: read("max") };
    let (least, most) = written.bounds();
    let at = poll.get("min").or_else(|| poll.get("max"))?;
    if least < LEAST {
        let remark = Remark::new(at.span, format!("a callee that may be asked after {least}"));
        return Some(remark.hint(format!("write {LEAST} or more")));
    }
    (least > most).then(|| {
        let message = format!("the shortest time between two questions is {least}, the longest {most}");
        Remark::new(at.span, message).hint("raise `max` or lower `min`")
    })
}
