//! Texts one of which is in everything that a pattern matches, read off the pattern.
//!
//! Only what is surely understood counts: wherever PCRE's syntax goes beyond that, the answer is that nothing is
//! known, and the pattern is always tried.

/// Shorter texts are in too many subjects to be worth looking for.
const LEAST: usize = 2;
/// More alternatives than these say little.
const MOST: usize = 64;
/// Groups in groups that are followed.
const MOST_DEPTH: u8 = 16;

/// One of these texts, in any case of letters, is in each subject that the pattern matches; `None` where none is
/// known.
pub(super) fn required(pattern: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = Reader { rest: pattern, depth: 0 };
    let found = reader.alternatives()?;
    (reader.rest.is_empty() && weight(&found.best) >= LEAST).then_some(found.best)
}

/// What is known of an expression.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The texts that are the whole of what it matches; empty where that is not known.
    whole: Vec<Vec<u8>>,
    /// The best set of texts one of which is in what it matches; empty where none is known.
    best: Vec<Vec<u8>>,
}

/// How much a set of texts tells: as much as its shortest.
fn weight(set: &[Vec<u8>]) -> usize {
    set.iter().map(Vec::len).min().unwrap_or(0)
}

impl Known {
    fn text(text: &[u8]) -> Self {
        Self { whole: vec![text.to_vec()], best: Vec::new() }
    }

    /// The better one of what is known already and another set.
    fn offer(&mut self, set: &[Vec<u8>]) {
        let is_better = (weight(set), self.best.len()) > (weight(&self.best), set.len());
        if !set.is_empty() && set.len() <= MOST && (self.best.is_empty() || is_better) {
            self.best = set.to_vec();
        }
    }
}

/// Texts that follow one another, as far as they are known without a gap.
#[derive(Debug)]
struct Run(Vec<Vec<u8>>);

impl Run {
    fn new() -> Self {
        Self(vec![Vec::new()])
    }

    /// Each text followed by each of `next`; says whether that was not too many.
    fn extend(&mut self, next: &[Vec<u8>]) -> bool {
        if self.0.len() * next.len() > MOST {
            return false;
        }
        self.0 =
            self.0.iter().flat_map(|text| next.iter().map(move |more| [&**text, more].concat())).collect();
        true
    }
}

/// How often the piece in front of it occurs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Once,
    /// At least once.
    More,
    Perhaps,
}

struct Reader<'p> {
    rest: &'p [u8],
    depth: u8,
}

/// A piece of a sequence.
enum Piece {
    /// Something whose texts may be known.
    Known(Known),
    /// Something that matches what nobody knows, or nothing.
    Unknown,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn take(&mut self, text: &[u8]) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Sequences with `|` between them, up to the end or to a closing parenthesis. `None` where something is not
    /// understood.
    fn alternatives(&mut self) -> Option<Known> {
        let mut all = self.sequence()?;
        while self.take(b"|") {
            let other = self.sequence()?;
            all = Known { whole: united(all.whole, other.whole), best: united(all.best, other.best) };
        }
        Some(all)
    }

    fn sequence(&mut self) -> Option<Known> {
        let mut known = Known::default();
        let mut run = Run::new();
        let mut is_whole = true;
        while !matches!(self.rest.first(), None | Some(b'|' | b')')) {
            let piece = self.piece()?;
            let times = self.times()?;
            let Piece::Known(inner) = piece else {
                known.offer(&run.0);
                run = Run::new();
                is_whole = false;
                continue;
            };
            if times == Times::Perhaps {
                known.offer(&run.0);
                run = Run::new();
                is_whole = false;
                continue;
            }
            known.offer(&inner.best);
            if inner.whole.is_empty() {
                known.offer(&run.0);
                run = Run::new();
                is_whole = false;
                continue;
            }
            if !run.extend(&inner.whole) {
                known.offer(&run.0);
                run = Run(inner.whole);
                is_whole = false;
            }
            if times == Times::More {
                known.offer(&run.0);
                run = Run::new();
                is_whole = false;
            }
        }
        known.offer(&run.0);
        if is_whole {
            known.whole = run.0;
        }
        Some(known)
    }

    fn piece(&mut self) -> Option<Piece> {
        Some(match self.next()? {
            // What is looked at and not passed.
            b'^' | b'$' => Piece::Known(Known::text(b"")),
            b'.' => Piece::Unknown,
            b'[' => {
                self.class()?;
                Piece::Unknown
            }
            b'(' => return self.group(),
            b'\\' => return self.escape(),
            // Nothing to repeat, which the compiler refuses, or a brace whose meaning depends on what follows.
            b'*' | b'+' | b'?' | b'{' => return None,
            byte => Piece::Known(Known::text(&[byte])),
        })
    }

    fn escape(&mut self) -> Option<Piece> {
        Some(match self.next()? {
            b'd' | b'D' | b'w' | b'W' | b's' | b'S' | b'h' | b'H' | b'v' | b'V' | b'N' | b'R' => {
                Piece::Unknown
            }
            b'b' | b'B' | b'A' | b'z' | b'Z' => Piece::Known(Known::text(b"")),
            b'n' => Piece::Known(Known::text(b"\n")),
            b'r' => Piece::Known(Known::text(b"\r")),
            b't' => Piece::Known(Known::text(b"\t")),
            byte if byte.is_ascii_punctuation() => Piece::Known(Known::text(&[byte])),
            _ => return None,
        })
    }

    /// Passes a class, of which nothing is used.
    fn class(&mut self) -> Option<()> {
        self.take(b"^");
        let mut is_first = true;
        loop {
            match self.next()? {
                b']' if !is_first => return Some(()),
                // `[:alpha:]`, and what only looks like it.
                b'[' if matches!(self.rest.first(), Some(b'.' | b'=')) => return None,
                b'[' if self.take(b":") => {
                    self.take(b"^");
                    let length = self.rest.iter().take_while(|byte| byte.is_ascii_lowercase()).count();
                    self.rest = self.rest.get(length..)?;
                    if !self.take(b":]") {
                        return None;
                    }
                }
                // A quoted stretch and a control character may hold a bracket.
                b'\\' if matches!(self.next()?, b'Q' | b'E' | b'c') => return None,
                _ => {}
            }
            is_first = false;
        }
    }

    fn group(&mut self) -> Option<Piece> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return None;
        }
        let is_assertion = if self.take(b"?") {
            let is_assertion = self.take(b"=") || self.take(b"!") || self.take(b"<=") || self.take(b"<!");
            if !is_assertion && !self.take(b":") {
                self.name()?;
            }
            is_assertion
        } else {
            if self.rest.first() == Some(&b'*') {
                return None;
            }
            false
        };
        let inner = self.alternatives()?;
        if !self.take(b")") {
            return None;
        }
        self.depth -= 1;
        // An assertion is about what lies around it, perhaps that something is not there.
        Some(Piece::Known(if is_assertion { Known::text(b"") } else { inner }))
    }

    /// `<name>`, `P<name>` or `'name'`; options and everything else behind `(?` are not understood.
    fn name(&mut self) -> Option<()> {
        self.take(b"P");
        let end = if self.take(b"<") {
            b'>'
        } else if self.take(b"'") {
            b'\''
        } else {
            return None;
        };
        let length =
            self.rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        self.rest = self.rest.get(length..)?;
        (length > 0 && self.next()? == end).then_some(())
    }

    /// The quantifier that follows, if one does.
    fn times(&mut self) -> Option<Times> {
        let times = match self.rest.first() {
            Some(b'*' | b'?') => Times::Perhaps,
            Some(b'+') => Times::More,
            Some(b'{') => return self.counted(),
            _ => return Some(Times::Once),
        };
        self.next();
        self.manner();
        Some(times)
    }

    /// `{2}`, `{2,}`, `{2,5}`; other braces stand for themselves or not, by the version of PCRE.
    fn counted(&mut self) -> Option<Times> {
        let end = memchr::memchr(b'}', self.rest)?;
        let inside = self.rest.get(1..end)?;
        let (least, most) = match memchr::memchr(b',', inside) {
            Some(comma) => (inside.get(..comma)?, inside.get(comma + 1..)?),
            None => (inside, &b""[..]),
        };
        let is_number = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
        if least.is_empty() || !is_number(least) || !is_number(most) {
            return None;
        }
        self.rest = self.rest.get(end + 1..)?;
        self.manner();
        Some(if least.iter().all(|digit| *digit == b'0') { Times::Perhaps } else { Times::More })
    }

    /// Whether a quantifier is greedy says nothing about what can be matched.
    fn manner(&mut self) {
        if matches!(self.rest.first(), Some(b'?' | b'+')) {
            self.next();
        }
    }
}

/// Both sets together, where both are known and they are not too many.
fn united(mut one: Vec<Vec<u8>>, other: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if one.is_empty() || other.is_empty() || one.len() + other.len() > MOST {
        return Vec::new();
    }
    one.extend(other);
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |pattern: &str, expected: &[&str]| {
            let found = required(pattern.as_bytes()).unwrap_or_default();
            let found: Vec<_> = found.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect();
            assert_eq!(found, expected, "{pattern}");
        };
        check(r"^/app1/(.*)$", &["/app1/"]);
        check(r"\.php$", &[".php"]);
        check(r"\.(jpg|png)$", &[".jpg", ".png"]);
        check(r"^/static/.*\.(css|js)$", &["/static/"]);
        check(r"^/user(?<id>\d+)/profile", &["/profile"]);
        check(r"^/a(b|c)d", &["/abd", "/acd"]);
        check(r"/\.(?!well-known)", &["/."]);
        check(r"^(?!/api).*foo", &["foo"]);
        check(r"(?:abc)+d", &["abc"]);
        check(r"abc?d", &["ab"]);
        check(r"abc*", &["ab"]);
        check(r"ab{0,3}cd", &["cd"]);
        check(r"ab{2}cd", &["ab"]);
        check(r"(abc)?de", &["de"]);
        check(r"^/(en|de)/", &["/en/", "/de/"]);
        check(r"abc|de", &["abc", "de"]);
        check(r"[^/]+/x/", &["/x/"]);
        check(r"[]a]bc", &["bc"]);
        check(r"[[:alpha:]]bc", &["bc"]);
        check(r"(?P<n>ab)", &["ab"]);
        check(r"[[:]ab|cd[x:]]ef", &[]);
        check(r"[\c]]ef", &[]);
        check(r"[\]x]ef", &["ef"]);
        check(r"^/$", &[]);
        check(r"^", &[]);
        check(r".*", &[]);
        check(r"abc|", &[]);
        check(r"abc|.*", &[]);
        check(r"(abc|x*)", &[]);
        check(r"(?i)abc", &[]);
        check(r"(?x)a b c", &[]);
        check(r"abc(?#x)", &[]);
        check(r"\Qabc\E", &[]);
        check(r"abc\x41", &[]);
        check(r"abc\1", &[]);
        check(r"abc{x", &[]);
        check(r"abc{,3}", &[]);
        check(r"(*UTF8)abc", &[]);
        check(r"abc)", &[]);
        check(r"(?(1)abc|def)", &[]);
        check(r"abc\Kdef", &[]);
    }
}
