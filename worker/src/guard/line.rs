//! What worker and guard say to each other: frames of one letter and one number.

use std::time::Duration;

/// The length of a frame: short enough to go through a socket whole or not at all.
pub(super) const FRAME: usize = 5;

/// What a worker tells a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The program may live for so long from now, and longer only if this is said again.
    Live(Duration),
    /// Ask the program's group to end.
    Term,
    /// Kill the program and all that descends from it.
    Kill,
}

/// What a guard tells its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The program runs, under this process id, which is also its group's.
    Started(i32),
    /// It could not be started, for this reason of the system's.
    Refused(i32),
    /// It exited with this code.
    Exited(i32),
    /// A signal ended it.
    Signaled(i32),
    /// It is being killed, as the worker was not heard in time.
    Expired,
}

impl Order {
    pub(super) fn encode(self) -> [u8; FRAME] {
        match self {
            Self::Live(time) => frame(b'L', i32::try_from(time.as_millis()).unwrap_or(i32::MAX)),
            Self::Term => frame(b'T', 0),
            Self::Kill => frame(b'K', 0),
        }
    }

    /// `None` for what no worker says.
    pub(super) fn decode(frame: [u8; FRAME]) -> Option<Self> {
        match parts(frame) {
            (b'L', millis) => Some(Self::Live(Duration::from_millis(u64::try_from(millis).ok()?))),
            (b'T', _) => Some(Self::Term),
            (b'K', _) => Some(Self::Kill),
            _ => None,
        }
    }
}

impl Answer {
    pub(super) fn encode(self) -> [u8; FRAME] {
        match self {
            Self::Started(pid) => frame(b'S', pid),
            Self::Refused(errno) => frame(b'R', errno),
            Self::Exited(code) => frame(b'E', code),
            Self::Signaled(signal) => frame(b'G', signal),
            Self::Expired => frame(b'X', 0),
        }
    }

    /// `None` for what no guard says.
    pub(super) fn decode(frame: [u8; FRAME]) -> Option<Self> {
        match parts(frame) {
            (b'S', pid) => Some(Self::Started(pid)),
            (b'R', errno) => Some(Self::Refused(errno)),
            (b'E', code) => Some(Self::Exited(code)),
            (b'G', signal) => Some(Self::Signaled(signal)),
            (b'X', _) => Some(Self::Expired),
            _ => None,
        }
    }
}

fn frame(letter: u8, number: i32) -> [u8; FRAME] {
    let [a, b, c, d] = number.to_le_bytes();
    [letter, a, b, c, d]
}

fn parts([letter, a, b, c, d]: [u8; FRAME]) -> (u8, i32) {
    (letter, i32::from_le_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        for order in [Order::Live(Duration::from_millis(12_345)), Order::Term, Order::Kill] {
            assert_eq!(Order::decode(order.encode()), Some(order));
        }
        let answers =
            [Answer::Started(i32::MAX), Answer::Refused(2), Answer::Exited(-1), Answer::Signaled(9), Answer::Expired];
        for answer in answers {
            assert_eq!(Answer::decode(answer.encode()), Some(answer));
        }
        assert_eq!((Order::decode(*b"?0000"), Answer::decode(*b"?0000")), (None, None));
    }
}
