//! Plans of definitions as JSON. Names are written with their namespace, as files may hold several: `billing/nightly`.

use reveille_shared::due::{ClockChange, ClockEffect};
use reveille_shared::store::ScheduleKey;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::hide;
use crate::api::history::MemberView;
use crate::api::time::Instant;
use crate::definition_plan::{Collision, Current, Differences, FireTimes, Merged, Outlook, Overrun};

/// What files of definitions would change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DefinitionPlan)]
pub(crate) struct View {
    /// Counts the sets of definitions that were put in force; null if none ever was. Send it as `ifVersion` to apply
    /// exactly this plan.
    #[schema(required = true)]
    in_force_version: Option<i64>,
    /// Whether anything would change.
    changes: bool,
    /// Jobs that would come, change or go.
    jobs: DifferencesView,
    /// Schedules that would come, change or go.
    schedules: DifferencesView,
    /// Of each such schedule, its next 100 fires before and after.
    fire_times: Vec<FireTimesView>,
    /// The fullest seconds of the next 24 hours: ten and more schedules at one second, the ten fullest.
    collisions: Vec<CollisionView>,
    /// What changes of clocks do within the next year to schedules that are new or changed.
    clock_changes: Vec<ClockChangeView>,
    /// Schedules of the files that are due again before a run of their job has usually ended: a warning, no fault.
    overruns: Vec<OverrunView>,
    /// In force, of the files' namespaces, in no file, and kept as `prune` was not asked for.
    not_in_files: NotInFilesView,
    /// There was too much to look at it all: `fireTimes`, `collisions`, `clockChanges` and `overruns` do not tell
    /// everything.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    cut: bool,
}

/// Definitions that would come, change or go.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DefinitionDifferences)]
struct DifferencesView {
    /// Not in force yet.
    #[schema(examples(json!(["billing/nightly"])))]
    added: Vec<String>,
    /// Other than what is in force.
    changed: Vec<ChangedView>,
    /// Out of force then.
    removed: Vec<String>,
}

/// A definition that would change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChangedDefinition)]
struct ChangedView {
    /// Its name.
    name: String,
    /// The tenant.
    namespace: String,
    /// What would be another value.
    changes: Vec<MemberView>,
}

/// How the next fires of a schedule would change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FireTimes)]
struct FireTimesView {
    /// The tenant.
    namespace: String,
    /// The schedule.
    schedule: String,
    /// How many fires there are as things stand.
    before: usize,
    /// How many there would be.
    after: usize,
    /// How many are at the same instants.
    same: usize,
    /// The first instant at which only one of the two fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_difference: Option<Instant>,
    /// Instants at which it would not fire any more; the first few.
    #[schema(max_items = 5)]
    removed: Vec<Instant>,
    /// Instants at which it would fire then; the first few.
    #[schema(max_items = 5)]
    added: Vec<Instant>,
    /// What else there is to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

/// A second at which many schedules are due.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Collision)]
struct CollisionView {
    /// The second.
    at: Instant,
    /// How many schedules are due in it.
    #[schema(minimum = 10)]
    count: usize,
    /// Some of them.
    #[schema(max_items = 5)]
    schedules: Vec<String>,
}

/// What a change of clocks does to a schedule.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ClockChange)]
struct ClockChangeView {
    /// The tenant.
    namespace: String,
    /// The schedule.
    schedule: String,
    /// When the clock changes.
    at: Instant,
    /// What becomes of the local times that it skips or repeats: `moved`, `dropped`, `repeated`, `once`, or `many` if there
    /// are many of them.
    effect: &'static str,
    /// The same in words.
    explanation: String,
}

/// A schedule that comes round sooner than its job usually takes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Overrun)]
struct OverrunView {
    /// The tenant.
    namespace: String,
    /// The schedule.
    schedule: String,
    /// Its job that takes longest.
    job: String,
    /// From one of its next fires to the one after, at their closest.
    interval_seconds: f64,
    /// How long the job's last runs took, on average.
    usual_seconds: f64,
    /// Both in words, and what `overlap` does about it.
    explanation: String,
}

/// What stays in force though no file has it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NotInFiles)]
struct NotInFilesView {
    /// Jobs.
    jobs: Vec<String>,
    /// Schedules.
    schedules: Vec<String>,
}

impl View {
    /// What callers see of a plan.
    pub(crate) fn new(current: &Current, merged: Merged, outlook: Outlook, overruns: Vec<Overrun>) -> Self {
        Self {
            in_force_version: current.in_force.as_ref().map(|in_force| in_force.version),
            changes: merged.is_change(current),
            jobs: merged.jobs.into(),
            schedules: merged.schedules.into(),
            fire_times: outlook.fire_times.into_iter().map(FireTimesView::from).collect(),
            collisions: outlook.collisions.into_iter().map(CollisionView::from).collect(),
            clock_changes: outlook.clock_changes.into_iter().map(ClockChangeView::from).collect(),
            overruns: overruns.into_iter().map(OverrunView::from).collect(),
            not_in_files: NotInFilesView { jobs: names(&merged.kept_jobs), schedules: names(&merged.kept_schedules) },
            cut: outlook.cut,
        }
    }
}

fn names(keys: &[ScheduleKey]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}

impl From<Differences> for DifferencesView {
    fn from(differences: Differences) -> Self {
        let changed = differences.changed.into_iter().map(|(key, mut changes)| {
            hide::secrets(&mut changes);
            let changes = changes.into_iter().map(MemberView::from).collect();
            ChangedView { name: key.name, namespace: key.namespace, changes }
        });
        Self { added: names(&differences.added), changed: changed.collect(), removed: names(&differences.removed) }
    }
}

impl From<FireTimes> for FireTimesView {
    fn from(times: FireTimes) -> Self {
        let instants = |times: Vec<jiff::Timestamp>| times.into_iter().map(Instant).collect();
        Self {
            namespace: times.key.namespace,
            schedule: times.key.name,
            before: times.before,
            after: times.after,
            same: times.same,
            first_difference: times.first_difference.map(Instant),
            removed: instants(times.removed),
            added: instants(times.added),
            note: times.note,
        }
    }
}

impl From<Collision> for CollisionView {
    fn from(collision: Collision) -> Self {
        Self { at: collision.at.into(), count: collision.count, schedules: names(&collision.schedules) }
    }
}

impl From<Overrun> for OverrunView {
    fn from(Overrun { key, job, closest, usual, words }: Overrun) -> Self {
        Self {
            namespace: key.namespace,
            schedule: key.name,
            job,
            interval_seconds: closest.as_secs_f64(),
            usual_seconds: usual.as_secs_f64(),
            explanation: words,
        }
    }
}

impl From<(ScheduleKey, ClockChange)> for ClockChangeView {
    fn from((key, change): (ScheduleKey, ClockChange)) -> Self {
        let effect = match change.effects.first() {
            Some(ClockEffect::Moved { .. }) => "moved",
            Some(ClockEffect::Dropped { .. }) => "dropped",
            Some(ClockEffect::Repeated { .. }) => "repeated",
            Some(ClockEffect::Once { .. }) => "once",
            Some(ClockEffect::Many { .. }) | None => "many",
        };
        Self { namespace: key.namespace, schedule: key.name, at: change.at.into(), effect, explanation: change.words }
    }
}
