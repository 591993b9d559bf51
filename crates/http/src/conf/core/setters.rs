//! What the core module's directives do that are more than one value.

use std::sync::Arc;

use conf::{Directive, Error, Word};

use super::{
    CoreSettings, KEEPALIVE_DISABLE_MSIE6, KEEPALIVE_DISABLE_SAFARI, Replaced, Root, TempPath, Types,
    error_page as pages,
};
use crate::conf::compile::Cx;
use crate::conf::listen::ListenDraft;
use crate::conf::location::Kind;
use crate::conf::server_name::ServerName;
use crate::open_file::{OpenFileCache, Symlinks};
use crate::regex::{Case, Regex};
use crate::resolver::ResolverConf;
use crate::variables::Template;

type Done = Result<(), Error>;

/// Blocks that the compiler itself walks.
pub(super) fn nothing(_: &mut CoreSettings, _: &mut Cx<'_>, _: &Directive) -> Done {
    Ok(())
}

pub(super) fn listen(_: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let drafts = ListenDraft::read(d, cx.side)?;
    if let Some(word) = d.args.iter().skip(1).find(|word| word.is("http2")) {
        let sentence =
            "the \"listen ... http2\" directive is deprecated, use the \"http2\" directive instead";
        cx.notices.push(Error::at(word, sentence).with_level(conf::Level::Warn));
    }
    if let Some(server) = &mut cx.server {
        server.listens.extend(drafts);
    }
    Ok(())
}

pub(super) fn server_name(_: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    for word in &d.args {
        let name = ServerName::read(cx, word)?;
        if let Some(server) = &mut cx.server {
            server.names.push(name);
        }
    }
    Ok(())
}

pub(super) fn types(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let mut types = if s.types_own { (*s.types).clone() } else { Types::default() };
    types.add(d, &mut cx.notices);
    s.types = Arc::new(types);
    s.types_own = true;
    Ok(())
}

pub(super) fn gzip_disable(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let regexes = s.gzip_disable.own();
    for word in &d.args {
        if word.is("msie6") {
            s.gzip_disable_msie6 = true;
        } else {
            regexes.push(Regex::compile(cx, word, &word.bytes, Case::Insensitive)?);
        }
    }
    Ok(())
}

pub(super) fn default_type(s: &mut CoreSettings, _: &mut Cx<'_>, d: &Directive) -> Done {
    s.default_type = (*d.arg(0)?.bytes).into();
    Ok(())
}

pub(super) fn root(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let word = d.arg(0)?;
    check_other(s, d, "root")?;
    check_path(word, "root", b"$document_root", b"$realpath_root")?;
    let trimmed = without_last_slash(&word.bytes);
    s.root = if Template::has_variables(trimmed) {
        Root::Template(Template::compile_bytes(cx, word, trimmed)?)
    } else {
        Root::Path(cx.path(trimmed))
    };
    Ok(())
}

pub(super) fn alias(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let word = d.arg(0)?;
    if cx.block.kind == Kind::Named {
        return Err(Error::at(&d.name, "the \"alias\" directive cannot be used inside the named location"));
    }
    check_other(s, d, "alias")?;
    check_path(word, "alias", b"$document_root", b"$realpath_root")?;
    let replaced = match cx.block.kind {
        Kind::Regex => Replaced::Whole,
        _ => Replaced::Prefix(cx.block.name.len()),
    };
    s.root = if Template::has_variables(&word.bytes) || replaced == Replaced::Whole {
        Root::AliasTemplate(Template::compile(cx, word)?, replaced)
    } else {
        Root::Alias(cx.path(&word.bytes), replaced)
    };
    Ok(())
}

/// A block has a `root` or an `alias`.
fn check_other(s: &mut CoreSettings, d: &Directive, name: &'static str) -> Done {
    match s.root_directive.replace(name) {
        Some(other) if other != name => {
            let sentence =
                format!("\"{name}\" directive is duplicate, \"{other}\" directive was specified earlier");
            Err(Error::at(&d.name, sentence))
        }
        _ => Ok(()),
    }
}

/// `root` and `alias` cannot be made of themselves.
fn check_path(word: &Word, directive: &str, first: &[u8], second: &[u8]) -> Done {
    let contains = |name: &[u8]| word.bytes.windows(name.len()).any(|window| window == name);
    for name in [first, second] {
        if contains(name) {
            let shown = String::from_utf8_lossy(name);
            return Err(Error::at(
                word,
                format!("the {shown} variable cannot be used in the \"{directive}\" directive"),
            ));
        }
    }
    Ok(())
}

fn without_last_slash(path: &[u8]) -> &[u8] {
    match path.split_last() {
        Some((b'/', rest)) => rest,
        _ => path,
    }
}

pub(super) fn large_client_header_buffers(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let bufs = d.bufs()?;
    let size = usize::try_from(bufs.size).unwrap_or(usize::MAX);
    let _ = cx;
    s.large_client_header_buffers = (u32::try_from(bufs.number).unwrap_or(u32::MAX), size);
    Ok(())
}

pub(super) fn output_buffers(s: &mut CoreSettings, _: &mut Cx<'_>, d: &Directive) -> Done {
    let bufs = d.bufs()?;
    s.output_buffers =
        (u32::try_from(bufs.number).unwrap_or(u32::MAX), usize::try_from(bufs.size).unwrap_or(usize::MAX));
    Ok(())
}

pub(super) fn client_body_temp_path(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    s.client_body_temp_path = temp_path(cx, d)?;
    Ok(())
}

/// A directory for temporary files with the lengths of its subdirectories' names (`ngx_conf_set_path_slot`).
///
/// # Errors
/// `invalid value` for a level that is not 1, 2 or 3.
pub fn temp_path(cx: &mut Cx<'_>, d: &Directive) -> Result<TempPath, Error> {
    let path = cx.path(without_last_slash(&d.arg(0)?.bytes));
    let mut levels = [0; 3];
    for (level, word) in levels.iter_mut().zip(d.args.iter().skip(1)) {
        *level = match word.number() {
            Some(length @ 1..=3) => u8::try_from(length).unwrap_or(0),
            _ => return Err(Error::on(d, "invalid value")),
        };
    }
    Ok(TempPath { path, levels })
}

pub(super) fn directio(s: &mut CoreSettings, _: &mut Cx<'_>, d: &Directive) -> Done {
    s.directio = if d.arg(0)?.is("off") { None } else { Some(d.offset()?) };
    Ok(())
}

fn rate_template(cx: &mut Cx<'_>, d: &Directive) -> Result<Template, Error> {
    let word = d.arg(0)?;
    let template = Template::compile(cx, word)?;
    if template.as_literal().is_some() && word.size().is_none() {
        return Err(Error::at(word, format!("\"{}\" directive invalid value", d.name.as_str())));
    }
    Ok(template)
}

pub(super) fn limit_rate(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    s.limit_rate = Some(rate_template(cx, d)?);
    Ok(())
}

pub(super) fn limit_rate_after(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    s.limit_rate_after = Some(rate_template(cx, d)?);
    Ok(())
}

pub(super) fn keepalive_timeout(s: &mut CoreSettings, _: &mut Cx<'_>, d: &Directive) -> Done {
    s.keepalive_timeout = d.time_ms()?;
    s.keepalive_header = 0;
    if let Some(word) = d.args.get(1) {
        s.keepalive_header = word.time_sec().ok_or_else(|| Error::on(d, "invalid value"))?;
    }
    Ok(())
}

pub(super) fn keepalive_disable(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let names = [("none", 0), ("msie6", KEEPALIVE_DISABLE_MSIE6), ("safari", KEEPALIVE_DISABLE_SAFARI)];
    s.keepalive_disable = cx.bits(d, &names)?;
    Ok(())
}

/// `on`, `off`, or threads, of a pool by name or of the usual one.
pub(super) fn aio(d: &Directive) -> Done {
    let word = d.arg(0)?;
    let is_known = word.is("on") || word.is("off") || word.is("threads") || word.after("threads=").is_some();
    if is_known { Ok(()) } else { Err(Error::on(d, "invalid value")) }
}

pub(super) fn max_ranges(s: &mut CoreSettings, _: &mut Cx<'_>, d: &Directive) -> Done {
    s.max_ranges = Some(d.number()?);
    Ok(())
}

pub(super) fn error_page(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let pages = pages::read(cx, d)?;
    s.error_pages.own().extend(pages);
    Ok(())
}

pub(super) fn error_log(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let inherited = (!s.error_log_own).then(Default::default);
    let logs = inherited.unwrap_or_else(|| s.error_log.clone());
    s.error_log = logs.with(cx, d)?;
    s.error_log_own = true;
    Ok(())
}

pub(super) fn open_file_cache(s: &mut CoreSettings, _: &mut Cx<'_>, d: &Directive) -> Done {
    let (mut max, mut inactive_sec) = (None, 60);
    for word in &d.args {
        if word.is("off") {
            s.open_file_cache = None;
            return Ok(());
        }
        if let Some(count) = word.after("max=") {
            let count = std::str::from_utf8(count).ok().and_then(|text| text.parse::<usize>().ok());
            max = Some(count.filter(|count| *count > 0).ok_or_else(|| bad_parameter(d, word))?);
        } else if let Some(time) = word.after("inactive=") {
            inactive_sec = base::parse_time_sec(time).map_err(|_| bad_parameter(d, word))?;
        } else {
            return Err(bad_parameter(d, word));
        }
    }
    let Some(max) = max else {
        return Err(Error::at(&d.name, "\"open_file_cache\" must have the \"max\" parameter"));
    };
    s.open_file_cache = Some(Arc::new(OpenFileCache::new(max, inactive_sec)));
    Ok(())
}

fn bad_parameter(d: &Directive, word: &Word) -> Error {
    Error::at(word, format!("invalid \"{}\" parameter \"{}\"", d.name.as_str(), word.as_str()))
}

pub(super) fn disable_symlinks(s: &mut CoreSettings, cx: &mut Cx<'_>, d: &Directive) -> Done {
    let mut from = None;
    let mut mode = None;
    for word in &d.args {
        match &*word.bytes {
            b"off" => mode = Some(Symlinks::Allowed),
            b"on" => mode = Some(Symlinks::Refused { only_foreign: false, from: None }),
            b"if_not_owner" => mode = Some(Symlinks::Refused { only_foreign: true, from: None }),
            _ => match word.after("from=") {
                Some(path) => from = Some(Template::compile_bytes(cx, word, path)?),
                None => {
                    return Err(Error::at(word, format!("invalid parameter \"{}\"", word.as_str())));
                }
            },
        }
    }
    s.disable_symlinks = match mode {
        Some(Symlinks::Refused { only_foreign, .. }) => Symlinks::Refused { only_foreign, from },
        Some(Symlinks::Allowed) => Symlinks::Allowed,
        None => {
            return Err(Error::at(
                &d.name,
                "\"disable_symlinks\" must have \"off\", \"on\" or \"if_not_owner\" parameter",
            ));
        }
    };
    Ok(())
}

pub(super) fn resolver(s: &mut CoreSettings, _: &mut Cx<'_>, d: &Directive) -> Done {
    s.resolver = Some(Arc::new(ResolverConf::read(d)?));
    Ok(())
}
