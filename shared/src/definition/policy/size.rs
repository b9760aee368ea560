//! Sizes as people write them: `64KiB`, `512MiB`, `2GiB`.

use std::fmt;

use super::super::node::short;
use super::super::text::{Complaint, complaint};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl Size {
    /// So many KiB.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    /// So many bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// In the largest unit of which it is a whole number.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{} bytes", self.0),
        }
    }
}

/// Reads a whole number with its unit.
pub(in super::super) fn read(text: &str) -> Result<Size, Complaint> {
    let (number, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, unit)| *unit);
    match number.parse::<u64>().ok().zip(unit).and_then(|(number, unit)| number.checked_mul(unit)) {
        Some(0) => Err(complaint("a size of zero", "write a larger one, like 64MiB")),
        Some(bytes) => Ok(Size(bytes)),
        None => Err(complaint(format!("`{}` is not a size", short(text)), "write it like 64KiB, 512MiB or 2GiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        for (text, bytes) in [("64KiB", 65_536), ("512MiB", 512 << 20), ("2GiB", 2 << 30), ("1536KiB", 1536 << 10)] {
            let size = read(text).unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, text));
        }
        assert_eq!(read("2 GiB"), read("2GiB"));
        for text in ["", "GiB", "64", "64MB", "0KiB", "-1KiB", "1.5GiB", "99999999999TiB", "1MiB "] {
            assert!(read(text).is_err(), "{text:?} was accepted");
        }
    }
}
