//! A scenario's script: what it says, as types. `scenarios/README.md` describes the format.
//!
//! Everything is parsed when the scenario is loaded, so a slip in a script is found before anything runs.

mod acts;
mod parse;

use std::path::{Path, PathBuf};

use crate::message::Framing;
use crate::origin::{Door, OriginSpec};
use crate::process::Kind;

/// A scenario: a folder with `script`, mostly `nginx.conf`, and maybe further configurations.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The name of its folder.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// How it stands to nginx.
    pub oracle: Oracle,
    /// Texts that make an alarming line of the error log acceptable.
    pub allowed: Vec<String>,
    /// What must be installed: a command that succeeds then.
    pub needs: Vec<Need>,
    /// Headers that are not compared with the oracle's.
    pub volatile: Vec<String>,
    /// The origins.
    pub origins: Vec<OriginSpec>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// Something that a scenario cannot do without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// A command that succeeds where it is there.
    pub command: Vec<String>,
    /// What installs it, for the one who reads that the scenario was skipped.
    pub install: String,
}

/// How a scenario stands to nginx.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Oracle {
    /// Answers alike.
    Same,
    /// Answers otherwise, on purpose, for this reason.
    Differs(String),
    /// Is needed in this version at least.
    Needs((u32, u32, u32)),
    /// Has no such module as it is distributed, so it is not asked.
    Lacks(String),
}

/// Whether a step is tried again until it succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It must succeed at once.
    Once,
    /// It may be tried for some seconds.
    Eventually,
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it stands in the script, from 1.
    pub line: usize,
    /// Its first line.
    pub text: String,
    /// Only on this program.
    pub only: Option<Kind>,
    /// Whether it is tried again.
    pub patience: Patience,
    /// What it does.
    pub kind: StepKind,
    /// Its lines, in order.
    pub acts: Vec<Act>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepKind {
    /// Talks to the server.
    Talk {
        /// The connection's name; a connection without a name ends with the step.
        on: Option<String>,
        /// The address; `@ADDR1@` when not given.
        to: Option<String>,
        /// The request; `None` when the lines hold raw bytes.
        request: Option<RequestLine>,
    },
    /// Closes a named connection.
    Close(String),
    /// Writes a file.
    File {
        /// Relative to the root.
        path: String,
        /// Its permissions, octal.
        mode: u32,
        /// When it was changed, in seconds since 1970.
        mtime: u64,
    },
    /// Makes a folder.
    Dir {
        /// Relative to the root.
        path: String,
        /// Its permissions, octal.
        mode: u32,
    },
    /// Makes a symbolic link.
    Link {
        /// Relative to the root.
        path: String,
        /// Where it points.
        target: String,
    },
    /// Renames a file.
    Rename(String, String),
    /// Removes a file.
    Remove(String),
    /// Starts a real program in the place of an origin; it ends with the run.
    Program {
        /// The origin's number.
        number: usize,
        /// What it must listen on.
        door: Door,
        /// The command and its arguments.
        command: Vec<String>,
    },
    /// Checks that a file exists.
    Exists(String),
    /// Checks that a file does not exist.
    Missing(String),
    /// Starts the server; it is started before the first step that needs it otherwise.
    Start,
    /// Replaces the configuration by another file of the scenario.
    Config(String),
    /// Runs the binary with `-t`.
    Test {
        /// A file of the scenario; otherwise the lines are the configuration.
        file: Option<String>,
        /// Whether the prelude is added.
        prelude: Prelude,
    },
    /// Runs the binary with arguments.
    Run(Vec<String>),
    /// Runs a real client to its end.
    Client(Vec<String>),
    /// Sends a signal.
    Signal {
        /// Its name as `kill` knows it.
        name: String,
        /// To whom.
        to: Addressee,
    },
    /// Waits for the server's end.
    WaitExit,
    /// Checks a log file, waiting for what must be there.
    Log(String),
    /// Waits until origins saw so many requests since the start.
    Await(usize),
    /// Lets held replies go on.
    Release(String),
    /// Stops an origin.
    OriginDown(usize),
    /// Starts it again.
    OriginUp(usize),
}

/// Whether a configuration gets the lines that all need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prelude {
    /// Yes.
    Added,
    /// No: the file is used as it stands.
    Bare,
}

/// Who gets a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressee {
    /// The process that was started.
    Master,
    /// The first of its children.
    Worker,
}

/// A request line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLine {
    /// The method.
    pub method: String,
    /// The target as sent.
    pub target: String,
    /// `HTTP/1.1` or what the script says.
    pub version: String,
}

/// One line of a step.
#[derive(Debug, Clone)]
pub struct Act {
    /// Where it stands in the script, from 1.
    pub line: usize,
    /// The line.
    pub text: String,
    /// Only on this program.
    pub only: Option<Kind>,
    /// What it says.
    pub kind: ActKind,
}

/// What a line of a step says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActKind {
    /// Something is sent.
    Send(Send),
    /// Something is expected from the server.
    Expect(Expect),
    /// Something is expected to have been seen by an origin.
    Saw(Saw),
    /// A line of a file.
    Text(String),
    /// The whole of a file, escaped.
    Whole(String),
    /// A generated file.
    Pattern(usize),
    /// A file as it lies beside the script.
    From(String),
    /// Something is expected in a log.
    Log(LogExpect),
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Send {
    /// A header of a request.
    Header(String, String),
    /// Leaves away a header that would be added.
    NoHeader(String),
    /// The body.
    Body(String),
    /// A chunk of the body.
    Chunk(String),
    /// A generated body, or generated bytes in a raw step.
    Pattern(usize),
    /// Bytes and CRLF.
    Line(String),
    /// Bytes.
    Bytes(String),
    /// A pause in milliseconds, so that two writes arrive apart.
    Pause(u64),
    /// Closes the sending half.
    End,
    /// Gives up the stream.
    Reset,
}

/// What is expected from the server or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// The next answer has this status, and this reason if given.
    Status(u16, Option<String>),
    /// The answer is one of HTTP/0.9: no head.
    Http09,
    /// The protocol of the status line.
    Version(String),
    /// A header has a value that the glob matches.
    Header(String, String),
    /// A header is there.
    Present(String),
    /// A header is not there.
    Absent(String),
    /// A header is there so often.
    Count(String, usize),
    /// The names of all headers, in order.
    Names(Vec<String>),
    /// The body is this.
    Body(String),
    /// The body contains this.
    Has(String),
    /// The body does not contain this.
    Lacks(String),
    /// The glob matches the body.
    Like(String),
    /// The body has so many bytes.
    Length(usize),
    /// The body is generated.
    Pattern(usize),
    /// The body is that of a file under the root.
    File(String),
    /// The body is the gzip coding of this.
    Gunzip(String),
    /// How the body is framed.
    Framing(Framing),
    /// A trailer has a value that the glob matches.
    Trailer(String, String),
    /// The body is cut off before its end.
    Truncated,
    /// The server closes.
    Closed,
    /// The server closes in order: whoever is still sending does not lose the answer.
    Ended,
    /// The server does not close.
    Open,
    /// There is no connection, for this reason among others: the handshake fails.
    Refused(String),
    /// The server closes without a byte.
    Nothing,
    /// These bytes come next.
    Bytes(String),
    /// The step took no longer, in milliseconds.
    Within(u64),
    /// The step took no less, in milliseconds.
    After(u64),
    /// The exit code.
    Exit(i32),
    /// A line of stderr contains what the glob matches.
    Stderr(String),
    /// A line of stdout contains what the glob matches.
    Stdout(String),
    /// Nothing was written on stderr.
    Silent,
}

/// What an origin must have seen in the step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saw {
    /// The request line.
    Line(String),
    /// A header has a value that the glob matches.
    Header(String, String),
    /// A header was not there.
    Absent(String),
    /// A header was there so often.
    Count(String, usize),
    /// The names of all headers, in order.
    Names(Vec<String>),
    /// The body.
    Body(String),
    /// The body is generated.
    Pattern(usize),
    /// How the body was framed.
    Framing(Framing),
    /// So many requests came.
    Requests(usize),
    /// The lines below speak of the nth request of the step.
    Select(usize),
    /// At which origin the request came.
    At(usize),
    /// At which origins the requests of the step came, in order.
    Order(Vec<usize>),
    /// It came on a connection that had served before.
    Reused,
    /// It came on a new connection.
    Fresh,
}

/// What a log must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogExpect {
    /// A line contains what the glob matches.
    Has(String),
    /// No line does.
    Lacks(String),
    /// The glob matches a whole line.
    Line(String),
    /// So many lines contain what the glob matches.
    Count(usize, String),
}

/// What is wrong with a scenario's files.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// A line is not understood.
    #[error("script:{line}: {what}: {text}")]
    Line {
        /// The line's number.
        line: usize,
        /// The reason.
        what: String,
        /// The line.
        text: String,
    },
    /// A file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        error: std::io::Error,
    },
}

impl Scenario {
    /// Loads the scenario of a folder.
    ///
    /// # Errors
    /// See [`ScriptError`].
    pub fn load(folder: &Path) -> Result<Self, ScriptError> {
        let path = folder.join("script");
        let text = std::fs::read_to_string(&path).map_err(|error| ScriptError::File { path, error })?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        parse::scenario(name, folder.to_owned(), &text)
    }
}
