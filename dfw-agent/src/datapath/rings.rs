//! Who owns which part of the flow ring: each endpoint's quota of flows. Pure.
//!
//! Parts are powers of two and aligned to their size (a buddy allocation). The first endpoints get large parts; when no
//! room is left, the largest part is halved for the newcomer. What its owner has in the lost half stays until it expires:
//! the newcomer's flows go where there is room (`dfw_common::conntrack::place`).

use std::collections::BTreeMap;

/// Smallest part, in flows. 131 072 flows are enough for 2 048 endpoints.
pub const SMALLEST: u32 = 64;
/// The largest part is this fraction of the ring.
const LARGEST: u32 = 16;

/// One endpoint's part: positions `base..base + size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First position.
    pub base: u32,
    /// How many; a power of two.
    pub size: u32,
}

/// The parts given away.
#[derive(Clone, Debug)]
pub struct Rings {
    total: u32,
    /// Size and owner (ifindex) by base.
    parts: BTreeMap<u32, (u32, u32)>,
}

impl Rings {
    /// A ring of `total` positions, a power of two, nothing given away.
    pub fn new(total: u32) -> Self {
        Self {
            total,
            parts: BTreeMap::new(),
        }
    }

    /// Takes note of a part that an earlier agent gave away. False when it is no part of this ring or overlaps another.
    pub fn restore(&mut self, owner: u32, part: Part) -> bool {
        let fits = part.size.is_power_of_two()
            && part.size >= SMALLEST
            && part.base.is_multiple_of(part.size)
            && part
                .base
                .checked_add(part.size)
                .is_some_and(|end| end <= self.total)
            && self.is_free(part);
        if fits {
            self.parts.insert(part.base, (part.size, owner));
        }
        fits
    }

    /// Everybody who has a part.
    pub fn owners(&self) -> impl Iterator<Item = u32> + '_ {
        self.parts.values().map(|(_, owner)| *owner)
    }

    /// The part of an owner.
    pub fn of(&self, owner: u32) -> Option<Part> {
        self.parts
            .iter()
            .find(|(_, (_, who))| *who == owner)
            .map(|(base, (size, _))| Part {
                base: *base,
                size: *size,
            })
    }

    /// Gives a part to a new owner. The second value is whose part was halved for it. None when every part is smallest.
    pub fn give(&mut self, owner: u32) -> Option<(Part, Option<u32>)> {
        let mut size = (self.total / LARGEST).max(SMALLEST);
        while size >= SMALLEST {
            let bases = (0..self.total).step_by(size as usize);
            if let Some(part) = bases
                .map(|base| Part { base, size })
                .find(|part| self.is_free(*part))
            {
                self.parts.insert(part.base, (part.size, owner));
                return Some((part, None));
            }
            size /= 2;
        }
        let (base, (size, loser)) = self
            .parts
            .iter()
            .map(|(base, part)| (*base, *part))
            .max_by_key(|(base, (size, _))| (*size, std::cmp::Reverse(*base)))?;
        if size <= SMALLEST {
            return None;
        }
        let half = Part {
            base: base + size / 2,
            size: size / 2,
        };
        self.parts.insert(base, (size / 2, loser));
        self.parts.insert(half.base, (half.size, owner));
        Some((half, Some(loser)))
    }

    /// Takes a part back.
    pub fn release(&mut self, owner: u32) {
        self.parts.retain(|_, (_, who)| *who != owner);
    }

    fn is_free(&self, part: Part) -> bool {
        let before = self.parts.range(..part.base + part.size).next_back();
        before.is_none_or(|(base, (size, _))| base + size <= part.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rings: &Rings) {
        let mut end = 0;
        for (base, (size, _)) in &rings.parts {
            assert!(*base >= end && base % size == 0 && size.is_power_of_two());
            end = base + size;
        }
        assert!(end <= rings.total);
    }

    #[test]
    fn everybody_gets_a_part_until_all_are_smallest() {
        let mut rings = Rings::new(4096);
        for owner in 1..=64 {
            rings.give(owner).expect("room");
            check(&rings);
        }
        assert_eq!(rings.of(1), Some(Part { base: 0, size: 64 }));
        assert_eq!(rings.give(65), None);
        rings.release(9);
        let (part, halved) = rings.give(65).expect("room");
        assert_eq!((part.size, halved), (64, None));
        check(&rings);
    }

    #[test]
    fn the_largest_is_halved() {
        let mut rings = Rings::new(4096);
        for owner in 1..=16 {
            assert_eq!(
                rings.give(owner).map(|(part, halved)| (part.size, halved)),
                Some((256, None))
            );
        }
        assert_eq!(
            rings.give(17).map(|(part, halved)| (part.size, halved)),
            Some((128, Some(1)))
        );
        assert_eq!(rings.of(1).map(|part| part.size), Some(128));
        check(&rings);
    }

    #[test]
    fn what_an_earlier_agent_gave_is_kept() {
        let mut rings = Rings::new(4096);
        assert!(rings.restore(
            1,
            Part {
                base: 256,
                size: 256
            }
        ));
        assert!(
            !rings.restore(
                2,
                Part {
                    base: 384,
                    size: 128
                }
            ),
            "overlaps"
        );
        assert!(
            !rings.restore(
                2,
                Part {
                    base: 4096,
                    size: 64
                }
            ),
            "beyond the ring"
        );
        assert!(
            !rings.restore(2, Part { base: 32, size: 64 }),
            "not aligned"
        );
        assert!(
            !rings.restore(2, Part { base: 0, size: 48 }),
            "no power of two"
        );
        let (part, _) = rings.give(2).expect("room");
        assert_eq!(part, Part { base: 0, size: 256 });
        check(&rings);
    }
}
