//! Which deliveries of a channel are settled, and the fewest commands to settle more. Does no I/O.

use std::collections::BTreeSet;

/// The delivery tags of one channel. RabbitMQ counts them from 1, in the order of sending, over all of the
/// channel's consumers; so what is not known to be settled below the highest is outstanding, whether seen or not.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// All up to this one are settled.
    floor: u64,
    /// Settled ones above, where others below them are not.
    above: BTreeSet<u64>,
}

/// The commands that settle some deliveries and no others.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct Settling {
    /// This one, and all outstanding ones below it.
    pub(super) up_to: Option<u64>,
    /// These, one by one.
    pub(super) single: Vec<u64>,
}

impl Tags {
    /// Marks these as settled, and tells how to tell the broker. Settled ones are passed over, as the broker
    /// closes the channel on a tag that it doesn't know.
    pub(super) fn settle(&mut self, tags: impl IntoIterator<Item = u64>) -> Settling {
        let floor = self.floor;
        let new: BTreeSet<u64> = tags.into_iter().filter(|&tag| tag > floor && self.above.insert(tag)).collect();
        while self.above.remove(&(self.floor + 1)) {
            self.floor += 1;
        }
        // The tag of a "multiple" must itself be outstanding, so it is one of the new ones, not the floor.
        let up_to = new.range(..=self.floor).next_back().copied();
        let single = new.range(up_to.map_or(0, |tag| tag + 1)..).copied().collect();
        Settling { up_to, single }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_command_where_it_is_exact() {
        let mut tags = Tags::default();
        assert_eq!(tags.settle([2, 1, 3]), Settling { up_to: Some(3), single: vec![] });
        assert_eq!(tags.settle([5, 6]), Settling { up_to: None, single: vec![5, 6] });
        // 4 closes the gap: 5 and 6 are settled, so that 4 is the highest that the broker still knows.
        assert_eq!(tags.settle([4, 5, 8]), Settling { up_to: Some(4), single: vec![8] });
        assert_eq!(tags.settle([1, 6]), Settling::default());
    }

    proptest! {
        /// A broker that follows the commands literally settles exactly what was asked for, each once.
        #[test]
        fn settles_what_it_is_told_and_nothing_else(batches in prop::collection::vec(prop::collection::btree_set(1_u64..60, 0..12), 0..12)) {
            let mut tags = Tags::default();
            let mut outstanding: BTreeSet<u64> = (1..60).collect();
            for batch in batches {
                let expected: BTreeSet<u64> = outstanding.difference(&batch).copied().collect();
                let Settling { up_to, single } = tags.settle(batch);
                if let Some(up_to) = up_to {
                    prop_assert!(outstanding.contains(&up_to));
                    outstanding.retain(|&tag| tag > up_to);
                }
                for tag in single {
                    prop_assert!(outstanding.remove(&tag));
                }
                prop_assert_eq!(&outstanding, &expected);
            }
        }
    }
}
