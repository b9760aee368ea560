//! Where a test may let the process die, to show that its death there loses and doubles nothing.
//!
//! `REVEILLE_CRASH=NAME` aborts the process at its first passage of the point of that name, `NAME:COUNT` at a later one.
//! Only builds with debug assertions do so; to others all of this is nothing.
//!
//! A new point is a word in one of the two lists below, the call where its step is, and its scene in
//! `tests/faults/crash/scenes.rs`, which the compiler asks for. `tests/faults/crash.rs` lets a process die at each.

use std::fmt;

/// Makes an enum, and the list of all that is in it.
macro_rules! list {
    ($(#[$about:meta])* $list:ident { $($(#[$what:meta])* $name:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $list { $($(#[$what])* $name,)* }

        impl $list {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

list! {
    /// A transaction, named for what it makes durable. There is a point before its commit, with all statements done and
    /// all locks held, and one after it, before anybody knows; of one that is a single statement, before and after that.
    Commit {
        /// Leadership is taken or kept.
        Lead,
        /// Leadership is given up.
        Resign,
        /// Definitions as a whole.
        ApplyDefinitions,
        /// A set of changes of definitions.
        ApplyChanges,
        /// A pause.
        Pause,
        /// Its end.
        Resume,
        /// Decisions on due times, cursors and births.
        Record,
        /// A fire by hand.
        FireByHand,
        /// A backfill that was asked for.
        CreateBackfill,
        /// The next fires of a backfill.
        AdvanceBackfill,
        /// The end of a backfill and its runs.
        CancelBackfill,
        /// An API key is made, or is another from then on.
        ChangeKey,
        /// API keys were used.
        KeysUsed,
        /// A work request that was asked for.
        Accept,
        /// A plain one, in one statement.
        AcceptPlain,
        /// Those of several callers, likewise.
        AcceptTogether,
        /// Inputs of children to be.
        StageInputs,
        /// Inputs that nobody is to use are forgotten.
        DiscardInputs,
        /// A work request with children that was asked for.
        AcceptFanOut,
        /// Children of a chunk of inputs.
        Bear,
        /// A run with children has no more of them, or ends.
        Settle,
        /// A run's children are counted anew.
        Recount,
        /// A request to cancel.
        Cancel,
        /// A request to cancel many.
        CancelAll,
        /// Due triggers are marked as sent.
        TakeDue,
        /// A dispatcher has a backlog to itself.
        HoldBacklog,
        /// It has it no more.
        LeaveBacklog,
        /// Runs that have not started in time end.
        Expire,
        /// What the broker did not take is due again.
        Unsend,
        /// A run that can't be delivered ends.
        GiveUp,
        /// What another dispatcher may not have published is marked as sent again.
        ResendUnpublished,
        /// What was lost is marked as sent again.
        ResendLost,
        /// A marker that is about to follow triggers.
        PutMarker,
        /// A marker has come through.
        MarkerBack,
        /// Old markers are forgotten.
        PurgeMarkers,
        /// Leases.
        Claim,
        /// Leases of runs that need no lock.
        ClaimUnlocked,
        /// A lease of a worker in another language.
        ClaimExternal,
        /// A sign of life of such a worker.
        Extend,
        /// What such workers tell.
        TakeEvents,
        /// Lines that runs have printed.
        Lines,
        /// What runs say about their progress.
        Progress,
        /// Ends of attempts.
        Report,
        /// Ends of attempts of runs that need no lock.
        ReportUnlocked,
        /// Whether what happens is told outside.
        TellTransitions,
        /// What was told leaves the outbox.
        Told,
        /// A webhook is made, changed or deleted.
        SaveWebhook,
        /// Deliveries of webhooks are born.
        MatchWebhooks,
        /// Deliveries that are due are claimed.
        ClaimDeliveries,
        /// What came of claimed deliveries.
        KeepTried,
        /// A delivery is to be sent again.
        Redeliver,
        /// Old deliveries, and deleted webhooks, are forgotten.
        PurgeDeliveries,
        /// Somebody listens to what happens.
        KeepFeed,
        /// What happened long ago is forgotten, and nobody listens any more.
        TrimFeed,
        /// What follows the end of runs.
        Follow,
        /// Held fires that nothing holds any more are let go.
        AdmitStranded,
        /// A worker is known.
        RegisterWorker,
        /// A worker's beat.
        Beat,
        /// A worker is taken for dead, or has said goodbye.
        RetireWorker,
        /// Leases are lost.
        Lose,
        /// Attempts end whose operation nobody looks after.
        Abandon,
        /// Limits for which runs wait, and that nobody has woken, are woken.
        WakeStrandedLimits,
        /// Old idempotency keys are forgotten.
        PurgeKeys,
        /// Keys of unique runs that ended long ago are forgotten.
        PurgeUniqueKeys,
        /// Limits that nothing has used for long are forgotten.
        PurgeLimits,
        /// Old inputs of children that never were are forgotten.
        PurgeInputs,
        /// Workers that ended long ago are forgotten.
        PurgeWorkers,
        /// Events that were taken, or refused, long ago are forgotten.
        PurgeEvents,
    }
}

list! {
    /// A step outside of any transaction, named for what has just happened.
    Act {
        /// The store is open and its schema up to date; nothing else is.
        StoreOpened,
        /// A batch is marked as sent and about to be published.
        PublishBegun,
        /// One message of a batch is published.
        PublishHalfway,
        /// The broker's verdict on a batch is there, and nothing was done about it.
        Published,
        /// What happened was told, and is still in the outbox.
        Telling,
        /// Deliveries of webhooks were answered, and nothing of that is kept.
        DeliveryAnswered,
        /// A dead letter is received.
        LetterTaken,
        /// The store knows what becomes of a dead letter, and the broker still has it.
        LetterKept,
        /// The broker has forgotten a dead letter.
        LetterSettled,
        /// What workers in other languages tell is received.
        EventsReceived,
        /// The store has it, and the broker still too.
        EventsKept,
        /// A delivery is received.
        DeliveryTaken,
        /// Deliveries whose claims are decided are acknowledged, their runs just started.
        ClaimAcked,
        /// A full worker has given deliveries back.
        GaveBack,
        /// An attempt has begun, its handler not.
        AttemptBegun,
        /// The handler runs: it has printed a line.
        LineSaid,
        /// The handler has ended, and nobody was told.
        HandlerEnded,
        /// The end of an attempt waits to be reported.
        ReportQueued,
        /// A worker knows that it was taken for dead.
        Reviving,
        /// A worker that stops has ended all of its runs, and not said goodbye.
        Drained,
    }
}

/// Where a process can be made to die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Right before a commit.
    Before(Commit),
    /// Right after it.
    After(Commit),
    /// After a step.
    At(Act),
}

impl Point {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let around = Commit::ALL.iter().flat_map(|commit| [Self::Before(*commit), Self::After(*commit)]);
        around.chain(Act::ALL.iter().map(|act| Self::At(*act)))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before(commit) => write!(f, "Before{commit:?}"),
            Self::After(commit) => write!(f, "After{commit:?}"),
            Self::At(act) => write!(f, "{act:?}"),
        }
    }
}

/// Commits, with a point on either side.
pub async fn around<T>(commit: Commit, work: impl Future<Output = T>) -> T {
    pass(Point::Before(commit));
    let done = work.await;
    pass(Point::After(commit));
    done
}

/// Dies here if told to.
#[inline]
pub fn at(act: Act) {
    pass(Point::At(act));
}

#[cfg(not(debug_assertions))]
#[inline]
fn pass(_: Point) {}

#[cfg(debug_assertions)]
use armed::pass;

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::Point;

    const VARIABLE: &str = "REVEILLE_CRASH";

    /// The point at which this process is to die, and how many passages are left until then.
    static ARMED: LazyLock<Option<(Point, AtomicU32)>> = LazyLock::new(|| {
        let text = std::env::var(VARIABLE).ok()?;
        match parse(&text) {
            Ok((point, count)) => Some((point, AtomicU32::new(count))),
            Err(why) => refuse(&why),
        }
    });

    pub(super) fn pass(point: Point) {
        if let Some((armed, left)) = &*ARMED
            && *armed == point
            && left.fetch_sub(1, Ordering::Relaxed) == 1
        {
            die(point);
        }
    }

    pub(super) fn parse(text: &str) -> Result<(Point, u32), String> {
        let (name, count) = text.split_once(':').unwrap_or((text, "1"));
        let count = count.parse().ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| format!("{VARIABLE}={text}: expected a count from 1 on behind the colon"))?;
        let known = || Point::all().map(|point| point.to_string()).collect::<Vec<_>>().join(", ");
        let found = Point::all().find(|point| point.to_string() == name);
        Ok((found.ok_or_else(|| format!("{VARIABLE}: no crash point {name:?}; there are {}", known()))?, count))
    }

    #[allow(clippy::print_stderr, reason = "the last word to whoever started the process")]
    fn die(point: Point) -> ! {
        eprintln!("crash point {point}: aborting");
        std::process::abort()
    }

    #[allow(clippy::print_stderr, reason = "the last word to whoever started the process")]
    fn refuse(why: &str) -> ! {
        eprintln!("{why}");
        std::process::exit(2)
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use super::armed::parse;
    use super::*;

    #[test]
    fn every_point_is_found_by_its_name() {
        for point in Point::all() {
            assert_eq!(parse(&point.to_string()), Ok((point, 1)));
            assert_eq!(parse(&format!("{point}:7")), Ok((point, 7)));
        }
        assert_eq!(Point::all().count(), 2 * Commit::ALL.len() + Act::ALL.len());
    }

    #[test]
    fn what_names_no_point_is_refused_with_those_there_are() {
        let why = parse("BeforeLunch").unwrap_err();
        assert!(
            why.contains("\"BeforeLunch\"") && why.contains("BeforeLead, AfterLead") && why.contains("Drained"),
            "{why}"
        );
        for text in ["Drained:0", "Drained:", "Drained:x", "Drained:1:2"] {
            assert!(parse(text).unwrap_err().contains("count"), "{text}");
        }
    }
}
