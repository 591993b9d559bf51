//! Steps and origins of a script.
//!
//! A line at the margin begins a step, the indented lines below belong to it.

use std::path::PathBuf;

use super::acts::{act, framed_names, millis, number, reply_act};
use super::{
    Act, ActKind, Addressee, Need, Oracle, Patience, Prelude, RequestLine, Scenario, ScriptError, Send,
};
use super::{Step, StepKind};
use crate::origin::{Body, Door, OriginSpec, ReplyAct, Rule, Speech};
use crate::process::{Kind, version};

/// The time of change of a file that names none.
const MTIME: u64 = 1_700_000_000;

/// A line at the margin with those below it.
struct Block<'a> {
    head: Line<'a>,
    lines: Vec<Line<'a>>,
}

/// A line without its indentation and its mark.
#[derive(Clone, Copy)]
struct Line<'a> {
    number: usize,
    text: &'a str,
    only: Option<Kind>,
}

impl<'a> Line<'a> {
    fn new(number: usize, text: &'a str) -> Self {
        let text = text.trim();
        let marked = |mark: &str| text.strip_prefix(mark).map(str::trim_start);
        if let Some(text) = marked("[nginx]") {
            return Self { number, text, only: Some(Kind::Nginx) };
        }
        if let Some(text) = marked("[ours]") {
            return Self { number, text, only: Some(Kind::Ours) };
        }
        Self { number, text, only: None }
    }

    fn error(&self, what: impl Into<String>) -> ScriptError {
        ScriptError::Line { line: self.number, what: what.into(), text: self.text.to_owned() }
    }
}

pub(super) fn scenario(name: String, folder: PathBuf, text: &str) -> Result<Scenario, ScriptError> {
    let mut scenario = Scenario {
        name,
        folder,
        oracle: Oracle::Same,
        allowed: Vec::new(),
        needs: Vec::new(),
        volatile: Vec::new(),
        origins: Vec::new(),
        steps: Vec::new(),
    };
    for block in blocks(text)? {
        let head = block.head;
        if let Some(how) = head.text.strip_prefix("oracle:") {
            scenario.oracle = oracle(how.trim()).map_err(|what| head.error(what))?;
        } else if let Some(text) = head.text.strip_prefix("allow:") {
            scenario.allowed.push(text.trim().to_owned());
        } else if let Some(text) = head.text.strip_prefix("needs:") {
            scenario.needs.push(need(text).map_err(|what| head.error(what))?);
        } else if let Some(names) = head.text.strip_prefix("volatile:") {
            scenario.volatile.extend(framed_names(names));
        } else if let Some(spec) = origin(&block)? {
            scenario.origins.push(spec);
        } else {
            scenario.steps.push(step(&block)?);
        }
    }
    Ok(scenario)
}

fn blocks(text: &str) -> Result<Vec<Block<'_>>, ScriptError> {
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for (index, whole) in text.lines().enumerate() {
        let line = Line::new(index + 1, whole);
        if line.text.is_empty() || line.text.starts_with('#') {
            continue;
        }
        if !whole.starts_with([' ', '\t']) {
            blocks.push(Block { head: line, lines: Vec::new() });
        } else if let Some(block) = blocks.last_mut() {
            block.lines.push(line);
        } else {
            return Err(line.error("indented line without a step"));
        }
    }
    Ok(blocks)
}

fn oracle(how: &str) -> Result<Oracle, String> {
    match how.split_once(' ') {
        None if how == "same" => Ok(Oracle::Same),
        Some(("differs", reason)) if !reason.trim().is_empty() => {
            Ok(Oracle::Differs(reason.trim().to_owned()))
        }
        Some(("needs", number)) => Ok(Oracle::Needs(version(number.trim()))),
        Some(("lacks", module)) if !module.trim().is_empty() => Ok(Oracle::Lacks(module.trim().to_owned())),
        _ => Err("want \"same\", \"differs REASON\", \"needs VERSION\" or \"lacks MODULE\"".into()),
    }
}

/// A command, and in parentheses at the end what installs it.
fn need(text: &str) -> Result<Need, String> {
    let want = || "want: needs: COMMAND ARGUMENT... (HOW TO INSTALL IT)".to_owned();
    let (command, install) =
        text.trim().strip_suffix(')').and_then(|rest| rest.rsplit_once(" (")).ok_or_else(want)?;
    let command = arguments(command)?;
    if command.is_empty() { Err(want()) } else { Ok(Need { command, install: install.to_owned() }) }
}

/// The origin that a block describes, `None` when it is a step.
fn origin(block: &Block<'_>) -> Result<Option<OriginSpec>, ScriptError> {
    let head = block.head;
    let Some(rest) = head.text.strip_prefix("origin ") else { return Ok(None) };
    let (first, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let number = first.parse().map_err(|_| head.error("want a number"))?;
    let (door, rest) = match rest.strip_prefix("unix") {
        Some(rest) => (Door::Unix, rest.trim_start()),
        None => (Door::Tcp, rest),
    };
    let (word, behind) = rest.split_once(' ').unwrap_or((rest, ""));
    let (speech, rest) = match word {
        "fastcgi" => (Speech::Fastcgi, behind),
        "uwsgi" => (Speech::Uwsgi, behind),
        "scgi" => (Speech::Scgi, behind),
        "memcached" => (Speech::Memcached, behind),
        "dns" => (Speech::Dns, behind),
        "tcp" => (Speech::Tcp, behind),
        _ => (Speech::Http, rest),
    };
    let mut spec = OriginSpec { number, door, speech, rules: Vec::new() };
    if let Some(text) = rest.strip_prefix("says ") {
        spec.rules.push(Rule {
            method: None,
            target: "*".into(),
            nth: None,
            body: Body::Read,
            acts: vec![ReplyAct::Text(text.to_owned())],
        });
    } else if rest == "stop" || rest == "start" {
        return Ok(None);
    } else if !rest.is_empty() && rest != "echo" {
        return Err(head.error("want \"echo\", \"says TEXT\", \"stop\" or \"start\""));
    }
    for line in &block.lines {
        if let Some(words) = line.text.strip_prefix("on ") {
            spec.rules.push(rule(words).ok_or_else(|| line.error("want: on [METHOD] TARGET [#N] [early]"))?);
        } else {
            let Some(rule) = spec.rules.last_mut() else {
                return Err(line.error("a reply needs \"on TARGET\""));
            };
            rule.acts.push(reply_act(line.text).map_err(|what| line.error(what))?);
        }
    }
    Ok(Some(spec))
}

fn rule(words: &str) -> Option<Rule> {
    let mut rule =
        Rule { method: None, target: String::new(), nth: None, body: Body::Read, acts: Vec::new() };
    for word in words.split_whitespace() {
        if let Some(nth) = word.strip_prefix('#') {
            rule.nth = Some(nth.parse().ok()?);
        } else if word == "early" {
            rule.body = Body::Early;
        } else if word.starts_with(['/', '*']) || word.contains("://") {
            rule.target = word.to_owned();
        } else {
            rule.method = Some(word.to_owned());
        }
    }
    (!rule.target.is_empty()).then_some(rule)
}

fn step(block: &Block<'_>) -> Result<Step, ScriptError> {
    let head = block.head;
    let (patience, text) = match head.text.strip_prefix("eventually ") {
        Some(rest) => (Patience::Eventually, rest),
        None => (Patience::Once, head.text),
    };
    let kind = step_kind(text).map_err(|what| head.error(what))?;
    let mut acts = Vec::new();
    for line in &block.lines {
        let kind = act(&kind, line.text).map_err(|what| line.error(what))?;
        acts.push(Act { line: line.number, text: line.text.to_owned(), only: line.only, kind });
    }
    if matches!(kind, StepKind::Talk { request: Some(_), .. }) {
        let answered = acts.iter().position(|act| matches!(act.kind, ActKind::Expect(_)));
        let late = answered
            .and_then(|at| acts.get(at..))
            .and_then(|rest| rest.iter().find(|act| matches!(act.kind, ActKind::Send(_))));
        if let Some(late) = late {
            return Err(ScriptError::Line {
                line: late.line,
                what: "a request is sent whole before its answer; use a raw step".into(),
                text: late.text.clone(),
            });
        }
    }
    Ok(Step { line: head.number, text: head.text.to_owned(), only: head.only, patience, kind, acts })
}

fn step_kind(text: &str) -> Result<StepKind, String> {
    let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    let one = || {
        if rest.is_empty() || rest.contains(' ') {
            Err("want one word".to_owned())
        } else {
            Ok(rest.to_owned())
        }
    };
    Ok(match verb {
        "raw" => {
            let (words, on, to) = connection(rest)?;
            if !words.is_empty() {
                return Err("want: raw [on NAME] [to ADDRESS]".into());
            }
            StepKind::Talk { on, to, request: None }
        }
        "close" => StepKind::Close(one()?),
        "file" => file(rest)?,
        "dir" => {
            let (path, mode) = rest.split_once(" mode ").unwrap_or((rest, "755"));
            StepKind::Dir { path: path.to_owned(), mode: octal(mode)? }
        }
        "link" => {
            let (path, target) = rest.split_once(" -> ").ok_or("want: link PATH -> TARGET")?;
            StepKind::Link { path: path.to_owned(), target: target.to_owned() }
        }
        "rename" => {
            let (from, to) = rest.split_once(' ').ok_or("want: rename FROM TO")?;
            StepKind::Rename(from.to_owned(), to.to_owned())
        }
        "remove" => StepKind::Remove(one()?),
        "exists" => StepKind::Exists(one()?),
        "missing" => StepKind::Missing(one()?),
        "program" => program(rest)?,
        "start" if rest.is_empty() => StepKind::Start,
        "config" => StepKind::Config(one()?),
        "test" => test(rest)?,
        "run" => StepKind::Run(arguments(rest)?),
        "client" if !rest.is_empty() => StepKind::Client(arguments(rest)?),
        "signal" => signal(rest)?,
        "wait" if rest == "exit" => StepKind::WaitExit,
        "log" => StepKind::Log(one()?),
        "await" => StepKind::Await(number(rest.trim_end_matches(" requests").trim_end_matches(" request"))?),
        "release" => StepKind::Release(one()?),
        "origin" => match rest.split_once(' ') {
            Some((number_, "stop")) => StepKind::OriginDown(number(number_)?),
            Some((number_, "start")) => StepKind::OriginUp(number(number_)?),
            _ => return Err("want: origin N stop|start".into()),
        },
        method if method.chars().all(|c| c.is_ascii_uppercase() || c == '-' || c == '_') => {
            let (words, on, to) = connection(rest)?;
            let (target, version) = match words.as_slice() {
                [target] => (target, "HTTP/1.1"),
                [target, version] => (target, version.as_str()),
                _ => return Err("want: METHOD TARGET [VERSION] [on NAME] [to ADDRESS]".into()),
            };
            let request = RequestLine {
                method: method.to_owned(),
                target: target.clone(),
                version: version.to_owned(),
            };
            StepKind::Talk { on, to, request: Some(request) }
        }
        _ => return Err("unknown step".into()),
    })
}

type Where = (Vec<String>, Option<String>, Option<String>);

/// Splits off `on NAME` and `to ADDRESS`.
fn connection(text: &str) -> Result<Where, String> {
    let (mut words, mut on, mut to) = (Vec::new(), None, None);
    let mut rest = text.split_whitespace();
    while let Some(word) = rest.next() {
        match word {
            "on" => on = Some(rest.next().ok_or("want a name behind \"on\"")?.to_owned()),
            "to" => to = Some(rest.next().ok_or("want an address behind \"to\"")?.to_owned()),
            _ => words.push(word.to_owned()),
        }
    }
    Ok((words, on, to))
}

fn file(text: &str) -> Result<StepKind, String> {
    let mut words = text.split_whitespace();
    let path = words.next().ok_or("want: file PATH [mode OCTAL] [mtime SECONDS]")?.to_owned();
    let (mut mode, mut mtime) = (0o644, MTIME);
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_default();
        match word {
            "mode" => mode = octal(value)?,
            "mtime" => mtime = value.parse().map_err(|_| "want seconds since 1970")?,
            _ => return Err("want: file PATH [mode OCTAL] [mtime SECONDS]".into()),
        }
    }
    Ok(StepKind::File { path, mode, mtime })
}

fn octal(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8).map_err(|_| "want an octal mode".into())
}

fn test(text: &str) -> Result<StepKind, String> {
    let (mut file, mut prelude) = (None, Prelude::Added);
    for word in text.split_whitespace() {
        if word == "bare" {
            prelude = Prelude::Bare;
        } else if file.replace(word.to_owned()).is_some() {
            return Err("want: test [FILE] [bare]".into());
        }
    }
    Ok(StepKind::Test { file, prelude })
}

fn signal(text: &str) -> Result<StepKind, String> {
    let (name, to) = match text.split_once(' ') {
        None => (text, Addressee::Master),
        Some((name, "worker")) => (name, Addressee::Worker),
        Some(_) => return Err("want: signal NAME [worker]".into()),
    };
    if !["hup", "quit", "term", "int", "usr1", "usr2", "winch", "kill"].contains(&name) {
        return Err("unknown signal".into());
    }
    Ok(StepKind::Signal { name: name.to_uppercase(), to })
}

fn program(text: &str) -> Result<StepKind, String> {
    let mut command = arguments(text)?.into_iter().peekable();
    let number = number(&command.next().unwrap_or_default())?;
    let door = if command.next_if(|word| word == "unix").is_some() { Door::Unix } else { Door::Tcp };
    let command: Vec<String> = command.collect();
    if command.is_empty() {
        return Err("want: program N [unix] COMMAND ARGUMENT...".into());
    }
    Ok(StepKind::Program { number, door, command })
}

/// Words, of which those with spaces stand in single quotes.
fn arguments(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for (index, piece) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(piece.to_owned());
        } else {
            words.extend(piece.split_whitespace().map(str::to_owned));
        }
    }
    if text.matches('\'').count() % 2 == 1 { Err("a quote is not closed".into()) } else { Ok(words) }
}

/// The lines of raw steps that carry no arrow.
pub(super) fn raw_line(text: &str) -> Result<Option<Send>, String> {
    Ok(Some(match text.split_once(' ') {
        None if text == "eof" => Send::End,
        None if text == "reset" => Send::Reset,
        Some(("pause", time)) => Send::Pause(millis(time)?),
        Some(("pattern", length)) => Send::Pattern(number(length)?),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<usize, &str>) {
        match (scenario("x".into(), PathBuf::new(), text), expected) {
            (Ok(scenario), Ok(steps)) => assert_eq!(scenario.steps.len(), steps, "{text}"),
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            (got, _) => panic!("{text}: {got:?}"),
        }
    }

    #[test]
    fn scripts() {
        check("", Ok(0));
        check("# nothing\n\n", Ok(0));
        check("GET /\n  < 200\n  < body hello\\n\n", Ok(1));
        check("GET / HTTP/1.0 on a to @ADDR2@\n  > !Host\n  < 200 OK\n", Ok(1));
        check("raw\n  > GET / HTTP/1.1\n  >> \\r\\n\n  pause 20ms\n  eof\n  < closed\n", Ok(1));
        check("origin 1\n  on GET /a #2 early\n    404 Not Found\n    X: y\n    = body\n    close\n", Ok(0));
        check("origin 1 says hello\norigin 1 stop\norigin 1 start\n", Ok(2));
        check("file a/b mode 600 mtime 1\n  | x\nlink a -> b\ndir d\n", Ok(3));
        check("test bare\n  | foo\n  < exit 1\n  < stderr x\nsignal hup\nwait exit\n", Ok(3));
        check("run -g 'daemon off;' -t\n  [nginx] < exit 0\n", Ok(1));
        check("program 1 node app.js @OPORT1@\nprogram 2 unix gunicorn 'a b'\n", Ok(2));
        check("program node app.js\n", Err("script:1"));
        check(
            "needs: node -e 'require(\"ws\")' (npm install)\nclient node a.js\n  > GET /\n  < stdout a\n",
            Ok(1),
        );
        check("needs: node\n", Err("want: needs"));
        check("client\n", Err("unknown step"));
        check("program 1 unix\n", Err("want: program"));
        check("oracle: differs because\nallow: x\nvolatile: A, B\n", Ok(0));
        check("  < 200\n", Err("script:1: indented line without a step"));
        check("GET /\n  < 200\n  < nonsense\n", Err("script:3"));
        check("GET /\n  < 200\n  > X: y\n", Err("script:3: a request is sent whole"));
        check("jump\n", Err("unknown step"));
        check("oracle: differs\n", Err("want \"same\""));
        check("signal foo\n", Err("unknown signal"));
    }
}
