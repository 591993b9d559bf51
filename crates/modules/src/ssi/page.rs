//! One page on its way out: its text passes, its commands are obeyed.

use std::ffi::CString;
use std::io;
use std::ops::Range;

use http::chunk::{Chunk, Queue};
use http::filters::{BodyFilter, ENOUGH, More, Sees, Taken, Wait};
use http::request::Request;
use os::errlog::Level;

use super::command::{self, Branch, Name};
use super::common::{Common, TooMuch};
use super::condition;
use super::dates::Format;
use super::include::include;
use super::parse::{Command, Found, Parser, shown};
use super::text::{Base, Encoding, Fault, evaluate, variable};
use super::{Ssi, SsiSettings};

/// Bytes of a file that are looked at at once.
const PIECE: u64 = 64 << 10;
/// What a command that fails leaves in the page.
const ERROR: &[u8] = b"[an error occurred while processing the directive]";

/// Where text of the page goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// To the client.
    Out,
    /// Nowhere: this branch was not chosen.
    Nowhere,
    /// Into a block.
    Block,
}

/// The filter of one page.
pub(super) struct Page {
    parser: Parser,
    piece: Option<Piece>,
    place: Place,
    branch: Branch,
    /// A branch of this `if` was chosen already.
    is_chosen: bool,
    encoding: Encoding,
    error: Vec<u8>,
    min_file_chunk: u64,
    wait: Option<Wait>,
}

/// A part of the page that is being looked at.
struct Piece {
    /// As it came in: a part of a file, or bytes.
    chunk: Chunk,
    /// Its bytes, where it is a part of a file.
    read: Option<Chunk>,
    at: usize,
    /// Text that was found and not passed on yet.
    text: Range<usize>,
}

impl Piece {
    fn new(chunk: Chunk) -> io::Result<Self> {
        let read = match &chunk {
            Chunk::File { file, offset, end } => {
                Some(Chunk::File { file: file.clone(), offset: *offset, end: *end }.into_memory()?)
            }
            _ => None,
        };
        Ok(Self { chunk, read, at: 0, text: 0..0 })
    }

    fn bytes(&self) -> &[u8] {
        self.read.as_ref().unwrap_or(&self.chunk).bytes().unwrap_or_default()
    }

    /// The text that was found, as a chunk of its own.
    fn take_text(&mut self, min_file_chunk: u64) -> Option<Chunk> {
        let text = std::mem::replace(&mut self.text, 0..0);
        let (start, end) = (text.start as u64, text.end as u64);
        if start == end {
            return None;
        }
        let source = match &self.read {
            Some(read) if end - start <= min_file_chunk => read,
            _ => &self.chunk,
        };
        Some(source.part(start, end))
    }
}

impl Page {
    pub fn new(settings: &SsiSettings) -> Self {
        Self {
            parser: Parser::new(settings.value_length),
            piece: None,
            place: Place::Out,
            branch: Branch::None,
            is_chosen: false,
            encoding: Encoding::default(),
            error: ERROR.to_vec(),
            min_file_chunk: settings.min_file_chunk,
            wait: None,
        }
    }

    /// Takes the next piece of the page; says whether there is one.
    fn load(&mut self, input: &mut Queue) -> io::Result<bool> {
        if self.piece.is_some() {
            return Ok(true);
        }
        let Some(mut chunk) = input.pop() else { return Ok(false) };
        if matches!(chunk, Chunk::File { .. }) && chunk.len() > PIECE {
            let front = chunk.split_front(PIECE);
            input.push_front(chunk);
            chunk = front;
        }
        self.piece = Some(Piece::new(chunk)?);
        Ok(true)
    }

    /// Goes through the piece at hand up to its end or to a command that has to be waited for.
    fn go_on(&mut self, r: &mut Request, output: &mut Queue) -> io::Result<()> {
        while let Some(mut piece) = self.piece.take() {
            let mut at = piece.at;
            let found = self.parser.next(piece.bytes(), &mut at);
            piece.at = at;
            if let Found::Text(range) = &found
                && (range.start == piece.text.end || piece.text.is_empty())
            {
                let start = if piece.text.is_empty() { range.start } else { piece.text.start };
                piece.text = start..range.end;
                self.piece = Some(piece);
                continue;
            }
            self.pass_text(r, &mut piece, output)?;
            match found {
                Found::End => return Ok(()),
                Found::Text(range) => piece.text = range,
                Found::Held(text) => self.put(r, Chunk::Static(text), output)?,
                Found::Fault(sentence) => r.log(Level::Error, format_args!("{sentence}")),
                Found::Bad => self.put_error(r, output),
                Found::Command(command) => {
                    self.obey(r, &command, output)?;
                    if self.wait.is_some() {
                        self.piece = Some(piece);
                        return Ok(());
                    }
                }
            }
            self.piece = Some(piece);
        }
        Ok(())
    }

    fn pass_text(&self, r: &mut Request, piece: &mut Piece, output: &mut Queue) -> io::Result<()> {
        match piece.take_text(self.min_file_chunk) {
            Some(chunk) => self.put(r, chunk, output),
            None => Ok(()),
        }
    }

    fn put(&self, r: &mut Request, chunk: Chunk, output: &mut Queue) -> io::Result<()> {
        match self.place {
            Place::Out => output.push(chunk),
            Place::Nowhere => {}
            Place::Block => {
                let chunk = chunk.into_memory()?;
                let done = Common::of(r).add_to_block(chunk.bytes().unwrap_or_default());
                done.map_err(|TooMuch| too_much(r, "blocks"))?;
            }
        }
        Ok(())
    }

    fn put_error(&self, r: &Request, output: &mut Queue) {
        if !r.location().settings::<Ssi>().is_silent {
            output.push(Chunk::copied(&self.error));
        }
    }

    fn obey(&mut self, r: &mut Request, command: &Command, output: &mut Queue) -> io::Result<()> {
        let Some(name) = command::find(&command.name) else {
            if self.place == Place::Out {
                r.log(Level::Error, format_args!("invalid SSI command: \"{}\"", shown(&command.name)));
                self.put_error(r, output);
            }
            return Ok(());
        };
        match self.place {
            Place::Block if name != Name::Endblock => {
                let mut text = Vec::new();
                command.write(&mut text);
                let done = Common::of(r).add_to_block(&text);
                return done.map_err(|TooMuch| too_much(r, "blocks"));
            }
            Place::Nowhere if !name.is_conditional() && name != Name::Endblock => return Ok(()),
            _ => {}
        }
        if let Err(sentence) = command::check(name, command, self.branch) {
            r.log(Level::Error, format_args!("{sentence}"));
            self.put_error(r, output);
            return Ok(());
        }
        if self.run(r, name, command, output).is_err() {
            self.put_error(r, output);
        }
        Ok(())
    }

    fn run(
        &mut self,
        r: &mut Request,
        name: Name,
        command: &Command,
        output: &mut Queue,
    ) -> Result<(), Fault> {
        match name {
            Name::Include => self.wait = include(r, command, output)?,
            Name::Echo => self.echo(r, command, output),
            Name::Config => self.configure(r, command),
            Name::Set => set(r, command)?,
            Name::If | Name::Elif => self.choose(r, name, command)?,
            Name::Else => {
                self.place = if self.is_chosen { Place::Nowhere } else { Place::Out };
                self.branch = Branch::Else;
            }
            Name::Endif => {
                self.place = Place::Out;
                self.is_chosen = false;
                self.branch = Branch::None;
            }
            Name::Block => {
                let begun = Common::of(r).begin_block(command.value(b"name").unwrap_or_default());
                begun.map_err(|TooMuch| {
                    r.log(Level::Error, format_args!("too many SSI blocks"));
                    Fault
                })?;
                self.place = Place::Block;
            }
            Name::Endblock => self.place = Place::Out,
        }
        Ok(())
    }

    fn choose(&mut self, r: &mut Request, name: Name, command: &Command) -> Result<(), Fault> {
        if name == Name::If && self.branch != Branch::None {
            r.log(Level::Error, format_args!("the \"if\" command inside the \"if\" command"));
            return Err(Fault);
        }
        if self.is_chosen {
            self.place = Place::Nowhere;
            return Ok(());
        }
        let holds = condition::holds(r, command.value(b"expr").unwrap_or_default())?;
        self.is_chosen = holds;
        self.place = if holds { Place::Out } else { Place::Nowhere };
        self.branch = Branch::If;
        Ok(())
    }

    fn echo(&mut self, r: &mut Request, command: &Command, output: &mut Queue) {
        let name = command.value(b"var").unwrap_or_default().to_ascii_lowercase();
        let value = match variable(r, &name) {
            Some(value) => value,
            None => command.value(b"default").unwrap_or(b"(none)").to_vec(),
        };
        if value.is_empty() {
            return;
        }
        if let Some(name) = command.value(b"encoding") {
            match Encoding::named(name) {
                // It stays for those that follow, as in nginx.
                Some(encoding) => self.encoding = encoding,
                None => {
                    let name = shown(name);
                    r.log(Level::Error, format_args!("unknown encoding \"{name}\" in the \"echo\" command"));
                }
            }
        }
        output.push(Chunk::copied(&self.encoding.apply(value)));
    }

    fn configure(&mut self, r: &mut Request, command: &Command) {
        if let Some(format) = command.value(b"timefmt").and_then(|format| CString::new(format).ok()) {
            r.contexts.put(Format(format));
        }
        if let Some(error) = command.value(b"errmsg") {
            self.error = error.to_vec();
        }
    }
}

fn set(r: &mut Request, command: &Command) -> Result<(), Fault> {
    let value = evaluate(r, command.value(b"value").unwrap_or_default(), Base::None)?;
    let name = command.value(b"var").unwrap_or_default().to_ascii_lowercase();
    let done = Common::of(r).set(&name, &value);
    done.map_err(|TooMuch| {
        r.log(Level::Error, format_args!("too much for the SSI variable \"{}\"", shown(&name)));
        Fault
    })
}

fn too_much(r: &Request, what: &str) -> io::Error {
    r.log(Level::Error, format_args!("too much in SSI {what}"));
    io::ErrorKind::InvalidData.into()
}

impl BodyFilter for Page {
    fn sees(&self) -> Sees {
        Sees::Chunks
    }

    fn filter(
        &mut self,
        r: &mut Request,
        input: &mut Queue,
        output: &mut Queue,
        _: More,
    ) -> io::Result<Taken> {
        if let Some(Wait::End(subrequest)) = self.wait.take()
            && subrequest.has_failed()
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        while self.load(input)? {
            self.go_on(r, output)?;
            if let Some(wait) = &self.wait {
                return Ok(Taken::Until(wait.clone()));
            }
            if output.len() >= ENOUGH && !input.is_empty() {
                return Ok(Taken::Part);
            }
        }
        Ok(Taken::All)
    }
}
