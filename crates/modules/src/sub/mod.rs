//! `ngx_http_sub_filter_module`: replaces texts in answers.
//!
//! Where several texts could be replaced the leftmost is, and of those that begin there the one written first,
//! however the body is cut into pieces.

mod search;

use std::io;
use std::sync::Arc;

use conf::{Arity, Contexts, Directive, Error};
use http::chunk::{Chunk, Queue};
use http::conf::compile::Cx;
use http::conf::{Lines, Location, TypeSet};
use http::filters::{BodyFilter, ENOUGH, Filtered, HeaderFilter, More, Taken};
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, flag, row};
use http::variables::Template;
use net::Buf;
use proto::h1::Known;

use self::search::{Found, Search, Text};

/// Most texts that one block may replace, as in nginx.
const PAIRS_MAX: usize = 255;

/// `ngx_http_sub_filter_module`.
pub struct Sub;

/// Settings of [`Sub`].
#[derive(Clone, Default)]
pub struct SubSettings {
    pairs: Lines<Pair>,
    /// What is searched for, where that is known beforehand.
    search: Option<Arc<Search>>,
    types: TypeSet,
    once: bool,
    last_modified: bool,
}

/// One `sub_filter`.
#[derive(Clone)]
struct Pair {
    text: Template,
    replacement: Template,
}

impl Settings for SubSettings {
    fn enter(&mut self) {
        self.pairs.enter();
        self.types.enter();
    }

    fn finish(&mut self, _: &mut Cx<'_>) -> Result<(), Error> {
        if self.pairs.is_own() {
            let literals: Option<Vec<&[u8]>> = self.pairs.iter().map(|pair| pair.text.as_literal()).collect();
            self.search = literals.map(|texts| Arc::new(Search::new(texts.into_iter().enumerate())));
        }
        Ok(())
    }
}

static SLOT: Slot = Slot::new();

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<SubSettings>; 4] = [
    row("sub_filter", ALL, Arity::TWO, "", "Replaces a text in answers.", pair).many(),
    row(
        "sub_filter_types",
        ALL,
        Arity::MORE1,
        "text/html",
        "Media types of answers in which texts are replaced.",
        |s: &mut SubSettings, cx, d| {
            s.types.add(cx, d, &["text/html"]);
            Ok(())
        },
    )
    .many(),
    flag("sub_filter_once", ALL, "on", "Each text is replaced once only.", |s, v| s.once = v),
    flag("sub_filter_last_modified", ALL, "off", "Last-Modified is kept.", |s, v| s.last_modified = v),
];

impl Module for Sub {
    const NAME: &'static str = "ngx_http_sub_filter_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = SubSettings;
    type Main = ();

    fn rows() -> &'static [Row<Self::Settings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.header_filter(&Self);
    }
}

fn pair(s: &mut SubSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    let (text, replacement) = (d.arg(0)?, d.arg(1)?);
    if text.bytes.is_empty() {
        return Err(Error::at(text, "empty search pattern"));
    }
    let pairs = s.pairs.own();
    if pairs.len() == PAIRS_MAX {
        return Err(Error::at(text, format!("number of search patterns exceeds {PAIRS_MAX}")));
    }
    pairs.push(Pair { text: Template::compile(cx, text)?, replacement: Template::compile(cx, replacement)? });
    Ok(())
}

impl HeaderFilter for Sub {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().pairs.is_empty()
    }

    fn filter(&self, r: &mut Request) -> Filtered {
        let settings = r.location().settings::<Self>();
        if r.response.content_length == Some(0) || !settings.types.matches(&r.response) {
            return Filtered::Next;
        }
        let search = match &settings.search {
            Some(search) => Arc::clone(search),
            None => {
                let texts: Vec<_> = settings.pairs.iter().map(|pair| pair.text.value(r)).collect();
                let texts = texts.iter().map(|text| &**text).enumerate();
                Arc::new(Search::new(texts.filter(|(_, text)| !text.is_empty())))
            }
        };
        if search.is_empty() {
            return Filtered::Next;
        }
        let (pairs, once, keeps_time) = (settings.pairs.clone(), settings.once, settings.last_modified);
        if !r.is_subrequest {
            r.response.clear_content_length();
            if keeps_time {
                r.response.weaken_etag();
            } else {
                r.response.set_last_modified(None);
                r.response.headers.remove_known(Known::LastModified);
                r.response.headers.remove_known(Known::ETag);
            }
        }
        r.output.add_filter(Box::new(Substitute { pairs, state: State::new(search, once) }));
        Filtered::Next
    }
}

/// Replaces texts in one body.
struct Substitute {
    pairs: Lines<Pair>,
    state: State,
}

impl BodyFilter for Substitute {
    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
    ) -> io::Result<Taken> {
        let value_of = |pair: usize| self.pairs.get(pair).map(|pair| pair.replacement.value(r));
        Ok(self.state.take(input, output, more, |pair| value_of(pair).unwrap_or_default()))
    }
}

/// How far the search has come.
struct State {
    search: Arc<Search>,
    once: bool,
    /// Replacements by the number of their pair: computed once for an answer.
    values: Vec<Option<Vec<u8>>>,
    applied: usize,
    /// The end of what came in so far, which may be the beginning of a text.
    held: Vec<u8>,
}

impl State {
    fn new(search: Arc<Search>, once: bool) -> Self {
        let values = vec![None; search.pairs()];
        Self { search, once, values, applied: 0, held: Vec::new() }
    }

    fn take(
        &mut self,
        input: &mut Queue,
        output: &mut Queue,
        more: More,
        mut value_of: impl FnMut(usize) -> Vec<u8>,
    ) -> Taken {
        loop {
            let chunk = match input.pop() {
                Some(chunk) => chunk,
                None if more == More::End && !self.held.is_empty() => Chunk::copied(&[]),
                None => return Taken::All,
            };
            let end = if more == More::End && input.is_empty() { Text::Whole } else { Text::GoesOn };
            let chunk = if self.held.is_empty() { chunk } else { self.behind_held(&chunk) };
            if let Some(rest) = self.replace(chunk, end, output, &mut value_of) {
                input.push_front(rest);
                return Taken::Part;
            }
        }
    }

    /// What was held back and the next chunk as one.
    fn behind_held(&mut self, chunk: &Chunk) -> Chunk {
        let bytes = chunk.bytes().unwrap_or_default();
        let mut joined = Buf::with_capacity(self.held.len() + bytes.len());
        joined.extend_from_slice(&self.held);
        joined.extend_from_slice(bytes);
        self.held.clear();
        joined.into()
    }

    /// Replaces what is found in a chunk; hands back the rest of it when the output holds enough.
    fn replace(
        &mut self,
        mut chunk: Chunk,
        end: Text,
        output: &mut Queue,
        mut value_of: impl FnMut(usize) -> Vec<u8>,
    ) -> Option<Chunk> {
        let text = chunk.bytes().unwrap_or_default();
        let mut out = Buf::empty();
        let mut at = 0;
        loop {
            if self.once && self.applied == self.search.len() {
                break;
            }
            let (values, once) = (&self.values, self.once);
            let is_used = |pair: usize| once && values.get(pair).is_some_and(Option::is_some);
            match self.search.find(text, at, end, is_used) {
                Found::Nothing => break,
                Found::Beginning(start) => {
                    self.held.extend_from_slice(text.get(start..).unwrap_or_default());
                    out.reserve(start - at);
                    out.extend_from_slice(text.get(at..start).unwrap_or_default());
                    output.push(out.into());
                    return None;
                }
                Found::Match { start, length, pair } => {
                    let Some(value) = self.values.get_mut(pair) else { break };
                    let value = value.get_or_insert_with(|| value_of(pair));
                    out.reserve(start - at + value.len());
                    out.extend_from_slice(text.get(at..start).unwrap_or_default());
                    out.extend_from_slice(value);
                    at = start + length;
                    self.applied += 1;
                }
            }
            if out.len() as u64 >= ENOUGH {
                output.push(out.into());
                chunk.advance(at as u64);
                return (!chunk.is_empty()).then_some(chunk);
            }
        }
        output.push(out.into());
        chunk.advance(at as u64);
        output.push(chunk);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replaces in `text`, which comes in pieces of every size.
    fn check(pairs: &[(&str, &str)], once: bool, text: &str, expected: &str) {
        let texts = pairs.iter().map(|(text, _)| text.as_bytes()).enumerate();
        let search = Arc::new(Search::new(texts));
        for size in 1..=text.len().max(1) {
            let mut state = State::new(Arc::clone(&search), once);
            let (mut input, mut output) = (Queue::default(), Queue::default());
            let pieces = text.as_bytes().chunks(size).map(|piece| (piece, More::Later));
            for (piece, more) in pieces.chain([(&b""[..], More::End)]) {
                input.push(Chunk::copied(piece));
                let value_of = |pair: usize| pairs[pair].1.as_bytes().to_vec();
                assert_eq!(state.take(&mut input, &mut output, more, value_of), Taken::All);
            }
            let mut out = Vec::new();
            while let Some(chunk) = output.pop() {
                out.extend_from_slice(chunk.bytes().expect("memory"));
            }
            assert_eq!(String::from_utf8_lossy(&out), expected, "{pairs:?} in {text} by {size}");
        }
    }

    #[test]
    fn texts_are_replaced_however_they_are_cut() {
        check(&[("b", "x")], false, "abcb", "axcx");
        check(&[("b", "x")], true, "abcb", "axcb");
        check(&[("B", "x")], false, "abBb", "axxx");
        check(&[("aab", "x")], false, "aaaab aab aa", "aax x aa");
        check(&[("abc", "x"), ("b", "y")], false, "abd abc bc", "ayd x yc");
        check(&[("abc", "x"), ("ab", "y")], false, "ababcab", "yxy");
        check(&[("ab", "y"), ("abc", "x")], false, "ababc", "yyc");
        check(&[("a", ""), ("b", "a")], false, "abab", "aa");
        check(&[("a", "1"), ("b", "2")], true, "abab", "12ab");
        check(&[("a", "1"), ("A", "2")], true, "aaa", "12a");
        check(&[("long text", "x"), ("o", "y")], false, "long tex lo", "lyng tex ly");
        check(&[("x", "y")], false, "", "");
    }

    #[test]
    fn much_output_is_made_in_parts() {
        let search = Arc::new(Search::new([&b"a"[..]].into_iter().enumerate()));
        let mut state = State::new(search, false);
        let (mut input, mut output, mut length) = (Queue::default(), Queue::default(), 0);
        input.push(Chunk::copied(&[b'a'; 1000]));
        let mut rounds = 0;
        loop {
            let taken = state.take(&mut input, &mut output, More::End, |_| vec![b'x'; 1000]);
            assert!(output.len() < 2 * ENOUGH);
            length += output.len();
            output.clear();
            rounds += 1;
            if taken == Taken::All {
                break;
            }
        }
        assert_eq!(length, 1_000_000);
        assert!(rounds > 10);
    }
}
