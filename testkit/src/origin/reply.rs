//! Writing a scripted answer.
//!
//! Head and body leave in one write unless the script pauses between them.

use std::io::Write;
use std::time::Duration;

use super::{After, Connection, PATIENCE, ReplyAct, Speech};
use crate::message::{Message, Role, WireError};
use crate::text::{pattern, unescape};

impl Connection<'_> {
    pub(super) fn reply(&mut self, request: &Message, acts: &[ReplyAct]) -> Result<After, WireError> {
        let mut out = Vec::new();
        let head_only = request.start.starts_with("HEAD ");
        let plan = Plan::of(acts, request, self.spec.speech);
        for act in &plan.acts {
            match act {
                ReplyAct::Status(status) => out.extend_from_slice(plan.head(status).as_bytes()),
                ReplyAct::Text(_) | ReplyAct::Pattern(_) | ReplyAct::Echo if !head_only => {
                    out.extend_from_slice(&piece(act, request));
                }
                ReplyAct::Chunk(_) if !head_only => {
                    let bytes = piece(act, request);
                    out.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
                    out.extend_from_slice(&bytes);
                    out.extend_from_slice(b"\r\n");
                }
                ReplyAct::Raw(text) => out.extend_from_slice(&unescape(text).unwrap_or_default()),
                ReplyAct::Wire(text) => {
                    self.flush(&mut out)?;
                    self.stream.write_all(&unescape(text).unwrap_or_default())?;
                }
                ReplyAct::Stderr(text) => {
                    self.flush(&mut out)?;
                    self.stderr(&unescape(text).unwrap_or_default())?;
                }
                ReplyAct::Take => {
                    self.flush(&mut out)?;
                    self.reader.begin();
                    self.reader.body(&mut request.clone(), Role::Request)?;
                }
                ReplyAct::Wait(ms) => {
                    self.flush(&mut out)?;
                    std::thread::sleep(Duration::from_millis(*ms));
                }
                ReplyAct::Hold(name) => {
                    self.flush(&mut out)?;
                    self.shared.wait(PATIENCE, |state| state.over || state.released.contains(name));
                }
                ReplyAct::Close => {
                    self.flush(&mut out)?;
                    return Ok(After::Close);
                }
                ReplyAct::Stall => {
                    self.flush(&mut out)?;
                    self.reader.begin();
                    self.reader.rest()?;
                    return Ok(After::Close);
                }
                ReplyAct::Drain => {
                    self.flush(&mut out)?;
                    self.reader.begin();
                    self.reader.rest()?;
                }
                ReplyAct::Hear(text) => {
                    self.flush(&mut out)?;
                    if !self.hear(&unescape(text).unwrap_or_default())? {
                        return Ok(After::Close);
                    }
                }
                ReplyAct::Tunnel => {
                    self.flush(&mut out)?;
                    return self.tunnel();
                }
                _ => {}
            }
        }
        if plan.chunked && !head_only && !plan.acts.contains(&ReplyAct::Unended) {
            out.extend_from_slice(b"0\r\n");
            for act in &plan.acts {
                if let ReplyAct::Trailer(name, value) = act {
                    out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
                }
            }
            out.extend_from_slice(b"\r\n");
        }
        self.flush(&mut out)?;
        self.gateway_end()?;
        Ok(plan.after(request))
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), WireError> {
        self.wrapped(out)?;
        out.clear();
        Ok(())
    }

    /// Reads until a text has come; says whether it has.
    fn hear(&mut self, wanted: &[u8]) -> Result<bool, WireError> {
        let mut heard = Vec::new();
        while !heard.windows(wanted.len().max(1)).any(|part| part == wanted) {
            self.reader.begin();
            let bytes = self.reader.some()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            heard.extend_from_slice(&bytes);
        }
        Ok(true)
    }

    fn tunnel(&mut self) -> Result<After, WireError> {
        loop {
            self.reader.begin();
            let bytes = self.reader.some()?;
            if bytes.is_empty() {
                return Ok(After::Close);
            }
            self.stream.write_all(&bytes)?;
        }
    }
}

/// An answer whose head can be written.
struct Plan {
    acts: Vec<ReplyAct>,
    chunked: bool,
    length: Option<usize>,
    speech: Speech,
}

impl Plan {
    fn of(acts: &[ReplyAct], request: &Message, speech: Speech) -> Self {
        let mut acts = acts.to_vec();
        let speaks = |act: &ReplyAct| {
            matches!(act, ReplyAct::Status(_) | ReplyAct::Raw(_) | ReplyAct::Close | ReplyAct::Stall)
                || matches!(act, ReplyAct::Wire(_))
        };
        // Without a status line of its own an answer is a 200, after the pauses that stand first.
        let body =
            |act: &ReplyAct| !matches!(act, ReplyAct::Wait(_) | ReplyAct::Hold(_) | ReplyAct::Stderr(_));
        let first = acts.iter().position(body).unwrap_or(acts.len());
        let headless = !acts.iter().any(|act| matches!(act, ReplyAct::Status(_) | ReplyAct::Raw(_)));
        if speech != Speech::Tcp && headless && !acts.get(first).is_some_and(speaks) {
            acts.insert(first, ReplyAct::Status("200 OK".into()));
        }
        let chunked = acts.iter().any(|act| matches!(act, ReplyAct::Chunk(_)));
        let own =
            acts.iter().any(|act| matches!(act, ReplyAct::Lengthless) || is_header(act, "Content-Length"));
        let bodiless = acts.iter().any(|act| {
            matches!(act, ReplyAct::Status(s) if s.starts_with("204") || s.starts_with("304") || s.starts_with('1'))
        });
        let length = acts.iter().map(|act| piece_length(act, request)).sum();
        let length = (!chunked && !own && !bodiless).then_some(length);
        Self { acts, chunked, length, speech }
    }

    fn head(&self, status: &str) -> String {
        let mut head = match self.speech {
            Speech::Http => format!("HTTP/1.1 {status}\r\n"),
            _ => format!("Status: {status}\r\n"),
        };
        for act in &self.acts {
            if let ReplyAct::Header(name, value) = act {
                head.push_str(&format!(
                    "{name}: {}\r\n",
                    crate::text::latin1(&unescape(value).unwrap_or_default())
                ));
            }
        }
        if let Some(length) = self.length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        if self.chunked && !self.acts.iter().any(|act| is_header(act, "Transfer-Encoding")) {
            head.push_str("Transfer-Encoding: chunked\r\n");
        }
        head + "\r\n"
    }

    fn after(&self, request: &Message) -> After {
        match self.speech {
            Speech::Http | Speech::Dns => {}
            Speech::Memcached => return After::Keep,
            Speech::Fastcgi if request.start.ends_with("+keep") => return After::Keep,
            Speech::Fastcgi | Speech::Uwsgi | Speech::Scgi | Speech::Tcp => return After::Close,
        }
        let connection = request.header("Connection").unwrap_or_default().to_lowercase();
        let old = request.start.ends_with("HTTP/1.0") && connection != "keep-alive";
        if self.acts.contains(&ReplyAct::Lengthless) || old || connection == "close" {
            After::Close
        } else {
            After::Keep
        }
    }
}

fn is_header(act: &ReplyAct, wanted: &str) -> bool {
    matches!(act, ReplyAct::Header(name, _) if name.eq_ignore_ascii_case(wanted))
}

fn piece_length(act: &ReplyAct, request: &Message) -> usize {
    match act {
        ReplyAct::Pattern(length) => *length,
        ReplyAct::Text(_) | ReplyAct::Echo => piece(act, request).len(),
        _ => 0,
    }
}

fn piece(act: &ReplyAct, request: &Message) -> Vec<u8> {
    match act {
        ReplyAct::Text(text) | ReplyAct::Chunk(text) => unescape(text).unwrap_or_default(),
        ReplyAct::Pattern(length) => pattern(*length),
        ReplyAct::Echo => {
            let head = request.head();
            // Whether a connection is closed by default, and where Host stands, depends on the version of nginx,
            // see the transcript.
            let mut lines: Vec<&str> = head.lines().filter(|line| *line != "Connection: close").collect();
            if let Some((_, fields)) = lines.split_first_mut() {
                fields.sort_by_key(|line| !line.starts_with("Host: "));
            }
            let mut echo = lines.into_iter().flat_map(|line| [line, "\n"]).collect::<String>().into_bytes();
            echo.push(b'\n');
            echo.extend_from_slice(&request.body);
            echo
        }
        _ => Vec::new(),
    }
}
