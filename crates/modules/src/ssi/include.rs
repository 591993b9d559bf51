//! `include`: the output of a subrequest in the place of the command, or in a variable.

use http::chunk::{Chunk, Queue};
use http::filters::Wait;
use http::request::Request;
use http::subrequest::{Kind, Start, start};
use os::errlog::Level;

use super::common::Common;
use super::parse::{Command, shown};
use super::text::{Base, Fault, evaluate};

/// What a page waits for behind an `include`; nothing in most cases.
pub(super) fn include(r: &mut Request, command: &Command, output: &mut Queue) -> Result<Option<Wait>, Fault> {
    let plan = Plan::read(r, command)?;
    let target = evaluate(r, plan.target, Base::Page)?;
    let mut path = Vec::new();
    let args = match proto::uri::parse_unsafe(&target, &mut path) {
        Ok(args) => args.unwrap_or_default(),
        Err(_) => {
            r.log(Level::Error, format_args!("unsafe URI \"{}\" was detected", shown(&target)));
            return Err(Fault);
        }
    };
    let stub = match plan.stub {
        Some(name) => Some(stub(r, name)?),
        None => None,
    };
    let kind = if plan.variable.is_some() { Kind::InMemory } else { Kind::InOrder };
    let content_type = r.response.content_type.clone();
    let mut sr = r.subrequest(&path, args, kind, Start::Rewrite).map_err(|_| Fault)?;
    if let Some(chunks) = stub {
        sr.set_stub(&content_type, chunks);
    }
    if let Some(name) = plan.variable {
        keep(r, &mut sr, name)?;
    }
    let subrequest = start(sr);
    if kind == Kind::InOrder {
        output.push_subrequest(subrequest.clone());
    }
    Ok(plan.waits.then_some(Wait::End(subrequest)))
}

/// The parameters of an `include` that makes sense.
struct Plan<'c> {
    target: &'c [u8],
    waits: bool,
    variable: Option<&'c [u8]>,
    stub: Option<&'c [u8]>,
}

impl<'c> Plan<'c> {
    fn read(r: &Request, command: &'c Command) -> Result<Self, Fault> {
        let refuse = |why: &str| {
            r.log(Level::Error, format_args!("{why}"));
            Err(Fault)
        };
        let (variable, stub) = (command.value(b"set"), command.value(b"stub"));
        let (target, is_file) = match (command.value(b"virtual"), command.value(b"file")) {
            (Some(uri), Some(file)) => {
                let (uri, file) = (shown(uri), shown(file));
                return refuse(&format!("inclusion may be either virtual=\"{uri}\" or file=\"{file}\""));
            }
            (None, None) => return refuse("no parameter in \"include\" SSI command"),
            (Some(uri), None) => (uri, false),
            (None, Some(file)) => (file, true),
        };
        if variable.is_some() && stub.is_some() {
            return refuse("\"set\" and \"stub\" cannot be used together in \"include\" SSI command");
        }
        let waits = match command.value(b"wait") {
            None => is_file,
            Some(_) if is_file => {
                return refuse(&format!("\"wait\" cannot be used with file=\"{}\"", shown(target)));
            }
            Some(value) if value.eq_ignore_ascii_case(b"no") => false,
            Some(value) if value.eq_ignore_ascii_case(b"yes") => true,
            Some(value) => {
                return refuse(&format!("invalid value \"{}\" in the \"wait\" parameter", shown(value)));
            }
        };
        Ok(Self { target, waits: waits || variable.is_some(), variable, stub })
    }
}

/// The content of a block, in the place of an answer that is empty or an error.
fn stub(r: &mut Request, name: &[u8]) -> Result<Vec<Chunk>, Fault> {
    let content = Common::of(r).block(name).map(Chunk::copied);
    match content {
        Some(chunk) => Ok(vec![chunk]),
        None => {
            r.log(Level::Error, format_args!("\"stub\"=\"{}\" for \"include\" not found", shown(name)));
            Err(Fault)
        }
    }
}

/// Has the body of a subrequest kept as a variable, which is there from now on.
fn keep(r: &mut Request, sr: &mut Request, name: &[u8]) -> Result<(), Fault> {
    let name = name.to_ascii_lowercase();
    let mut common = Common::of(r);
    if common.variable(&name).is_none() && common.set(&name, b"").is_err() {
        return Err(Fault);
    }
    drop(common);
    sr.on_end(Box::new(move |sr| {
        let body = sr.output.capture.take().unwrap_or_default();
        if sr.response.status < 300 && !body.is_empty() && Common::of(sr).set(&name, &body).is_err() {
            sr.log(Level::Error, format_args!("too much for the SSI variable \"{}\"", shown(&name)));
        }
    }));
    Ok(())
}
