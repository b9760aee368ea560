//! Pass: the folder of definitions → what is in force.
//!
//! The folder is looked at each second, as events of the file system are lost on network shares and mounts. A
//! faulty change keeps the last good definitions in force.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reveille_shared::definition::{Definitions, Difference, Faults, Reader, Remembered};
use reveille_shared::periodic::Pass;
use reveille_shared::store::{ChangeSet, Generation, InForce, ScheduleKey, Store, StoreError};

use crate::leader::Leadership;
use crate::status::Status;

/// How often to look at the folder.
pub const PERIOD: Duration = Duration::from_millis(300);
/// How long a folder must stand still before it is read: nobody writes many files at one instant.
const STILL: Duration = Duration::from_millis(100);

/// What becomes of a folder's definitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They are in force.
    InForce,
    /// They are to be put in force.
    Apply,
    /// They are older than what is in force; the text says what to do.
    Drift(String),
}

/// What is known of a folder when its definitions are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folder<'a> {
    /// Of the definitions.
    pub digest: &'a str,
    /// Of the definitions.
    pub revision: Option<u64>,
    /// Definitions of this digest were in force once.
    pub was_in_force: bool,
    /// It has changed while this process led.
    pub changed: bool,
    /// There can be no other scheduler with another folder.
    pub alone: bool,
}

/// Whether a folder's definitions are to be put in force.
///
/// A replica with an older folder must never put it in force silently. Of two revisions the higher one wins.
/// Else a folder that was never in force is new; one that was, and is no more, is older, unless
/// someone changed it under the leader's eyes, or nobody else could have.
#[must_use]
pub fn judge(in_force: Option<&InForce>, folder: Folder<'_>) -> Verdict {
    let Some(in_force) = in_force else { return Verdict::Apply };
    if in_force.digest == folder.digest {
        return Verdict::InForce;
    }
    if let (Some(theirs), Some(ours)) = (in_force.revision, folder.revision)
        && theirs != ours
    {
        return if ours > theirs {
            Verdict::Apply
        } else {
            Verdict::Drift(format!(
                "drift: the folder has revision {ours}, and revision {theirs} is in force: update the folder, or set a \
                 revision above {theirs} in it"
            ))
        };
    }
    if !folder.was_in_force || folder.changed || folder.alone {
        return Verdict::Apply;
    }
    Verdict::Drift(format!(
        "drift: the folder was in force before {} put other definitions in force on {:.0}: update the folder, set a \
         revision above {} in it, or run schedulers without a folder if `reveille apply` is what you use",
        in_force.applied_by,
        in_force.applied_at,
        in_force.revision.unwrap_or(0)
    ))
}

/// Puts the folder's definitions in force while this process leads.
///
/// - Reads: the folder, which definitions are or were in force.
/// - Writes: definitions, all in one transaction.
/// - Repeating is safe: what is in force already is not put in force again.
/// - A crash here leaves the definitions as they were, or all of the new ones.
pub struct FolderWatch {
    /// A file or a folder.
    pub path: PathBuf,
    /// Where definitions are in force.
    pub store: Store,
    /// Only the leader puts definitions in force.
    pub leadership: Arc<Leadership>,
    /// This process, for people.
    pub me: String,
    /// There can be no other scheduler with another folder.
    pub alone: bool,
    /// Who is told.
    pub status: Arc<Status>,
    /// What was seen.
    pub seen: Seen,
}

/// What was seen of a folder so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// At the last look.
    last: Option<Fingerprint>,
    /// When it was read.
    read: Option<Fingerprint>,
    found: Option<Result<Found, Arc<Faults>>>,
    changed: bool,
    /// What the folder says was in force since this process began.
    settled: bool,
    reader: Reader,
    /// What this process knows to be in force, by its version there.
    in_force: Option<(i64, Remembered)>,
}

/// Of what the reader holds.
#[derive(Debug)]
struct Found {
    digest: String,
    was_in_force: bool,
}

/// Of each file: which one it is, how long, and when it was changed.
type Fingerprint = BTreeMap<PathBuf, (u64, u64, i64, i64, i64)>;

/// What a look at the folder came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderReport {
    /// It is as it should be.
    Good,
    /// It was put in force.
    Applied,
    /// So many faults.
    Faulty(usize),
    /// It is older than what is in force.
    Drift,
    /// It is good, and only the leader would put it in force.
    NotLeading,
}

impl fmt::Display for FolderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("as it should be"),
            Self::Applied => f.write_str("put in force"),
            Self::Faulty(count) => write!(f, "{count} faults"),
            Self::Drift => f.write_str("other definitions are in force"),
            Self::NotLeading => f.write_str("would be put in force if this scheduler led"),
        }
    }
}

impl FolderWatch {
    /// Reads the folder if it has changed and stands still again.
    async fn look(&mut self) -> Result<(), StoreError> {
        let now = blocking({
            let path = self.path.clone();
            move || fingerprint(&path)
        })
        .await;
        let first = self.seen.read.is_none();
        let still = self.seen.last.as_ref() == Some(&now);
        if self.seen.read.as_ref() == Some(&now) || !(first || still) {
            self.seen.last = Some(now);
            return Ok(());
        }
        let (reader, read) = blocking({
            let (path, mut reader) = (self.path.clone(), std::mem::take(&mut self.seen.reader));
            move || {
                let read = reader.read(&path).map(Definitions::digest);
                (reader, read)
            }
        })
        .await;
        self.seen.reader = reader;
        let found = match read {
            Ok(digest) => {
                let was_in_force = self.store.was_in_force(&digest).await?;
                if matches!(self.seen.found, Some(Err(_))) {
                    tracing::info!(path = %self.path.display(), "the definitions are good again");
                }
                self.status.tell_faults(Vec::new());
                Ok(Found { digest, was_in_force })
            }
            Err(faults) => {
                self.status.tell_faults(faults.iter().map(ToString::to_string).collect());
                let count = faults.len();
                tracing::error!(path = %self.path.display(), count, "the definitions are faulty; the last good ones stay in force\n{faults}");
                Err(Arc::new(faults))
            }
        };
        self.seen.changed = !first && self.leadership.current().is_some();
        self.seen.found = Some(found);
        self.seen.last = Some(now.clone());
        self.seen.read = Some(now);
        Ok(())
    }

    async fn apply(&mut self, generation: Generation, base: Option<i64>) -> Result<FolderReport, StoreError> {
        let Seen { reader, found: Some(Ok(found)), in_force, changed, settled, .. } = &mut self.seen else {
            return Ok(FolderReport::Good);
        };
        let definitions = reader.definitions();
        // Forgotten unless it is put back below: what a failure has left in force is to be looked at anew.
        let known = in_force.take().filter(|(version, _)| Some(*version) == base);
        let (answer, remembered) = match known {
            Some((_, mut remembered)) => {
                let set = changes(remembered.replace(definitions), base, definitions.revision, &found.digest);
                (self.store.apply_changes(Some(generation), &set, &self.me, None).await, remembered)
            }
            None => {
                let all = self.store.apply_definitions(generation, definitions, &found.digest, &self.me).await;
                (all, Remembered::of(definitions))
            }
        };
        let applied = match answer {
            // Someone else was faster: the next look judges what is in force then.
            Err(StoreError::Moved) => return Ok(FolderReport::Good),
            Err(StoreError::Deposed) => {
                self.leadership.depose(generation);
                return Ok(FolderReport::NotLeading);
            }
            applied => applied?,
        };
        found.was_in_force = true;
        *changed = false;
        *settled = true;
        *in_force = Some((applied.version, remembered));
        tracing::info!(
            jobs = applied.jobs,
            schedules = applied.schedules,
            removed = applied.removed,
            "definitions are in force"
        );
        Ok(FolderReport::Applied)
    }
}

impl FolderWatch {
    /// Takes note that what the folder says is in force, so that a later change need not be compared with the store.
    fn remember(&mut self, in_force: Option<&InForce>) {
        let Some(InForce { version, .. }) = in_force else { return };
        if self.leadership.current().is_some() && self.seen.in_force.as_ref().is_none_or(|(known, _)| known != version)
        {
            self.seen.in_force = Some((*version, Remembered::of(self.seen.reader.definitions())));
        }
    }
}

#[async_trait]
impl Pass for FolderWatch {
    const NAME: &'static str = "folder";
    type Report = FolderReport;
    type Error = StoreError;

    async fn run_once(&mut self) -> Result<(FolderReport, Option<Duration>), StoreError> {
        self.look().await?;
        let leading = self.leadership.current();
        self.seen.changed &= leading.is_some();
        let in_force = self.store.in_force().await?;
        let (jobs, schedules, verdict) = match &self.seen.found {
            None => return Ok((FolderReport::Good, None)),
            Some(Err(faults)) => {
                let count = faults.len();
                let first = faults.iter().next().map(|fault| fault.message.as_str()).unwrap_or_default();
                metrics::gauge!("reveille_definitions_faults").set(u32::try_from(count).unwrap_or(u32::MAX));
                let so = if in_force.is_some() { "the last good ones stay in force" } else { "nothing is in force" };
                let detail = match count {
                    1 => format!("faulty, so {so}: {first}"),
                    _ => format!("{count} faults, so {so}; the first: {first}"),
                };
                // It is no reason to send callers away that the next definitions are not good, if there are others.
                match in_force {
                    Some(_) => self.status.tell_attention("definitions", detail),
                    None => self.status.tell("definitions", false, detail),
                }
                return Ok((FolderReport::Faulty(count), None));
            }
            Some(Ok(found)) => {
                let folder = Folder {
                    digest: &found.digest,
                    revision: self.seen.reader.definitions().revision,
                    was_in_force: found.was_in_force,
                    changed: self.seen.changed,
                    // What others put in force by hand while this process ran is not undone behind their back.
                    alone: self.alone && !self.seen.settled,
                };
                let definitions = self.seen.reader.definitions();
                (definitions.jobs.len(), definitions.schedules.len(), judge(in_force.as_ref(), folder))
            }
        };
        let drifts = matches!(verdict, Verdict::Drift(_));
        metrics::gauge!("reveille_definitions_faults").set(0);
        metrics::gauge!("reveille_definitions_drift").set(f64::from(u8::from(drifts)));
        let good = format!("{jobs} jobs and {schedules} schedules are in force");
        let report = match (verdict, leading) {
            (Verdict::InForce, _) => {
                self.seen.settled = true;
                self.remember(in_force.as_ref());
                FolderReport::Good
            }
            (Verdict::Apply, Some(generation)) => {
                self.apply(generation, in_force.as_ref().map(|in_force| in_force.version)).await?
            }
            (Verdict::Apply, None) => FolderReport::NotLeading,
            (Verdict::Drift(what), _) => {
                // The scheduler does its work, by other definitions than those in its folder.
                self.status.tell_attention("definitions", what);
                return Ok((FolderReport::Drift, None));
            }
        };
        match report {
            FolderReport::NotLeading if in_force.is_none() => {
                self.status.tell(
                    "definitions",
                    false,
                    "nothing is in force yet: waiting for a leader to apply its folder",
                );
            }
            FolderReport::NotLeading => {
                self.status.tell("definitions", true, "the folder differs from what the leader has put in force");
            }
            _ => self.status.tell("definitions", true, good),
        }
        let moving = self.seen.last != self.seen.read;
        Ok((report, moving.then_some(STILL)))
    }
}

/// The changes that a difference calls for.
fn changes(difference: Difference<'_>, base: Option<i64>, revision: Option<u64>, digest: &str) -> ChangeSet {
    let keys = |names: Vec<(String, String)>| {
        names.into_iter().map(|(namespace, name)| ScheduleKey { namespace, name }).collect()
    };
    ChangeSet {
        base,
        put_jobs: difference.jobs.into_iter().cloned().collect(),
        put_schedules: difference.schedules.into_iter().cloned().collect(),
        remove_jobs: keys(difference.gone_jobs),
        remove_schedules: keys(difference.gone_schedules),
        digest: digest.to_owned(),
        revision,
    }
}

/// Runs what waits for a disk where that does no harm.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What there is to see without opening a file. The time of the last change of content *or* of the entry
/// can't be set back by tools that keep a file's date.
fn fingerprint(path: &Path) -> Fingerprint {
    let one = |path: PathBuf| {
        let seen = std::fs::metadata(&path).ok()?;
        Some((path, (seen.ino(), seen.len(), seen.mtime_nsec(), seen.ctime(), seen.ctime_nsec())))
    };
    let inside = std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    inside.chain([path.to_owned()]).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn in_force(revision: Option<u64>) -> InForce {
        InForce {
            version: 4,
            digest: "in force".into(),
            revision,
            applied_at: Timestamp::UNIX_EPOCH,
            applied_by: "other".into(),
        }
    }

    const OLD: Folder<'static> =
        Folder { digest: "old", revision: None, was_in_force: true, changed: false, alone: false };

    #[test]
    fn a_new_folder_is_applied_and_an_older_one_is_not() {
        assert_eq!(judge(None, OLD), Verdict::Apply);
        assert_eq!(judge(Some(&in_force(None)), Folder { digest: "in force", ..OLD }), Verdict::InForce);
        assert_eq!(judge(Some(&in_force(None)), Folder { was_in_force: false, ..OLD }), Verdict::Apply);
        assert!(matches!(judge(Some(&in_force(None)), OLD), Verdict::Drift(why) if why.contains("other")));
    }

    #[test]
    fn an_older_folder_is_applied_when_someone_meant_it() {
        assert_eq!(judge(Some(&in_force(None)), Folder { changed: true, ..OLD }), Verdict::Apply);
        assert_eq!(judge(Some(&in_force(None)), Folder { alone: true, ..OLD }), Verdict::Apply);
    }

    #[test]
    fn of_two_revisions_the_higher_wins_whatever_else() {
        let with = |revision, folder: Folder<'static>| Folder { revision: Some(revision), ..folder };
        let meant = Folder { changed: true, was_in_force: false, ..OLD };
        assert_eq!(judge(Some(&in_force(Some(7))), with(8, OLD)), Verdict::Apply);
        assert!(matches!(judge(Some(&in_force(Some(7))), with(6, meant)), Verdict::Drift(_)));
        assert!(matches!(judge(Some(&in_force(Some(7))), with(7, OLD)), Verdict::Drift(_)));
        assert_eq!(judge(Some(&in_force(Some(7))), with(7, meant)), Verdict::Apply);
        assert_eq!(judge(Some(&in_force(None)), with(1, Folder { was_in_force: false, ..OLD })), Verdict::Apply);
    }
}
