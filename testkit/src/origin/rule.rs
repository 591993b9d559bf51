//! What a script says about an origin: which request gets which answer.
//!
//! Texts stay escaped until they are written; placeholders are replaced when the origin starts.

use crate::message::Message;
use crate::places::{PlaceError, Places};
use crate::text::glob;

/// On what an origin listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `@ORIGINn@`.
    Tcp,
    /// `unix:@OSOCKn@`.
    Unix,
}

/// What an origin speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/1.
    #[default]
    Http,
    /// FastCGI.
    Fastcgi,
    /// The uwsgi protocol.
    Uwsgi,
    /// SCGI.
    Scgi,
    /// memcached's text protocol; answers are raw texts.
    Memcached,
    /// DNS over UDP; texts are records.
    Dns,
    /// Nothing in particular: a connection is a request for `*`, and answers are raw texts.
    Tcp,
}

/// An origin as the script describes it.
#[derive(Debug, Clone)]
pub struct OriginSpec {
    /// Its number in the script.
    pub number: usize,
    /// On what it listens.
    pub door: Door,
    /// What it speaks.
    pub speech: Speech,
    /// Its rules; the first that matches counts. Without any it echoes.
    pub rules: Vec<Rule>,
}

/// Whether the request body is read before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// To its end.
    Read,
    /// Not at all.
    Early,
}

/// Which request gets which answer.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The method, any when `None`.
    pub method: Option<String>,
    /// The request target, with `*` for any text.
    pub target: String,
    /// Only the nth request for this target, counted from 1.
    pub nth: Option<usize>,
    /// Whether the body is read first.
    pub body: Body,
    /// What is done.
    pub acts: Vec<ReplyAct>,
}

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyAct {
    /// The status line behind the version; the head goes out here.
    Status(String),
    /// A header line.
    Header(String, String),
    /// A piece of the body.
    Text(String),
    /// So many bytes of [`crate::text::pattern`].
    Pattern(usize),
    /// A chunk; makes the answer chunked.
    Chunk(String),
    /// A trailer of a chunked answer.
    Trailer(String, String),
    /// The request as it was seen, as the body, without a `Connection: close`.
    Echo,
    /// Bytes as they are; of FastCGI's stdout.
    Raw(String),
    /// Bytes as they are, without any frame round them.
    Wire(String),
    /// Bytes of FastCGI's stderr.
    Stderr(String),
    /// Reads the request's body, where the answer began before it.
    Take,
    /// A pause in milliseconds.
    Wait(u64),
    /// Goes on when the script releases this name.
    Hold(String),
    /// Leaves the last chunk away.
    Unended,
    /// Leaves `Content-Length` away, the end of the connection is the end of the body.
    Lengthless,
    /// Closes the connection.
    Close,
    /// Says nothing more until the peer closes.
    Stall,
    /// Reads until this text has come; closes where it never does.
    Hear(String),
    /// Sends back whatever comes.
    Tunnel,
    /// Reads until the other side has said all.
    Drain,
}

impl Rule {
    /// Whether the rule is for this request, whatever its number.
    #[must_use]
    pub fn matches(&self, request: &Message) -> bool {
        let mut words = request.start.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        self.method.as_deref().is_none_or(|wanted| wanted == method)
            && glob(self.target.as_bytes(), target.as_bytes())
    }

    /// Under what requests for this rule are counted.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{} {}", self.method.as_deref().unwrap_or_default(), self.target)
    }
}

impl OriginSpec {
    /// The same with all placeholders replaced.
    ///
    /// # Errors
    /// An unknown placeholder.
    pub fn expanded(&self, places: &Places) -> Result<Self, PlaceError> {
        let mut spec = self.clone();
        for rule in &mut spec.rules {
            for act in &mut rule.acts {
                match act {
                    ReplyAct::Header(_, text)
                    | ReplyAct::Trailer(_, text)
                    | ReplyAct::Text(text)
                    | ReplyAct::Chunk(text)
                    | ReplyAct::Wire(text)
                    | ReplyAct::Stderr(text)
                    | ReplyAct::Raw(text) => *text = places.expand(text)?,
                    _ => {}
                }
            }
        }
        Ok(spec)
    }
}
