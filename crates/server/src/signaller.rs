//! `-s`: reads the pid file and sends the master a signal.
//!
//! Sentences and exit codes are those of `ngx_signal_process`.

use std::process::ExitCode;

use os::errlog::{Errno, Level};

use crate::bundle::Bundle;
use crate::cli::Request;
use crate::engine::Engine;
use crate::load::{Setup, Told, load_core, report};
use crate::pid_file::{self, Found};
use crate::reporter::Reporter;
use crate::system::{Purpose, SystemResources};

pub(crate) fn run<E: Engine>(setup: &Setup, reporter: &Reporter, request: Request) -> ExitCode {
    let (nothing, mut told) = (Bundle::default(), Told::default());
    let mut resources = SystemResources::new(Purpose::Test, reporter, &nothing);
    let core = match load_core::<E>(setup, &mut resources, &mut told) {
        Ok(core) => core,
        Err(error) => {
            report(reporter, &error, &told.sources);
            return ExitCode::FAILURE;
        }
    };
    reporter.notice(format_args!("signal process started"));
    let path = core.pid_file.display();
    let process = match pid_file::read(&core.pid_file) {
        Ok(Found::Process(process)) => process,
        Ok(Found::Nonsense(text)) => {
            reporter.report(Level::Error, format_args!("invalid PID number \"{text}\" in \"{path}\""));
            return ExitCode::FAILURE;
        }
        Err(error) => {
            reporter.report(Level::Error, format_args!("open() \"{path}\" failed {}", Errno(&error)));
            return ExitCode::FAILURE;
        }
    };
    let signal = request.signal();
    if let Err(error) = os::process::kill(process, signal) {
        let number = signal.number();
        reporter.alert(format_args!("kill({process}, {number}) failed {}", Errno(&error)));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
