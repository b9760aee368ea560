//! For each crash point: which process dies there, what is prepared, and what makes it pass there.

use reveille_shared::crash::{Act, Commit, Point};

/// How a point is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scene {
    pub(super) dies: Dies,
    pub(super) before: Before,
    pub(super) load: Load,
    /// The passage at which to die.
    pub(super) count: u32,
}

/// Who passes there, where they are processes of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dies {
    Scheduler,
    /// The same; in `reveille dev` nobody passes there.
    SchedulerOnly,
    Worker,
    /// The same; in `reveille dev` nobody passes there.
    WorkerOnly,
}

/// What is done before the process is started with its point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before {
    Nothing,
    /// The folder is changed while nobody looks.
    FolderChanges,
    /// Triggers are due when it starts.
    TriggersAreDue,
    /// Triggers are sent and not claimed when it starts, as those of a killed process are.
    TriggersAreSent,
    /// Who held leases was killed.
    HoldersDie,
    /// The same, and whether their runs took effect is to be asked.
    HoldersDieInDoubt,
    /// A run that waits for a worker has expired when it starts.
    RunsExpire,
    /// Fires are held, and nothing will let them go.
    FiresAreStranded,
    /// What happens is not told outside.
    NothingIsTold,
    /// Ends of children were not counted, and nobody will tell of them again.
    EndsAreUncounted,
    /// An operation is past its time, and it is long until it is asked after.
    OperationIsForsaken,
}

/// What is done while it runs with its point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Load {
    /// Only what starts by itself, fires each second among it.
    Fires,
    /// A worker in another language runs something, and repeats what is not answered.
    External,
    /// Runs are asked for: short ones, one that fails at first, one that calls another, one whose work goes on elsewhere, and one
    /// that frees a slot of a limit.
    Asks,
    /// Runs are asked for by callers who do not come again.
    AsksOnce,
    /// A run has more short children than may be with the broker.
    ManyChildren,
    /// More long runs are asked for than there are slots.
    LongRuns,
    /// Runs with children are asked for.
    FanOuts,
    /// The same requests come again and again.
    RepeatedFanOuts,
    Cancels,
    CancelsAll,
    FireByHand,
    PauseAndResume,
    /// Somebody listens to what happens to all runs.
    Listens,
    Backfill,
    CanceledBackfill,
    /// API keys are made, rotated and revoked, and used.
    Keys,
    /// Webhooks are made and deleted.
    Webhooks,
    /// What was delivered to a webhook is to be once more.
    Redeliveries,
    /// The folder is changed under its eyes.
    FolderChanges,
    /// The broker is out of reach.
    BrokerIsCut,
    /// The broker loses messages; `reveille dev` has none to lose, and is just busy.
    MessagesAreLost,
    /// The same, long ago.
    MessagesWereLost,
    /// Runs wait for so long that it is asked after them.
    Backlog,
    /// The broker gives messages up.
    MessagesDie,
    /// The broker gives a message up for the last time.
    LastMessageDies,
    /// It is told to stop.
    Stops,
    /// It stands still until it was taken for dead.
    Freezes,
}

pub(super) fn scene(point: Point) -> Scene {
    match point {
        Point::Before(commit) | Point::After(commit) => of_commit(commit),
        Point::At(act) => of_act(act),
    }
}

fn of_commit(commit: Commit) -> Scene {
    use Before::{
        FiresAreStranded, HoldersDie, HoldersDieInDoubt, Nothing, NothingIsTold, OperationIsForsaken, RunsExpire,
        TriggersAreDue, TriggersAreSent,
    };
    use Dies::{Scheduler, SchedulerOnly, Worker, WorkerOnly};
    let (dies, before, load) = match commit {
        Commit::Lead => (Scheduler, Nothing, Load::Fires),
        Commit::Resign => (Scheduler, Nothing, Load::Stops),
        Commit::ApplyDefinitions => (Scheduler, Before::FolderChanges, Load::Fires),
        Commit::ApplyChanges => (Scheduler, Nothing, Load::FolderChanges),
        Commit::Pause | Commit::Resume => (Scheduler, Nothing, Load::PauseAndResume),
        Commit::Record => (Scheduler, Nothing, Load::Fires),
        Commit::FireByHand => (Scheduler, Nothing, Load::FireByHand),
        Commit::CreateBackfill | Commit::AdvanceBackfill => (Scheduler, Nothing, Load::Backfill),
        Commit::CancelBackfill => (Scheduler, Nothing, Load::CanceledBackfill),
        Commit::ChangeKey => (Scheduler, Nothing, Load::Keys),
        Commit::KeysUsed => (SchedulerOnly, Nothing, Load::Keys),
        Commit::Accept => (Scheduler, Nothing, Load::Asks),
        Commit::AcceptPlain | Commit::AcceptTogether => (SchedulerOnly, Nothing, Load::AsksOnce),
        Commit::StageInputs | Commit::AcceptFanOut | Commit::Bear | Commit::Settle => {
            (Scheduler, Nothing, Load::FanOuts)
        }
        Commit::DiscardInputs => (Scheduler, Nothing, Load::RepeatedFanOuts),
        Commit::Recount => (Scheduler, Before::EndsAreUncounted, Load::Fires),
        Commit::Cancel => (Scheduler, Nothing, Load::Cancels),
        Commit::CancelAll => (Scheduler, Nothing, Load::CancelsAll),
        Commit::TakeDue => (Scheduler, TriggersAreDue, Load::Fires),
        Commit::HoldBacklog | Commit::LeaveBacklog => (SchedulerOnly, Nothing, Load::ManyChildren),
        Commit::Expire => (Scheduler, RunsExpire, Load::Fires),
        Commit::Unsend => (SchedulerOnly, Nothing, Load::BrokerIsCut),
        Commit::GiveUp => (SchedulerOnly, Nothing, Load::LastMessageDies),
        Commit::ResendUnpublished => (Scheduler, TriggersAreSent, Load::Fires),
        Commit::PutMarker => (Scheduler, Nothing, Load::MessagesAreLost),
        Commit::MarkerBack => (Worker, Nothing, Load::Backlog),
        Commit::ResendLost => (SchedulerOnly, Nothing, Load::MessagesAreLost),
        Commit::PurgeMarkers => (SchedulerOnly, Nothing, Load::MessagesWereLost),
        Commit::Claim => (Worker, HoldersDieInDoubt, Load::Fires),
        Commit::Lines | Commit::Progress | Commit::Report => (Worker, Nothing, Load::Asks),
        Commit::ClaimUnlocked | Commit::ReportUnlocked => (WorkerOnly, Nothing, Load::Asks),
        Commit::TellTransitions => (SchedulerOnly, NothingIsTold, Load::Fires),
        Commit::Told => (SchedulerOnly, Nothing, Load::Fires),
        Commit::SaveWebhook => (Scheduler, Nothing, Load::Webhooks),
        // Fires end, and the world has a webhook that wants to know.
        Commit::MatchWebhooks | Commit::ClaimDeliveries | Commit::KeepTried => (Scheduler, Nothing, Load::Fires),
        Commit::Redeliver => (Scheduler, Nothing, Load::Redeliveries),
        Commit::KeepFeed => (Scheduler, Nothing, Load::Listens),
        Commit::TrimFeed => (Scheduler, Nothing, Load::Fires),
        Commit::Follow => (Scheduler, Nothing, Load::Asks),
        Commit::AdmitStranded => (Scheduler, FiresAreStranded, Load::Fires),
        Commit::RegisterWorker => (Worker, Nothing, Load::Fires),
        Commit::Beat => (Worker, Nothing, Load::LongRuns),
        Commit::RetireWorker | Commit::Lose => (Scheduler, HoldersDie, Load::Fires),
        Commit::Abandon => (Scheduler, OperationIsForsaken, Load::Fires),
        Commit::WakeStrandedLimits => (Scheduler, Nothing, Load::Fires),
        Commit::PurgeKeys | Commit::PurgeUniqueKeys => (Scheduler, Nothing, Load::Fires),
        Commit::PurgeLimits
        | Commit::PurgeWorkers
        | Commit::PurgeInputs
        | Commit::PurgeEvents
        | Commit::PurgeDeliveries => (Scheduler, Nothing, Load::Fires),
        Commit::ClaimExternal | Commit::Extend | Commit::TakeEvents => (Scheduler, Nothing, Load::External),
    };
    // The first beat comes before there are leases.
    let count = if commit == Commit::Beat { 2 } else { 1 };
    Scene { dies, before, load, count }
}

fn of_act(act: Act) -> Scene {
    use Dies::{Scheduler, SchedulerOnly, Worker, WorkerOnly};
    let (dies, load) = match act {
        Act::StoreOpened => (Scheduler, Load::Fires),
        Act::PublishBegun | Act::PublishHalfway | Act::Published => (Scheduler, Load::Fires),
        Act::Telling => (SchedulerOnly, Load::Fires),
        Act::DeliveryAnswered => (Scheduler, Load::Fires),
        Act::LetterTaken | Act::LetterKept | Act::LetterSettled => (SchedulerOnly, Load::MessagesDie),
        Act::EventsReceived | Act::EventsKept => (SchedulerOnly, Load::External),
        Act::DeliveryTaken | Act::ClaimAcked | Act::AttemptBegun => (Worker, Load::Asks),
        Act::LineSaid | Act::HandlerEnded | Act::ReportQueued => (Worker, Load::Asks),
        Act::GaveBack => (Worker, Load::LongRuns),
        Act::Reviving => (WorkerOnly, Load::Freezes),
        Act::Drained => (Worker, Load::Stops),
    };
    Scene { dies, before: Before::Nothing, load, count: 1 }
}
