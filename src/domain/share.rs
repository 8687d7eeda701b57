//! How much of a room that many share one of them may take.
//!
//! The rule is one of the share of what the *others* leave, not of the whole: alone, anybody may take nearly all of it;
//! as others come, what one may take shrinks; and however many want more than there is, some of the room stays free for
//! one who has little. Nothing has to be known of who there is. (In switches with a shared memory the rule is known as
//! dynamic thresholds.) With a share of 80 %, one who takes all they can leaves 20 % of the room, two leave 11 %, three
//! leave 8 %.

/// A part of what others leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share(u8);

impl Share {
    /// So many hundredths: from 1 to 100. With 100, one can fill the room.
    #[must_use]
    pub const fn percent(percent: u8) -> Option<Self> {
        match percent {
            1..=100 => Some(Self(percent)),
            _ => None,
        }
    }

    /// How much of a room one may hold while others hold `others` of it.
    #[must_use]
    pub fn of(self, room: usize, others: usize) -> usize {
        let (left, percent) = (room.saturating_sub(others), usize::from(self.0));
        left / 100 * percent + left % 100 * percent / 100
    }

    /// Whether one who holds `own` (the new part included) of a room of which `all` is held, own part included, may have
    /// the new part. Whoever holds nothing else may always have it: the room's own bound is another's to keep.
    #[must_use]
    pub fn permits(self, room: usize, all: usize, own: usize, new: usize) -> bool {
        own <= new || own <= self.of(room, all.saturating_sub(own))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(percent: u8) -> Share {
        Share::percent(percent).unwrap()
    }

    #[test]
    fn a_share_lies_between_a_hundredth_and_all() {
        assert_eq!(
            [0, 1, 100, 101].map(|n| Share::percent(n).is_some()),
            [false, true, true, false]
        );
    }

    #[test]
    fn alone_one_may_take_the_share_and_not_one_more() {
        for (percent, most) in [(80, 80), (50, 50), (100, 100), (1, 1)] {
            assert!(share(percent).permits(100, most, most, 1), "{percent}");
            assert!(!share(percent).permits(100, most + 1, most + 1, 1), "{percent}");
        }
    }

    #[test]
    fn of_a_room_of_one_there_is_a_share_too() {
        assert!(share(1).permits(1, 1, 1, 1) && !share(100).permits(1, 2, 2, 1));
    }

    #[test]
    fn what_others_hold_is_not_there_to_be_shared() {
        assert_eq!(share(80).of(100, 50), 40);
        assert_eq!(share(80).of(100, 100), 0);
        assert_eq!(share(80).of(100, 101), 0);
        assert_eq!(share(100).of(usize::MAX, 0), usize::MAX);
    }

    proptest! {
        /// However many take all that they may, each for as long as it likes, a place is left for one who comes new;
        /// and whoever wants one gets at least as much as the others could take of what is left.
        #[test]
        fn whoever_comes_new_finds_room(percent in 1..=90_u8, room in 64..5_000_usize, greedy in 1..6_usize) {
            let share = share(percent);
            let mut held = vec![0_usize; greedy];
            loop {
                let before = held.clone();
                let mut all: usize = held.iter().sum();
                for own in &mut held {
                    if all < room && share.permits(room, all + 1, *own + 1, 1) {
                        *own += 1;
                        all += 1;
                    }
                }
                if held == before {
                    break;
                }
            }
            let all: usize = held.iter().sum();
            prop_assert!(all < room, "{all} of {room}");
            prop_assert!(share.permits(room, all + 1, 1, 1));
            // Turn by turn, they end up alike.
            let (least, most) = (held.iter().min().unwrap(), held.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{held:?}");
        }
    }
}
