//! Sorted items, each with a number that says where it comes from.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::model::Job;
use super::schedule::Schedule;

/// Items in the order of namespace and name.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<u32>);

/// What has a place in the order.
pub(super) trait Named {
    fn namespace(&self) -> &str;
    fn name(&self) -> &str;

    fn order(&self, other: &Self) -> Ordering {
        (self.namespace(), self.name()).cmp(&(other.namespace(), other.name()))
    }
}

impl Named for Job {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for Schedule {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn name(&self) -> &str {
        &self.name
    }
}

impl Origins {
    /// Removes from `items` what does not come from `alive`, and puts in what is `new`.
    pub(super) fn merge<T: Named>(&mut self, items: &mut Vec<T>, alive: &HashSet<u32>, new: Vec<(u32, Vec<T>)>) {
        let mut kept = self.0.iter().map(|origin| alive.contains(origin));
        items.retain(|_| kept.next().unwrap_or_default());
        self.0.retain(|origin| alive.contains(origin));
        let count = new.iter().map(|(_, new)| new.len()).sum();
        items.reserve_exact(count);
        self.0.reserve_exact(count);
        for (origin, mut new) in new {
            self.0.resize(items.len() + new.len(), origin);
            items.append(&mut new);
        }
        self.sort(items);
    }

    /// Sorts by a list of numbers, as the items are large, and in place, as they are many.
    fn sort<T: Named>(&mut self, items: &mut [T]) {
        let mut from: Vec<usize> = (0..items.len()).collect();
        from.sort_by(|a, b| items[*a].order(&items[*b]));
        for start in 0..from.len() {
            let mut at = start;
            // Each round puts one item where it belongs; a place that is done points to itself.
            while from[at] != start {
                let next = from[at];
                items.swap(at, next);
                self.0.swap(at, next);
                from[at] = at;
                at = next;
            }
            from[at] = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Item(String, u32);

    impl Named for Item {
        fn namespace(&self) -> &str {
            ""
        }

        fn name(&self) -> &str {
            &self.0
        }
    }

    fn items(names: &str, origin: u32) -> (u32, Vec<Item>) {
        (origin, names.chars().map(|name| Item(name.to_string(), origin)).collect())
    }

    #[test]
    fn what_is_gone_goes_and_what_is_new_comes_in_order() {
        let (mut origins, mut list) = (Origins::default(), Vec::<Item>::new());
        let mut step = |alive: &[u32], new| {
            origins.merge(&mut list, &alive.iter().copied().collect(), new);
            assert!(
                list.iter().zip(&origins.0).all(|(item, origin)| item.1 == *origin) && list.len() == origins.0.len()
            );
            list.iter().map(|item| item.0.as_str()).collect::<String>()
        };
        assert_eq!(step(&[1, 2, 3], vec![items("zcm", 1), items("", 2), items("yba", 3)]), "abcmyz");
        assert_eq!(step(&[1, 2, 3], vec![]), "abcmyz");
        assert_eq!(step(&[1, 4], vec![items("dxa", 4)]), "acdmxz");
        assert_eq!(step(&[4, 5], vec![items("zyb", 5)]), "abdxyz");
        assert_eq!(step(&[], vec![]), "");
    }
}
