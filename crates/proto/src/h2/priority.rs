//! Which streams go first, as the peer wishes (RFC 7540, 5.3): those that others depend on, then those of more weight.
//!
//! RFC 9113 leaves it to us to obey. A peer that says nothing costs nothing; what one says is kept in a list as short
//! as its streams are few.

/// Streams that are not open but others may depend on.
const KEPT: usize = 32;
/// Weight of a stream of which nothing was said.
const DEFAULT_WEIGHT: u16 = 16;

/// What a peer says of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dependency {
    /// The stream that goes first; 0: none.
    pub on: u32,
    /// 1 to 256.
    pub weight: u16,
    /// What depended on that stream depends on this one now.
    pub is_exclusive: bool,
}

impl Dependency {
    /// Reads the five bytes of a frame.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [on0, on1, on2, on3, weight] = *bytes.first_chunk()?;
        let on = u32::from_be_bytes([on0, on1, on2, on3]);
        Some(Self {
            on: on & 0x7fff_ffff,
            weight: u16::from(weight) + 1,
            is_exclusive: on & 0x8000_0000 != 0,
        })
    }
}

/// When a stream's turn is; the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    /// Streams in front of it, itself included.
    rank: u16,
    /// What it gets of them, the other way round.
    lack: u32,
}

impl Default for Urgency {
    fn default() -> Self {
        Self::of(1, f32::from(DEFAULT_WEIGHT) / 256.0)
    }
}

impl Urgency {
    fn of(rank: u16, share: f32) -> Self {
        // The bits of floats that are not negative are in their order.
        Self { rank, lack: u32::MAX - share.to_bits() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Node {
    stream: u32,
    /// The stream that goes first; 0: none.
    parent: u32,
    weight: u16,
    is_open: bool,
    /// Zero until it is known.
    rank: u16,
    share: f32,
    /// When it was closed, or last spoken of while it was not open.
    closed: u32,
}

/// What a peer has said of its streams.
#[derive(Debug, Default)]
pub struct Priorities {
    /// By the number of the stream.
    nodes: Vec<Node>,
    /// Streams that were closed so far, and the like.
    closings: u32,
}

impl Priorities {
    /// A stream is opened; what was said of it before is known already.
    pub fn open(&mut self, stream: u32, dependency: Option<Dependency>) {
        let place = self.place(stream);
        self.nodes[place].is_open = true;
        if let Some(dependency) = dependency {
            self.depend(stream, dependency);
        }
    }

    /// Notes which streams are not open any more, and forgets those that have not been for long.
    pub fn close_all_but(&mut self, is_open: impl Fn(u32) -> bool) {
        for node in self.nodes.iter_mut().filter(|node| node.is_open) {
            if !is_open(node.stream) {
                self.closings += 1;
                node.closed = self.closings;
                node.is_open = false;
            }
        }
        self.trim();
    }

    /// The peer says something of a stream, open or not.
    pub fn depend(&mut self, stream: u32, dependency: Dependency) {
        let place = self.place(stream);
        self.closings += 1;
        let node = &mut self.nodes[place];
        node.weight = dependency.weight;
        node.closed = self.closings;
        let old_parent = node.parent;
        // Who depends on a stream that nobody knows depends on none.
        let is_known = dependency.on == 0 || self.find(dependency.on).is_some();
        let parent = if is_known { dependency.on } else { 0 };
        if self.is_above(stream, parent)
            && let Some(node) = self.find(parent).and_then(|place| self.nodes.get_mut(place))
        {
            // RFC 7540, 5.3.3: what depends on the stream goes in front of it first.
            node.parent = old_parent;
        }
        if dependency.is_exclusive && is_known {
            for node in self.nodes.iter_mut().filter(|node| node.parent == parent && node.stream != stream) {
                node.parent = stream;
            }
        }
        if let Some(place) = self.find(stream) {
            self.nodes[place].parent = parent;
        }
        self.trim();
    }

    /// Finds out what follows from all that was said; to be called before [`Self::urgency`] is asked.
    pub fn settle(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.rank = 0);
        let mut chain = Vec::new();
        for start in 0..self.nodes.len() {
            let mut place = Some(start);
            while let Some(at) = place.filter(|at| self.nodes[*at].rank == 0) {
                chain.push(at);
                // Those on the way are marked, so that nothing goes round in circles.
                self.nodes[at].rank = u16::MAX;
                place = self.find(self.nodes[at].parent);
            }
            let (mut rank, mut share) =
                place.map_or((0, 1.0), |at| (self.nodes[at].rank, self.nodes[at].share));
            while let Some(at) = chain.pop() {
                let node = &mut self.nodes[at];
                rank = u16::saturating_add(rank, 1);
                share *= f32::from(node.weight) / 256.0;
                (node.rank, node.share) = (rank, share);
            }
        }
    }

    /// When a stream's turn is.
    #[must_use]
    pub fn urgency(&self, stream: u32) -> Urgency {
        let node = self.find(stream).map(|place| &self.nodes[place]);
        node.map_or_else(Urgency::default, |node| Urgency::of(node.rank, node.share))
    }

    fn find(&self, stream: u32) -> Option<usize> {
        self.nodes.binary_search_by_key(&stream, |node| node.stream).ok()
    }

    /// The place of a stream, which gets one if it has none.
    fn place(&mut self, stream: u32) -> usize {
        self.nodes.binary_search_by_key(&stream, |node| node.stream).unwrap_or_else(|place| {
            let weight = DEFAULT_WEIGHT;
            let node = Node { stream, parent: 0, weight, is_open: false, rank: 0, share: 0.0, closed: 0 };
            self.nodes.insert(place, node);
            place
        })
    }

    /// Whether `stream` is one that `below` depends on, directly or not.
    fn is_above(&self, stream: u32, below: u32) -> bool {
        let mut at = below;
        for _ in 0..self.nodes.len() {
            let Some(place) = self.find(at) else { return false };
            at = self.nodes[place].parent;
            if at == stream {
                return true;
            }
        }
        false
    }

    /// Forgets who was closed first, as long as there are too many.
    fn trim(&mut self) {
        while self.nodes.iter().filter(|node| !node.is_open).count() > KEPT {
            let closed = self.nodes.iter().enumerate().filter(|(_, node)| !node.is_open);
            let Some((oldest, _)) = closed.min_by_key(|(_, node)| node.closed) else { return };
            let gone = self.nodes.remove(oldest);
            let is_child = |node: &&mut Node| node.parent == gone.stream;
            let all: u32 = self.nodes.iter_mut().filter(is_child).map(|node| u32::from(node.weight)).sum();
            for node in self.nodes.iter_mut().filter(is_child) {
                // RFC 7540, 5.3.4: they share what it had.
                let weight = u32::from(gone.weight) * u32::from(node.weight) / all.max(1);
                node.weight = u16::try_from(weight).unwrap_or(1).max(1);
                node.parent = gone.parent;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of streams 1, 3, 5 and 7, all open, after these words: `stream on weight[!]`.
    fn order(said: &str) -> Vec<u32> {
        let mut priorities = Priorities::default();
        for words in said.split(',').map(str::trim).filter(|words| !words.is_empty()) {
            let mut numbers =
                words.trim_end_matches('!').split(' ').map(|word| word.parse().expect("a number"));
            let mut next = || numbers.next().expect("three numbers");
            let (stream, on, weight) = (next(), next(), next() as u16);
            let is_exclusive = words.ends_with('!');
            priorities.depend(stream, Dependency { on, weight, is_exclusive });
        }
        let mut streams = vec![1, 3, 5, 7];
        streams.iter().for_each(|stream| priorities.open(*stream, None));
        priorities.settle();
        streams.sort_by_key(|stream| priorities.urgency(*stream));
        streams
    }

    #[test]
    fn orders() {
        let check = |said: &str, expected: [u32; 4]| assert_eq!(order(said), expected, "{said}");
        check("", [1, 3, 5, 7]);
        check("5 0 256", [5, 1, 3, 7]);
        check("1 0 1, 7 0 17", [7, 3, 5, 1]);
        check("7 0 16, 1 7 256", [3, 5, 7, 1]);
        check("7 0 17, 5 7 256, 3 5 256, 1 3 256", [7, 5, 3, 1]);
        // A stream that nobody knows.
        check("1 99 256", [1, 3, 5, 7]);
        // In front of all others.
        check("7 0 16!, 1 0 16, 3 0 1, 5 0 1", [1, 7, 3, 5]);
        check("1 0 16, 3 0 16, 5 0 16, 7 0 16!", [7, 1, 3, 5]);
        // In circles, as RFC 7540 draws it.
        check("1 0 16, 3 1 16, 5 3 16, 1 5 16", [5, 7, 1, 3]);
        check("1 0 16, 3 1 16, 1 3 16", [3, 5, 7, 1]);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let mut priorities = Priorities::default();
        let on = |on| Dependency { on, weight: 16, is_exclusive: false };
        priorities.depend(3, on(1));
        priorities.open(1, None);
        priorities.open(3, Some(on(1)));
        for stream in (5..1005).step_by(2) {
            priorities.open(stream, None);
            priorities.close_all_but(|open| open == 3);
        }
        assert!(priorities.nodes.len() <= KEPT + 1);
        priorities.settle();
        assert!(priorities.urgency(3) <= priorities.urgency(1003));
        for stream in (2001..4001).step_by(2) {
            priorities.depend(stream, Dependency { on: stream - 2, weight: 1, is_exclusive: true });
        }
        assert!(priorities.nodes.len() <= KEPT + 1);
        priorities.settle();
    }
}
