//! Many small whole numbers.
use super::example::IGNORED;
use std::ops::Range;

/// Whole numbers, each in as few bytes as the largest of all needs: one, two or four. [`IGNORED`]
/// counts as small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ints(Width);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Width {
    One(Vec<u8>),
    Two(Vec<u16>),
    Four(Vec<u32>),
}

impl Default for Ints {
    fn default() -> Self {
        Self(Width::One(vec![]))
    }
}

/// Calls the same code with the vector of whichever width.
macro_rules! with {
    ($ints:expr, $v:ident => $do:expr) => {
        match $ints {
            Width::One($v) => $do,
            Width::Two($v) => $do,
            Width::Four($v) => $do,
        }
    };
}

/// A number in fewer bytes, whose largest value stands for [`IGNORED`].
trait Narrow: Copy + TryFrom<u32> + Into<u32> {
    const MOST: Self;
    fn narrow(x: u32) -> Self {
        Self::try_from(x).unwrap_or(Self::MOST)
    }
    fn to_u32(self) -> u32 {
        let x = self.into();
        if x == Self::MOST.into() { IGNORED } else { x }
    }
}
impl Narrow for u8 {
    const MOST: u8 = u8::MAX;
}
impl Narrow for u16 {
    const MOST: u16 = u16::MAX;
}
impl Narrow for u32 {
    const MOST: u32 = u32::MAX;
}

fn add<T: Narrow>(to: &mut Vec<T>, numbers: &[u32]) {
    to.extend(numbers.iter().map(|x| T::narrow(*x)));
}

impl Ints {
    /// How many there are.
    pub fn len(&self) -> usize {
        with!(&self.0, v => v.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds numbers behind the last one.
    pub fn extend(&mut self, numbers: &[u32]) {
        let largest = numbers.iter().copied().filter(|x| *x != IGNORED).max().unwrap_or(0);
        self.make_room_for(largest);
        with!(&mut self.0, v => add(v, numbers));
    }

    /// Adds zeros until there are so many numbers.
    pub fn fill_up(&mut self, len: usize) {
        with!(&mut self.0, v => v.resize(len.max(v.len()), 0));
    }

    /// Some of them.
    pub fn get(&self, range: Range<usize>) -> Vec<u32> {
        with!(&self.0, v => v[range].iter().map(|x| x.to_u32()).collect())
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Width::One(v) => v.capacity(),
            Width::Two(v) => 2 * v.capacity(),
            Width::Four(v) => 4 * v.capacity(),
        }
    }

    /// Gives back what is reserved for more.
    pub fn shrink(&mut self) {
        with!(&mut self.0, v => v.shrink_to_fit());
    }

    fn make_room_for(&mut self, largest: u32) {
        let wider = |v: &mut dyn Iterator<Item = u32>| match largest {
            0..0xffff => Width::Two(v.map(Narrow::narrow).collect()),
            _ => Width::Four(v.collect()),
        };
        match &self.0 {
            Width::One(v) if largest >= 0xff => self.0 = wider(&mut v.iter().map(|x| x.to_u32())),
            Width::Two(v) if largest >= 0xffff => self.0 = wider(&mut v.iter().map(|x| x.to_u32())),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_take_the_bytes_they_need() {
        let mut ints = Ints::default();
        for (numbers, bytes) in [(&[0, 254, IGNORED][..], 3), (&[255], 8), (&[65534], 10), (&[65535], 24)] {
            ints.extend(numbers);
            ints.shrink();
            assert_eq!(ints.bytes(), bytes);
        }
        assert_eq!(ints.get(0..6), [0, 254, IGNORED, 255, 65534, 65535]);
        ints.fill_up(7);
        ints.fill_up(2);
        assert_eq!((ints.get(5..7), ints.len()), (vec![65535, 0], 7));
    }

    proptest! {
        #[test]
        fn numbers_come_back(parts in prop::collection::vec(prop::collection::vec(
            prop_oneof![0u32..300, 65_000u32..66_000, any::<u32>(), Just(IGNORED)], 0..5), 0..9))
        {
            let mut ints = Ints::default();
            parts.iter().for_each(|part| ints.extend(part));
            let all = parts.concat();
            prop_assert_eq!(ints.get(0..all.len()), all);
        }
    }
}
