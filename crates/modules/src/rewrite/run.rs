//! Running a program (`ngx_http_script.c`).
//!
//! A program says three things: whether the URI was changed, whether the request ends, and with what.

use std::rc::Rc;
use std::sync::Arc;

use http::chunk::Chunk;
use http::output;
use http::phases::{Body, Outcome, Verdict};
use http::regex::Regex;
use http::request::Request;
use http::variables::Template;
use os::errlog::Level;
use proto::h1::Known;
use proto::uri::{Unescape, unescape};

use super::compile::{Branch, Code, Entry, Replacement, Rule, Then};
use super::{Rewrite, RewriteSettings};

/// Whether the program goes on.
enum Flow {
    Next,
    End,
    Finish(Outcome),
}

/// Whether captures are escaped in values: nginx does so up to the first `rewrite` that matches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Captures {
    Escaped,
    Plain,
}

struct Engine {
    captures: Captures,
    is_changed: bool,
    logs: bool,
}

/// Runs the program of the request's block.
pub(super) fn run(r: &mut Request) -> Verdict<'_> {
    let cycle = Rc::clone(&r.cycle);
    let settings: &RewriteSettings = cycle.http.location(r.location).settings::<Rewrite>();
    let program = &settings.codes;
    if program.is_empty() {
        return Verdict::Declined;
    }
    let mut engine = Engine { captures: Captures::Escaped, is_changed: false, logs: settings.log };
    match engine.run(r, program) {
        Flow::Finish(outcome) => Verdict::Finish(outcome),
        Flow::Next | Flow::End if engine.is_changed => Verdict::Relocate,
        Flow::Next | Flow::End => Verdict::Declined,
    }
}

/// The value of a variable that `set` would assign and did not.
pub(super) fn uninitialized(r: &Request, name: &[u8], _: &mut Vec<u8>) -> bool {
    if r.location().settings::<Rewrite>().warn {
        let shown = String::from_utf8_lossy(name);
        r.log(Level::Warn, format_args!("using uninitialized \"{shown}\" variable"));
    }
    true
}

impl Engine {
    fn run(&mut self, r: &mut Request, program: &[Arc<Code>]) -> Flow {
        for code in program {
            let flow = match &**code {
                Code::Rewrite(rule) => self.rewrite(r, rule),
                Code::Return { status, text } => return Flow::Finish(answer(r, *status, text)),
                Code::Break => {
                    self.stay(r);
                    return Flow::End;
                }
                Code::Set { variable, value } => {
                    let mut text = Vec::new();
                    self.append(r, value, &mut text);
                    r.set_variable(*variable, &text);
                    Flow::Next
                }
                Code::If(branch) => self.branch(r, branch),
            };
            if !matches!(flow, Flow::Next) {
                return flow;
            }
        }
        Flow::Next
    }

    fn append(&self, r: &Request, template: &Template, out: &mut Vec<u8>) {
        match self.captures {
            Captures::Escaped => template.append_quoted(r, out),
            Captures::Plain => template.append(r, out),
        }
    }

    /// `break`: a location that was to be looked for anew is not.
    fn stay(&mut self, r: &mut Request) {
        if self.is_changed {
            r.valid_location = false;
            self.is_changed = false;
        }
    }

    fn tell(&self, r: &Request, regex: &Regex, subject: &[u8], is_match: bool) {
        if self.logs || r.logs(Level::Debug) {
            let (pattern, subject) =
                (String::from_utf8_lossy(regex.text()), String::from_utf8_lossy(subject));
            let verb = if is_match { "matches" } else { "does not match" };
            r.log(Level::Notice, format_args!("\"{pattern}\" {verb} \"{subject}\""));
        }
    }

    fn branch(&mut self, r: &mut Request, branch: &Branch) -> Flow {
        let seen: &Request = r;
        let holds = branch.condition.holds(
            seen,
            |template, out| self.append(seen, template, out),
            |regex, subject, is_match| self.tell(seen, regex, subject, is_match),
        );
        if !holds {
            return Flow::Next;
        }
        if branch.entry == Entry::Settings {
            r.enter_if(branch.location);
        }
        let cycle = Rc::clone(&r.cycle);
        let inside = cycle.http.location(branch.location).settings::<Rewrite>();
        self.run(r, &inside.codes)
    }

    fn rewrite(&mut self, r: &mut Request, rule: &Rule) -> Flow {
        let uri = std::mem::take(&mut r.uri);
        let is_match = r.matches(&rule.regex, &uri);
        self.tell(r, &rule.regex, &uri, is_match);
        r.uri = uri;
        if !is_match {
            r.forget_captures();
            return Flow::Next;
        }
        r.internal = true;
        r.valid_unparsed_uri = false;
        self.captures = Captures::Plain;
        match &rule.replacement {
            Replacement::Redirect { status, target, has_args } => {
                self.redirect(r, rule, target, *has_args);
                Flow::Finish(Outcome::Status(*status))
            }
            Replacement::Uri { path, args } => self.replace(r, rule, path, args.as_ref()),
        }
    }

    fn redirect(&self, r: &mut Request, rule: &Rule, target: &Template, has_args: bool) {
        let mut text = Vec::new();
        target.append_quoted(r, &mut text);
        let mut location = Vec::with_capacity(text.len() + r.args.len() + 1);
        let read = unescape(&text, Unescape::Redirect, &mut location);
        location.extend_from_slice(text.get(read..).unwrap_or_default());
        if rule.keeps_args && !r.args.is_empty() {
            location.push(if has_args { b'&' } else { b'?' });
            location.extend_from_slice(&r.args);
        }
        if self.logs || r.logs(Level::Debug) {
            let shown = String::from_utf8_lossy(&location).into_owned();
            r.log(Level::Notice, format_args!("rewritten redirect: \"{shown}\""));
        }
        proto::h1::keep_one_line(&mut location);
        r.response.headers.set_known(Known::Location, b"Location", &location);
    }

    fn replace(&mut self, r: &mut Request, rule: &Rule, path: &Template, args: Option<&Template>) -> Flow {
        let mut uri = Vec::new();
        path.append(r, &mut uri);
        match args {
            Some(template) => {
                let mut args = Vec::new();
                template.append_quoted(r, &mut args);
                if rule.keeps_args && !r.args.is_empty() {
                    args.push(b'&');
                    args.extend_from_slice(&r.args);
                }
                r.args = args;
            }
            None if !rule.keeps_args => r.args.clear(),
            None => {}
        }
        r.uri = uri;
        if self.logs || r.logs(Level::Debug) {
            let (uri, args) = (String::from_utf8_lossy(&r.uri), String::from_utf8_lossy(&r.args));
            r.log(Level::Notice, format_args!("rewritten data: \"{uri}\", args: \"{args}\""));
        }
        if r.uri.is_empty() {
            r.log(Level::Error, format_args!("the rewritten URI has a zero length"));
            return Flow::Finish(Outcome::Status(500));
        }
        if rule.then == Then::Break {
            r.valid_location = false;
            self.is_changed = false;
            return Flow::End;
        }
        self.is_changed = true;
        if rule.then == Then::Last { Flow::End } else { Flow::Next }
    }
}

/// `return` (`ngx_http_script_return_code`, `ngx_http_send_response`).
fn answer(r: &mut Request, status: u16, text: &Template) -> Outcome {
    if status >= 400 && text.as_literal() == Some(b"") {
        return Outcome::Status(status);
    }
    r.discard_body = true;
    output::let_body_come(r);
    // The text may show the status already.
    r.response.status = status;
    let mut value = text.value(r);
    if matches!(status, 301 | 302 | 303 | 307 | 308) {
        proto::h1::keep_one_line(&mut value);
        r.response.headers.set_known(Known::Location, b"Location", &value);
        return Outcome::Status(status);
    }
    r.response.content_length = Some(value.len() as u64);
    r.set_content_type();
    if value.is_empty() {
        Outcome::send(Body::Empty)
    } else {
        Outcome::send(Body::One(Chunk::copied(&value)))
    }
}
