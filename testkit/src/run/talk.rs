//! Steps that talk to the server.
//!
//! The lines are worked off in their order, so a raw step can send, read an interim answer, and send on.

use std::time::{Duration, Instant};

use super::answer::Judge;
use super::{Failure, Run};
use crate::client::Client;
use crate::message::{Ending, Framing, Message, WireError};
use crate::script::{Act, ActKind, Expect, RequestLine, Send, Step};
use crate::text::{latin1, pattern, show_some};

/// How long a connection is watched to see that it stays open.
const WATCH: Duration = Duration::from_millis(120);

impl Run<'_> {
    pub(super) fn talk(
        &mut self,
        step: &Step,
        on: Option<&str>,
        to: Option<&str>,
        request: Option<&RequestLine>,
    ) -> Result<(), Failure> {
        let fail = |what: String| Failure { line: step.line, text: step.text.clone(), what };
        let mark = self.origins.count();
        if let Some((act, reason)) = self.wanted_refusal(step) {
            return self.refused(reason, on, to).map_err(|what| Failure {
                line: act.line,
                text: act.text.clone(),
                what,
            });
        }
        let mut client = self.client(on, to).map_err(fail)?;
        let mut talk = Talk { begun: Instant::now(), answer: None, ended: false };
        if let Some(request) = request {
            let bytes = self.request(step, request, on).map_err(fail)?;
            client.expect_answer_to(&request.method);
            client.send(&bytes).map_err(|error| fail(error.to_string()))?;
        }
        let acts: Vec<&Act> =
            step.acts.iter().filter(|act| act.only.is_none_or(|kind| kind == self.binary.kind)).collect();
        for (index, act) in acts.iter().enumerate() {
            let fail = |what: String| Failure { line: act.line, text: act.text.clone(), what };
            match &act.kind {
                ActKind::Send(send) if request.is_none() => {
                    self.send_raw(&mut client, send).map_err(fail)?;
                }
                ActKind::Expect(Expect::Status(..) | Expect::Http09) => {
                    let cut = acts
                        .iter()
                        .skip(index + 1)
                        .map(|act| &act.kind)
                        .take_while(|kind| !matches!(kind, ActKind::Expect(Expect::Status(..))));
                    let may_be_cut = cut.into_iter().any(|kind| *kind == ActKind::Expect(Expect::Truncated));
                    self.next_answer(act, &mut client, &mut talk, may_be_cut)?;
                }
                ActKind::Expect(expected) => {
                    self.expected(expected, &mut client, &mut talk).map_err(fail)?;
                }
                _ => {}
            }
        }
        self.saw(&acts, mark)?;
        if let Some(name) = on {
            if !talk.ended {
                self.connections.insert(name.to_owned(), client);
            }
        } else if request.is_some() && talk.answer.is_some() && !talk.ended {
            // The request asked for the end of the connection, and nothing may follow the answer.
            let extra = client.rest().map_err(|error| fail(format!("after the answer: {error}")))?;
            if !extra.is_empty() {
                return Err(fail(format!("after the answer came: {}", show_some(&extra, 400))));
            }
        }
        Ok(())
    }

    /// The line that says that there must be no connection.
    fn wanted_refusal<'s>(&self, step: &'s Step) -> Option<(&'s Act, &'s str)> {
        let mut acts = step.acts.iter().filter(|act| act.only.is_none_or(|kind| kind == self.binary.kind));
        acts.find_map(|act| match &act.kind {
            ActKind::Expect(Expect::Refused(reason)) => Some((act, reason.as_str())),
            _ => None,
        })
    }

    fn refused(&mut self, reason: &str, on: Option<&str>, to: Option<&str>) -> Result<(), String> {
        match self.client(on, to) {
            Ok(_) => Err("connected".into()),
            Err(why) if why.contains(reason) => Ok(()),
            Err(why) => Err(why),
        }
    }

    fn client(&mut self, on: Option<&str>, to: Option<&str>) -> Result<Client, String> {
        if let Some(client) = on.and_then(|name| self.connections.remove(name)) {
            return Ok(client);
        }
        let address = self.expand(to.unwrap_or("@ADDR1@"))?;
        Client::connect(&address).map_err(|error| format!("cannot connect to {address}: {error}"))
    }

    /// The bytes of a request that the script describes by its parts.
    fn request(&self, step: &Step, line: &RequestLine, on: Option<&str>) -> Result<Vec<u8>, String> {
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut hidden: Vec<&str> = Vec::new();
        let (mut body, mut chunks): (Option<Vec<u8>>, Option<Vec<u8>>) = (None, None);
        for act in &step.acts {
            if act.only.is_some_and(|kind| kind != self.binary.kind) {
                continue;
            }
            let ActKind::Send(send) = &act.kind else { continue };
            match send {
                Send::Header(name, value) => headers.push((name.clone(), latin1(&self.bytes(value)?))),
                Send::NoHeader(name) => hidden.push(name),
                Send::Body(text) => body.get_or_insert_default().extend(self.bytes(text)?),
                Send::Pattern(length) => body.get_or_insert_default().extend(pattern(*length)),
                Send::Chunk(text) => {
                    let bytes = self.bytes(text)?;
                    let chunks = chunks.get_or_insert_default();
                    chunks.extend(format!("{:x}\r\n", bytes.len()).into_bytes());
                    chunks.extend(bytes);
                    chunks.extend(b"\r\n");
                }
                _ => return Err(format!("only in raw steps: {}", act.text)),
            }
        }
        let given = |headers: &[(String, String)], name: &str| {
            headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
                || hidden.iter().any(|n| n.eq_ignore_ascii_case(name))
        };
        if !given(&headers, "Host") {
            headers.insert(0, ("Host".into(), "localhost".into()));
        }
        if on.is_none() && line.version == "HTTP/1.1" && !given(&headers, "Connection") {
            headers.push(("Connection".into(), "close".into()));
        }
        if let Some(body) = &body
            && !given(&headers, "Content-Length")
        {
            headers.push(("Content-Length".into(), body.len().to_string()));
        }
        if chunks.is_some() && !given(&headers, "Transfer-Encoding") {
            headers.push(("Transfer-Encoding".into(), "chunked".into()));
        }
        let mut bytes =
            format!("{} {} {}\r\n", line.method, self.expand(&line.target)?, line.version).into_bytes();
        for (name, value) in headers {
            bytes.extend(format!("{name}: ").into_bytes());
            // Back from Latin-1: each character is one byte.
            bytes.extend(value.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()));
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"\r\n");
        bytes.extend(body.unwrap_or_default());
        if let Some(chunks) = chunks {
            bytes.extend(chunks);
            bytes.extend(b"0\r\n\r\n");
        }
        Ok(bytes)
    }

    fn send_raw(&self, client: &mut Client, send: &Send) -> Result<(), String> {
        let mut bytes = match send {
            Send::Line(text) | Send::Bytes(text) => self.bytes(text)?,
            Send::Pattern(length) => pattern(*length),
            Send::Pause(ms) => {
                std::thread::sleep(Duration::from_millis(*ms));
                return Ok(());
            }
            Send::Reset => return client.reset().map_err(|error| error.to_string()),
            Send::End => {
                client.end_sending();
                return Ok(());
            }
            other => return Err(format!("not in raw steps: {other:?}")),
        };
        if let Send::Line(_) = send {
            let text = latin1(&bytes);
            if let Some((method, rest)) = text.split_once(' ')
                && rest.contains(" HTTP/")
                && !method.contains(':')
            {
                client.expect_answer_to(method);
            }
            bytes.extend(b"\r\n");
        }
        client.send(&bytes).map_err(|error| error.to_string())
    }

    fn next_answer(
        &mut self,
        act: &Act,
        client: &mut Client,
        talk: &mut Talk,
        may_be_cut: bool,
    ) -> Result<(), Failure> {
        let fail = |what: String| Failure { line: act.line, text: act.text.clone(), what };
        let ActKind::Expect(expected) = &act.kind else { return Ok(()) };
        let Expect::Status(status, reason) = expected else {
            let body = client.rest().map_err(|error| fail(error.to_string()))?;
            let answer = Message {
                start: String::new(),
                headers: Vec::new(),
                body,
                framing: Framing::Close,
                ending: Ending::Whole,
                trailers: Vec::new(),
            };
            if answer.body.starts_with(b"HTTP/1") {
                return Err(fail(format!("it has a head: {}", show_some(&answer.body, 400))));
            }
            talk.ended = true;
            self.record(act.line, &answer);
            talk.answer = Some(answer);
            return Ok(());
        };
        let answer = client.answer().map_err(|error| fail(error.to_string()))?;
        self.record(act.line, &answer);
        let got_reason = answer.start.splitn(3, ' ').nth(2).unwrap_or_default();
        let right =
            answer.status() == Some(*status) && reason.as_ref().is_none_or(|wanted| wanted == got_reason);
        if !right {
            return Err(fail(shown(&answer)));
        }
        if answer.ending == Ending::Truncated && !may_be_cut {
            return Err(fail(format!("the body is cut off:\n{}", shown(&answer))));
        }
        talk.answer = Some(answer);
        Ok(())
    }

    fn expected(&mut self, expected: &Expect, client: &mut Client, talk: &mut Talk) -> Result<(), String> {
        let took = talk.begun.elapsed().as_millis();
        match expected {
            Expect::Closed | Expect::Ended => {
                talk.ended = true;
                match client.rest() {
                    Ok(_) if *expected == Expect::Ended && client.was_reset() => Err("it was reset".into()),
                    Ok(rest) if rest.is_empty() => Ok(()),
                    Ok(rest) => Err(format!("before it closed came: {}", show_some(&rest, 400))),
                    Err(WireError::TimedOut(ms)) => Err(format!("still open after {ms} ms")),
                    Err(error) => Err(error.to_string()),
                }
            }
            Expect::Nothing => {
                talk.ended = true;
                match client.rest() {
                    Ok(rest) if rest.is_empty() => Ok(()),
                    Ok(rest) => Err(format!("came: {}", show_some(&rest, 400))),
                    Err(error) => Err(error.to_string()),
                }
            }
            Expect::Open => {
                if client.stays_open(WATCH) {
                    Ok(())
                } else {
                    Err("closed, or more came".into())
                }
            }
            Expect::Bytes(text) => {
                let wanted = self.bytes(text)?;
                let got = client.bytes(wanted.len()).map_err(|error| error.to_string())?;
                if got == wanted { Ok(()) } else { Err(format!("got: {}", show_some(&got, 400))) }
            }
            Expect::Within(ms) if took > u128::from(*ms) => Err(format!("took {took} ms")),
            Expect::After(ms) if took < u128::from(*ms) => Err(format!("took {took} ms")),
            Expect::Within(_) | Expect::After(_) => Ok(()),
            _ => match &talk.answer {
                Some(answer) => Judge { places: &self.places, answer }
                    .holds(expected)
                    .map_err(|what| format!("{what}\n{}", shown(answer))),
                None => Err("no answer was read yet".into()),
            },
        }
    }
}

/// What a step knows while it talks.
struct Talk {
    begun: Instant,
    answer: Option<Message>,
    /// Whether the end of the connection was read.
    ended: bool,
}

/// An answer for the eyes of who reads a failure.
fn shown(answer: &Message) -> String {
    let head: String = answer.head().lines().map(|line| format!("  {line}\n")).collect();
    format!("got:\n{head}  body, framed by {:?}: {}", answer.framing, show_some(&answer.body, 600))
}
