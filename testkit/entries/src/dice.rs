//! Numbers that look random and are the same in every run, and texts made by them.
//!
//! What a fuzzer finds is played again with the same pieces: the dice that cut are loaded with the bytes themselves.

/// A generator of small numbers (xorshift).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// One that always rolls the same for `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed ^ 0x9e37_79b9_7f4a_7c15 | 1)
    }

    /// One that depends on the bytes alone.
    #[must_use]
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let sum = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self::new(bytes.iter().fold(0xcbf2_9ce4_8422_2325, sum))
    }

    /// A number below `below`; 0 where that is none.
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below.max(1) as u64).unwrap_or(0)
    }

    /// One of several.
    pub fn one_of<'a, T: ?Sized>(&mut self, choices: &[&'a T]) -> Option<&'a T> {
        choices.get(self.roll(choices.len())).copied()
    }

    /// Up to a dozen fragments one after the other, now and then with one wrong byte.
    pub fn text(&mut self, fragments: &[&[u8]]) -> Vec<u8> {
        let mut text = Vec::new();
        for _ in 0..self.roll(12) {
            text.extend_from_slice(self.one_of(fragments).unwrap_or_default());
        }
        if self.roll(3) == 0 {
            let (at, byte) = (self.roll(text.len()), self.roll(256));
            if let Some(place) = text.get_mut(at) {
                *place = byte as u8;
            }
        }
        text
    }

    /// The text with a few faults: bytes changed, lost, repeated, put in or cut off.
    pub fn spoiled(&mut self, text: &[u8], fragments: &[&[u8]]) -> Vec<u8> {
        let mut text = text.to_vec();
        for _ in 0..=self.roll(4) {
            let at = self.roll(text.len() + 1);
            let until = (at + 1 + self.roll(20)).min(text.len());
            match self.roll(7) {
                0 => {
                    if let Some(byte) = text.get_mut(at) {
                        *byte ^= 1 << self.roll(8);
                    }
                }
                1 => drop(text.splice(at..at, [self.roll(256) as u8])),
                2 => drop(text.drain(at..until)),
                3 => {
                    let again = text.get(at..until).unwrap_or_default().to_vec();
                    drop(text.splice(at..at, again));
                }
                4 => text.truncate(at),
                5 => {
                    let number = [0, 1, 127, 128, 255].get(self.roll(5)).copied().unwrap_or(0);
                    if let Some(byte) = text.get_mut(at) {
                        *byte = number;
                    }
                }
                _ => {
                    let fragment = self.one_of(fragments).unwrap_or_default();
                    drop(text.splice(at..at, fragment.iter().copied()));
                }
            }
        }
        text
    }
}

/// Cuts `text` into pieces of any length, hands over all that has come and stops when told to.
pub(crate) fn fed<T>(text: &[u8], mut parse: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
    let (mut dice, mut end) = (Dice::of(text), 0);
    loop {
        end += dice.roll(text.len() - end + 1);
        let result = parse(text.get(..end).unwrap_or_default());
        if result.is_some() || end == text.len() {
            return result;
        }
    }
}
