//! Reads a configuration and checks it against the schema in one pass, in the order of the text.
//!
//! So the first error in the text is the one reported, as in nginx (`ngx_conf_parse`, `ngx_conf_handler`).

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::hint::Hint;
use crate::lexer::{End, Lexer, Statement, Token};
use crate::resources::Resources;
use crate::row::{Body, FREE_LINE, INCLUDE, Repeat, Status};
use crate::schema::{Lookup, Schema};
use crate::sources::{Origin, Place, Source, Sources};
use crate::suggest::nearest;
use crate::tree::{Block, Directive, Order, Tree, Word};
use crate::{Contexts, Error, Fault, Level, Row, values};

/// Blocks in blocks; nginx has no limit, and none of its blocks needs ten.
const MAX_BLOCKS: usize = 64;

/// Reads `main_path` with all that it includes, the text of `-g` first.
///
/// `sources` receives every text that was read, also when the result is an error, which names places in them.
/// Relative includes start at the directory of `main_path`, which must be absolute.
///
/// # Errors
/// The first thing in the order of the text that nginx would refuse, or that is not supported here.
pub fn parse(
    main_path: &Path,
    schema: &Schema,
    resources: &mut dyn Resources,
    globals: Option<&str>,
    sources: &mut Sources,
) -> Result<Tree, Error> {
    match parse_as_far_as_good(main_path, schema, resources, globals, sources) {
        (tree, None) => Ok(tree),
        (_, Some(error)) => Err(error),
    }
}

/// As [`parse`]; where something is wrong, all that was read before it is there too, so that what is wrong with its
/// words can be told first.
pub fn parse_as_far_as_good(
    main_path: &Path,
    schema: &Schema,
    resources: &mut dyn Resources,
    globals: Option<&str>,
    sources: &mut Sources,
) -> (Tree, Option<Error>) {
    let prefix = main_path.parent().unwrap_or(Path::new("/")).to_owned();
    let mut parser = Parser {
        schema,
        resources,
        sources,
        prefix,
        files: Vec::new(),
        blocks: Vec::new(),
        suspect: None,
        notices: Vec::new(),
        noticed: HashSet::new(),
        order: Order::DEFAULT,
    };
    let mut scope = Scope::new(Inside::Block(Contexts::MAIN));
    let done = parser
        .globals(globals.unwrap_or_default(), &mut scope)
        .and_then(|()| parser.file(main_path, None, &mut scope));
    (Tree { directives: scope.directives, notices: parser.notices }, done.err())
}

pub(crate) struct Parser<'a> {
    pub(crate) schema: &'a Schema,
    pub(crate) resources: &'a mut dyn Resources,
    pub(crate) sources: &'a mut Sources,
    pub(crate) prefix: PathBuf,
    /// The files that are being read, each included by the one before.
    pub(crate) files: Vec<PathBuf>,
    blocks: Vec<Open>,
    suspect: Option<Hint>,
    notices: Vec<Error>,
    noticed: HashSet<&'static str>,
    /// When the last directive was read.
    order: Order,
}

/// A block that is being read.
struct Open {
    name: String,
    place: Place,
    /// Bytes of blank space in front of the line; `None` where the words of its directive take several lines.
    indent: Option<u32>,
}

/// What the lines of a scope are.
#[derive(Clone, Copy)]
enum Inside {
    Block(Contexts),
    Free,
}

/// The directives of one block so far; an included file adds to the scope around it.
pub(crate) struct Scope {
    inside: Inside,
    once: Vec<&'static str>,
    directives: Vec<Directive>,
}

impl Scope {
    fn new(inside: Inside) -> Self {
        Self { inside, once: Vec::new(), directives: Vec::new() }
    }
}

/// What kind of text is being read, and so what its end means (`parse_file`, `parse_block`, `parse_param`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    File,
    Block,
    CommandLine,
}

impl Parser<'_> {
    fn globals(&mut self, text: &str, scope: &mut Scope) -> Result<(), Error> {
        if text.is_empty() {
            return Ok(());
        }
        let bytes: Arc<[u8]> = Arc::from(text.as_bytes());
        let source = Source {
            path: PathBuf::from("command line"),
            text: Arc::clone(&bytes),
            origin: Origin::CommandLine,
            included_from: None,
        };
        let id = self.sources.add(source);
        self.statements(&mut Lexer::new(&bytes, id, Origin::CommandLine), Text::CommandLine, scope)?;
        Ok(())
    }

    /// Reads statements up to the end of the text or block; the place of the block's `}`.
    pub(crate) fn statements(
        &mut self,
        lexer: &mut Lexer<'_>,
        text: Text,
        scope: &mut Scope,
    ) -> Result<Option<Place>, Error> {
        loop {
            match lexer.next_token()? {
                Token::BlockEnd(place) if text == Text::Block => return Ok(Some(place)),
                Token::BlockEnd(place) => return Err(Error::fault_in(place, Fault::Unexpected("}".into()))),
                Token::TextEnd(place) if text == Text::Block => return Err(self.end_in_block(place)),
                Token::TextEnd(_) => return Ok(None),
                Token::Statement(statement) => {
                    if statement.end == End::Brace && text == Text::CommandLine {
                        return Err(Error::fault_in(statement.end_place, Fault::BlockInCommandLine));
                    }
                    match scope.inside {
                        Inside::Free => self.free_line(statement, scope)?,
                        Inside::Block(context) => self.directive(statement, context, lexer, scope)?,
                    }
                }
            }
        }
    }

    fn free_line(&mut self, statement: Statement, scope: &mut Scope) -> Result<(), Error> {
        if statement.end == End::Brace {
            let error = Error::fault_in(statement.end_place, Fault::Unexpected("{".into()));
            return Err(error.with_hint_if_none(|| self.unclosed()));
        }
        if statement.name.is(INCLUDE.name) && statement.args.len() == 1 {
            return self.include(&statement, scope);
        }
        scope.directives.push(finish(statement, &FREE_LINE, self.order));
        Ok(())
    }

    fn directive(
        &mut self,
        statement: Statement,
        context: Contexts,
        lexer: &mut Lexer<'_>,
        scope: &mut Scope,
    ) -> Result<(), Error> {
        self.order.0 += 1;
        let row = self.checked_row(&statement, context, scope)?;
        if std::ptr::eq(row, &INCLUDE) {
            return self.include(&statement, scope);
        }
        let inside = match row.body {
            Body::None => {
                scope.directives.push(finish(statement, row, self.order));
                return Ok(());
            }
            Body::Block(context) => Inside::Block(context),
            Body::Free => Inside::Free,
        };
        if self.blocks.len() == MAX_BLOCKS {
            return Err(Error::fault_at(&statement.name, Fault::TooManyBlocks(MAX_BLOCKS)));
        }
        let place = statement.name.place;
        let indent = (place.line == statement.end_place.line).then(|| lexer.indent());
        self.blocks.push(Open { name: statement.name.as_str().into_owned(), place, indent });
        let mut directive = finish(statement, row, self.order);
        let mut body = Scope::new(inside);
        let end = self.statements(lexer, Text::Block, &mut body);
        let close = end.as_ref().ok().copied().flatten();
        let mut closed = Order::NEVER;
        if let Some(place) = close {
            self.order.0 += 1;
            closed = self.order;
            self.close_block(place, lexer.indent());
        }
        directive.block = Some(Box::new(Block { directives: body.directives, close, closed }));
        scope.directives.push(directive);
        end.map(|_| ())
    }

    /// The row that allows the statement, after every check that needs no setter.
    fn checked_row(
        &mut self,
        statement: &Statement,
        context: Contexts,
        scope: &mut Scope,
    ) -> Result<&'static Row, Error> {
        let name = statement.name.as_str();
        let fail =
            |fault: fn(String) -> Fault| Error::fault_at(&statement.name, fault(name.clone().into_owned()));
        let swallowed = || Hint::swallowed(&statement.name, &statement.args, self.schema);
        let (row, registered) = match self.schema.lookup(&name, context) {
            Lookup::Registered(row) => (row, true),
            Lookup::Documented(row) => (row, false),
            Lookup::Elsewhere(contexts) => {
                let hint =
                    Hint::BelongsIn { name: name.clone().into_owned(), contexts: contexts.akin_to(context) };
                return Err(fail(Fault::NotAllowedHere).with_hint(self.unclosed().unwrap_or(hint)));
            }
            Lookup::Unknown => {
                return Err(
                    fail(Fault::UnknownDirective).with_hint_if_none(|| unknown(&name, context, self.schema))
                );
            }
        };
        match (row.body, statement.end) {
            (Body::None, End::Brace) => return Err(fail(Fault::NotTerminated).with_hint_if_none(swallowed)),
            (Body::Block(_) | Body::Free, End::Semicolon) => {
                return Err(fail(Fault::NoOpeningBrace).with_hint_if_none(swallowed));
            }
            _ => {}
        }
        if !row.arity.allows(statement.args.len()) {
            return Err(fail(Fault::ArgumentCount).with_hint_if_none(swallowed));
        }
        if !registered {
            return Err(fail(Fault::NotYet));
        }
        if row.repeat == Repeat::Once {
            if scope.once.contains(&row.name) {
                return Err(fail(Fault::Duplicate));
            }
            scope.once.push(row.name);
        }
        if let (true, Some(value)) = (row.arity.is_flag(), statement.args.first()) {
            values::flag_of(&statement.name, value)?;
        }
        self.admit(row, &statement.name)?;
        Ok(row)
    }

    /// Applies the row's status: some directives are refused by name, some are noticed once.
    fn admit(&mut self, row: &'static Row, word: &Word) -> Result<(), Error> {
        let name = || row.name.to_owned();
        match row.status {
            Status::Works => Ok(()),
            Status::NotYet => Err(Error::fault_at(word, Fault::NotYet(name()))),
            Status::Refused(reason) => Err(Error::fault_at(word, Fault::Refused { name: name(), reason })),
            Status::NoEffect(reason) => {
                if self.noticed.insert(row.name) {
                    let notice = Error::fault_at(word, Fault::NoEffect { name: name(), reason });
                    self.notices.push(notice.with_level(Level::Notice).found(self.order));
                }
                Ok(())
            }
        }
    }

    /// Leaves a block. A `}` that begins its line further to the left than the block's line does
    /// probably belongs to a block outside, so the block is remembered as the one without a `}`.
    fn close_block(&mut self, close: Place, indent: u32) {
        let Some(open) = self.blocks.pop() else { return };
        let further_left = open.indent.is_some_and(|opened| indent < opened);
        if self.suspect.is_none() && close.column == indent.saturating_add(1) && further_left {
            self.suspect = Some(Hint::UnclosedBlock { name: open.name, opened: open.place });
        }
    }

    /// The block that probably lacks its `}`, where the indentation tells it.
    fn unclosed(&self) -> Option<Hint> {
        self.suspect.clone()
    }

    fn end_in_block(&self, place: Place) -> Error {
        Error::fault_in(place, Fault::EndInBlock).with_hint_if_none(|| {
            let innermost = || {
                let open = self.blocks.last()?;
                Some(Hint::UnclosedBlock { name: open.name.clone(), opened: open.place })
            };
            self.unclosed().or_else(innermost)
        })
    }
}

fn finish(statement: Statement, row: &'static Row, order: Order) -> Directive {
    let Statement { name, args, .. } = statement;
    Directive { name, args, block: None, row, order }
}

/// What nginx knew once and configurations still say, and what to write instead.
const REMOVED: [(&str, &str); 2] = [
    ("ssl", "nginx 1.25.1 removed it; write `listen 443 ssl` instead"),
    ("limit_zone", "nginx 1.7.6 removed it; write `limit_conn_zone` instead"),
];

fn unknown(name: &str, context: Contexts, schema: &Schema) -> Option<Hint> {
    if name.starts_with('\u{feff}') {
        return Some(Hint::Text("the file begins with a byte order mark; save it without".into()));
    }
    if let Some((_, what)) = REMOVED.iter().find(|(removed, _)| *removed == name) {
        return Some(Hint::Text((*what).to_owned()));
    }
    nearest(name, context, schema).map(|known| Hint::DidYouMean(known.to_owned()))
}

#[cfg(test)]
mod malformed;
#[cfg(test)]
mod tests;
