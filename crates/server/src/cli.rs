//! The command line, read as `ngx_get_options` reads it: letters may be joined, values may follow at once.
//!
//! Its sentences for wrong options are nginx's too, since scripts look at them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use os::signal::Signal;

/// What `-s` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `stop`
    Stop,
    /// `quit`
    Quit,
    /// `reopen`
    Reopen,
    /// `reload`
    Reload,
}

impl Request {
    /// The signal that carries it.
    pub fn signal(self) -> Signal {
        match self {
            Self::Stop => Signal::Term,
            Self::Quit => Signal::Quit,
            Self::Reopen => Signal::Usr1,
            Self::Reload => Signal::Hup,
        }
    }
}

/// What `-v`, `-V` and `-h` ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// The first line; the others imply it.
    pub version: bool,
    /// Usage.
    pub help: bool,
    /// Built-in modules and paths.
    pub configure: bool,
}

/// How the configuration is tested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Testing {
    /// Not at all: the server starts.
    #[default]
    No,
    /// `-t`
    Check,
    /// `-T`
    Dump,
}

/// Whether success is worth a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Voice {
    /// All is said.
    #[default]
    Normal,
    /// `-q`: errors only.
    Quiet,
}

/// The command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What is shown.
    pub show: Show,
    /// `-t` and `-T`.
    pub testing: Testing,
    /// `-q`.
    pub voice: Voice,
    /// `-p`.
    pub prefix: Option<PathBuf>,
    /// `-e`.
    pub error_log: Option<PathBuf>,
    /// `-c`.
    pub conf_file: Option<PathBuf>,
    /// `-g`.
    pub globals: Option<String>,
    /// `-s`.
    pub request: Option<Request>,
}

/// Reads the arguments, the program's name not among them.
///
/// # Errors
/// nginx's sentence about the first wrong one.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        let Some(mut letters) = bytes.strip_prefix(b"-") else {
            return Err(format!("invalid option: \"{}\"", arg.display()));
        };
        while let Some((letter, rest)) = letters.split_first() {
            letters = rest;
            match letter {
                b'p' | b'e' | b'c' | b'g' | b's' => {
                    let attached = (!rest.is_empty()).then(|| OsStr::from_bytes(rest).to_owned());
                    set_value(&mut options, *letter, attached.or_else(|| args.next()))?;
                    break;
                }
                _ => set_flag(&mut options, *letter)?,
            }
        }
    }
    Ok(options)
}

fn set_flag(options: &mut Options, letter: u8) -> Result<(), String> {
    match letter {
        b'?' | b'h' => options.show = Show { version: true, help: true, ..options.show },
        b'v' => options.show.version = true,
        b'V' => options.show = Show { version: true, configure: true, ..options.show },
        b't' if options.testing == Testing::No => options.testing = Testing::Check,
        b't' => {}
        b'T' => options.testing = Testing::Dump,
        b'q' => options.voice = Voice::Quiet,
        _ => return Err(format!("invalid option: \"{}\"", char::from(letter))),
    }
    Ok(())
}

fn set_value(options: &mut Options, letter: u8, value: Option<OsString>) -> Result<(), String> {
    let wanted = match letter {
        b'p' => "directory name",
        b'e' | b'c' => "file name",
        _ => "parameter",
    };
    let value = value.ok_or_else(|| format!("option \"-{}\" requires {wanted}", char::from(letter)))?;
    match letter {
        b'p' => options.prefix = Some(value.into()),
        b'e' => options.error_log = Some(value.into()),
        b'c' => options.conf_file = Some(value.into()),
        b'g' => options.globals = Some(String::from_utf8_lossy(&value.into_vec()).into_owned()),
        _ => options.request = Some(request(&value)?),
    }
    Ok(())
}

fn request(value: &OsStr) -> Result<Request, String> {
    match value.as_bytes() {
        b"stop" => Ok(Request::Stop),
        b"quit" => Ok(Request::Quit),
        b"reopen" => Ok(Request::Reopen),
        b"reload" => Ok(Request::Reload),
        _ => Err(format!("invalid option: \"-s {}\"", value.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Options, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn letters_and_values() {
        let check = |line: &str, change: fn(&mut Options)| {
            let mut expected = Options::default();
            change(&mut expected);
            assert_eq!(parsed(line), Ok(expected), "{line}");
        };
        check("", |_| {});
        check("-t", |o| o.testing = Testing::Check);
        check("-tq", |o| (o.testing, o.voice) = (Testing::Check, Voice::Quiet));
        check("-Tt", |o| o.testing = Testing::Dump);
        check("-?", |o| (o.show.version, o.show.help) = (true, true));
        check("-V", |o| (o.show.version, o.show.configure) = (true, true));
        check("-p /x -c a.conf", |o| (o.prefix, o.conf_file) = (Some("/x".into()), Some("a.conf".into())));
        check("-p/x", |o| o.prefix = Some("/x".into()));
        check("-tc a", |o| (o.testing, o.conf_file) = (Testing::Check, Some("a".into())));
        check("-e stderr", |o| o.error_log = Some("stderr".into()));
        check("-g daemon", |o| o.globals = Some("daemon".into()));
        check("-s reload", |o| o.request = Some(Request::Reload));
        check("-squit", |o| o.request = Some(Request::Quit));
    }

    #[test]
    fn wrong_options_are_named_as_nginx_does() {
        let check = |line: &str, expected: &str| assert_eq!(parsed(line), Err(expected.to_owned()), "{line}");
        check("x", "invalid option: \"x\"");
        check("-x", "invalid option: \"x\"");
        check("-tx", "invalid option: \"x\"");
        check("-s", "option \"-s\" requires parameter");
        check("-s halt", "invalid option: \"-s halt\"");
        check("-p", "option \"-p\" requires directory name");
        check("-c", "option \"-c\" requires file name");
        check("-e", "option \"-e\" requires file name");
        check("-g", "option \"-g\" requires parameter");
    }
}
