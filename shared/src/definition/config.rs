//! Reads a process's configuration file, with the diagnostics of schedules.

use std::path::Path;

use super::fault::Faults;
use super::files::read_text;
use super::nearest::did_you_mean;
use super::node::{Kind, Node, parse, short};
use super::scalar::{Plain, meaning};
use super::source::{Remark, Source};

/// Reads a flat YAML map of `known` keys to scalars, each as the text that is written.
///
/// # Errors
/// Everything that is wrong with the file.
pub fn read_config(file: &Path, known: &[&str]) -> Result<Vec<(String, String)>, Faults> {
    let mut faults = Faults::default();
    let name = file.display().to_string();
    let text = read_text(file, &name, &mut faults);
    faults.into_result()?;
    read_config_text(&name, &text.unwrap_or_default(), known)
}

fn read_config_text(name: &str, text: &str, known: &[&str]) -> Result<Vec<(String, String)>, Faults> {
    let mut source = Source::new(name, text);
    let mut tree = parse(&mut source);
    let mut pairs = Vec::new();
    match tree.root.as_ref().map(|root| (root, &root.kind)) {
        Some((_, Kind::Map(entries))) => {
            for (key, value) in entries.iter() {
                if !known.contains(&&*key.text) {
                    let otherwise = format!("known are {}", known.join(", "));
                    let hint = did_you_mean(&key.text, known.iter().copied(), &otherwise);
                    tree.remarks.push(Remark::new(key.span, format!("unknown key `{}`", short(&key.text))).hint(hint));
                } else if let Some(text) = scalar(value) {
                    pairs.push((key.text.to_string(), text.to_owned()));
                } else {
                    let remark = Remark::new(value.span, format!("`{}` must have one value", short(&key.text)));
                    tree.remarks.push(remark.hint("write a text or number after the colon, or remove the key"));
                }
            }
        }
        Some((root, Kind::List(_))) => tree.remarks.push(no_map(root)),
        Some((root, Kind::Scalar { .. })) if scalar(root).is_some() => tree.remarks.push(no_map(root)),
        _ => {}
    }
    let mut faults = Faults::default();
    tree.remarks.sort_by_key(|remark| remark.span);
    tree.remarks.into_iter().for_each(|remark| faults.push(|| source.fault(remark)));
    faults.into_result().map(|()| pairs)
}

fn scalar(node: &Node) -> Option<&str> {
    match &node.kind {
        Kind::Scalar { text, plain } if !*plain || meaning(text) != Plain::Null => Some(text),
        _ => None,
    }
}

fn no_map(node: &Node) -> Remark {
    Remark::new(node.span, "a configuration file is a map").hint("write lines like `key: value`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 4] = ["database_url", "listen", "slots", "log"];

    #[test]
    fn reads_scalars_as_they_are_written() {
        let text = "# mine\nslots: 9\nlisten: 127.0.0.1:8080\nlog: 'info,sqlx=warn'\n";
        let pairs = read_config_text("c.yaml", text, &KNOWN).unwrap();
        let expected = [("slots", "9"), ("listen", "127.0.0.1:8080"), ("log", "info,sqlx=warn")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(read_config_text("c.yaml", "# nothing yet\n", &KNOWN), Ok(vec![]));
    }

    #[test]
    fn tells_all_faults_and_no_secret() {
        let text = "lisen: 1\nslots: [1, 2]\nlog:\ndatabase_ur: postgres://me:hunter2@host/db\nslots: 2\n";
        insta::assert_snapshot!(read_config_text("c.yaml", text, &KNOWN).unwrap_err());
        insta::assert_snapshot!(read_config_text("c.yaml", "just text", &KNOWN).unwrap_err());
    }

    #[test]
    fn a_missing_file_is_a_fault() {
        let faults = read_config(Path::new("/nowhere/reveille.yaml"), &KNOWN).unwrap_err();
        assert!(faults.to_string().contains("can't be read"), "{faults}");
    }
}
