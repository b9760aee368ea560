//! What tells that a program has met a limit: its end, or the words in which systems and languages say so.

use crate::guard::End;

/// A limit that a program has probably met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clue {
    Cpu,
    Memory,
    OpenFiles,
    Processes,
    FileSize,
}

/// The signals of limits, on all of Linux's usual machines.
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;
/// What shells add to the signal that has ended their program.
const OF_SHELLS: i32 = 128;

impl Clue {
    /// For sure, or as sure as a shell is.
    pub(crate) fn of_end(end: End) -> Option<Self> {
        let (End::Signaled(signal) | End::Exited(signal)) = end;
        let signal = if matches!(end, End::Exited(_)) { signal - OF_SHELLS } else { signal };
        match signal {
            SIGXCPU => Some(Self::Cpu),
            SIGXFSZ => Some(Self::FileSize),
            _ => None,
        }
    }

    /// From a line that a program has printed.
    pub(crate) fn of_line(line: &str) -> Option<Self> {
        const WORDS: [(&str, Clue); 12] = [
            ("cannot allocate memory", Clue::Memory),
            ("memoryerror", Clue::Memory),
            ("bad_alloc", Clue::Memory),
            ("out of memory", Clue::Memory),
            ("memory exhausted", Clue::Memory),
            ("out of space", Clue::Memory),
            ("memory allocation of", Clue::Memory),
            ("too many open files", Clue::OpenFiles),
            ("cannot fork", Clue::Processes),
            ("resource temporarily unavailable", Clue::Processes),
            ("can't start new thread", Clue::Processes),
            ("file too large", Clue::FileSize),
        ];
        let line = line.to_lowercase();
        WORDS.into_iter().find(|(words, _)| line.contains(words)).map(|(_, clue)| clue)
    }
}
