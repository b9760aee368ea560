//! "Did you mean": the known word that is the fewest edits away.

/// The candidate nearest to `word`, if one is near enough to be what was meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let tolerance = (word.chars().count() / 3).clamp(1, 3);
    if word.len() > 128 {
        return None;
    }
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= 4 * tolerance)
        .filter_map(|candidate| Some((edits(&word, &candidate.to_lowercase(), tolerance)?, candidate)))
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// A hint for `word`: the nearest candidate, or else `otherwise`.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => otherwise.to_owned(),
    }
}

/// The fewest insertions, deletions, replacements and swaps of neighbours that turn one word into the other,
/// unless they are more than `most`.
fn edits(from: &str, to: &str, most: usize) -> Option<usize> {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        if row.iter().all(|edits| *edits > most) {
            return None;
        }
        rows.push(row);
    }
    Some(rows[from.len()][to.len()]).filter(|edits| *edits <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        for (from, to, count) in
            [("", "", 0), ("cron", "corn", 1), ("croon", "cron", 1), ("a", "", 1), ("abc", "xyz", 3)]
        {
            assert_eq!(edits(from, to, count), Some(count), "{from} {to}");
            assert_eq!(count.checked_sub(1).and_then(|most| edits(from, to, most)), None, "{from} {to}");
        }
    }

    #[test]
    fn suggests_only_what_is_near() {
        let known = ["timeout", "retry", "queue"];
        assert_eq!(nearest("timeot", known), Some("timeout"));
        assert_eq!(nearest("Queue", known), Some("queue"));
        assert_eq!(nearest("quue", known), Some("queue"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
    }
}
