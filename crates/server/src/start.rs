//! From the command line to a running server, in nginx's order: sockets first, then the background, then
//! the pid file, so that whoever sees the file may connect.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use net::event_loop::Method;
use os::errlog::{Errno, ErrorLog, Level, Sink, Target};
use os::signal::SignalFd;

use crate::bundle::Bundle;
use crate::cli::{self, Options, Testing};
use crate::core_conf::{Daemon, Processes};
use crate::engine::Engine;
use crate::load::{Setup, load_to_serve};
use crate::master::{self, Origin, redirect_stderr};
use crate::paths::Paths;
use crate::reporter::{Console, Reporter};
use crate::worker::SIGNALS;
use crate::{demo, directives, new_binary, pid_file, signaller, single, test_mode, version};

/// Runs the program with this engine, and returns its exit code.
#[must_use]
pub fn run<E: Engine>() -> ExitCode {
    let parent = os::process::parent_pid();
    let mut early = Vec::new();
    // Both come before anything else is opened.
    let inherited = new_binary::inherited_into(&mut early);
    let _ = os::process::fill_standard_descriptors();

    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|word| word.to_str()) {
        Some("demo") => return demo::run::<E>(args.get(2..).unwrap_or_default()),
        Some("--print-directives") => return directives::print::<E>(),
        _ => {}
    }
    let options = match cli::parse(args.iter().skip(1).cloned()) {
        Ok(options) => options,
        Err(sentence) => {
            eprintln!("nginx: {sentence}");
            return ExitCode::FAILURE;
        }
    };
    if options.show.version {
        let _ = std::io::stderr().write_all(version::text(options.show, E::modules()).as_bytes());
        if options.testing == Testing::No {
            return ExitCode::SUCCESS;
        }
    }
    let paths = match Paths::new(&options) {
        Ok(paths) => paths,
        Err(error) => {
            eprintln!("nginx: [emerg]: getcwd() failed {}", Errno(&error));
            return ExitCode::FAILURE;
        }
    };
    let reporter = first_reporter(&paths, options.testing);
    for (level, text) in early {
        reporter.report(level, format_args!("{text}"));
    }
    let setup = Setup::new::<E>(paths, options.globals.clone());
    if let Some(request) = options.request
        && options.testing == Testing::No
    {
        return signaller::run::<E>(&setup, &reporter, request);
    }
    if options.testing != Testing::No {
        let Options { testing, voice, .. } = options;
        return test_mode::run::<E>(&setup, &reporter, testing, voice);
    }
    let (before, origin) = match inherited {
        Some(bundle) => (bundle, Some(Origin::Upgrade(parent))),
        None => (Bundle::default(), None),
    };
    serve::<E>(setup, reporter, before, origin, args)
}

/// The log until the configuration names one.
fn first_reporter(paths: &Paths, testing: Testing) -> Reporter {
    let level = if testing == Testing::No { Level::Notice } else { Level::Info };
    let console = Console::Shown;
    let file = paths.error_log.as_deref().and_then(|path| match os::file::open_append(path) {
        Ok(fd) => Some(fd),
        Err(error) => {
            let (path, reason) = (path.display(), Errno(&error));
            eprintln!("nginx: [alert] could not open error log file: open() \"{path}\" failed {reason}");
            None
        }
    });
    let target = match file {
        Some(fd) => Target::File(Arc::new(fd)),
        None => Target::Stderr,
    };
    Reporter { log: Arc::new(ErrorLog::new(vec![Sink::new(target, level)])), console }
}

fn serve<E: Engine>(
    setup: Setup,
    reporter: Reporter,
    before: Bundle,
    origin: Option<Origin>,
    args: Vec<OsString>,
) -> ExitCode {
    let Some((loaded, bundle)) = load_to_serve::<E>(&setup, &reporter, &before, None) else {
        return ExitCode::FAILURE;
    };
    // What was inherited and is not used closes here, as does the log that was there until now.
    drop(before);
    drop(reporter);
    let reporter = Reporter { log: Arc::clone(&loaded.error_log), console: Console::Shown };
    tell_system(&reporter, loaded.core.method);

    let origin = match (origin, loaded.core.daemon) {
        (Some(origin), _) => origin,
        (None, Daemon::Foreground) => Origin::Foreground,
        (None, Daemon::Background) => {
            if let Err(error) = os::process::daemonise() {
                reporter.report(Level::Emerg, format_args!("fork() failed {}", Errno(&error)));
                return ExitCode::FAILURE;
            }
            Origin::Daemon
        }
    };
    let signals = match SignalFd::new(SIGNALS) {
        Ok(signals) => signals,
        Err(error) => {
            reporter.report(Level::Emerg, format_args!("signalfd() failed {}", Errno(&error)));
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = pid_file::write(&loaded.core.pid_file) {
        let path = loaded.core.pid_file.display();
        reporter.report(Level::Emerg, format_args!("open() \"{path}\" failed {}", Errno(&error)));
        return ExitCode::FAILURE;
    }
    redirect_stderr(&loaded);
    match loaded.core.processes {
        Processes::Single => single::run(setup, loaded, bundle, &signals),
        Processes::MasterAndWorker => {
            master::run(master::Start { setup, loaded, bundle, origin, args, signals })
        }
    }
}

/// What nginx notes about itself and the system at every start (`ngx_os_status`).
fn tell_system(reporter: &Reporter, method: Method) {
    reporter.notice(format_args!("using the \"{}\" event method", method.available().name()));
    reporter.notice(format_args!("{}", base::version::BUILD));
    if let Ok((soft, hard)) = os::limits::nofile() {
        reporter.notice(format_args!("getrlimit(RLIMIT_NOFILE): {soft}:{hard}"));
    }
}
