//! `-t` and `-T`: compiles, opens what a start would open, tells the result, leaves nothing behind.
//!
//! An address in use is no error: the server that holds it is usually the one that will be reloaded.

use std::process::ExitCode;

use os::errlog::{Errno, Level};

use crate::bundle::Bundle;
use crate::cli::{Testing, Voice};
use crate::engine::Engine;
use crate::load::{Setup, Told, load, report};
use crate::pid_file;
use crate::reporter::Reporter;
use crate::system::{Purpose, SystemResources};

pub(crate) fn run<E: Engine>(setup: &Setup, reporter: &Reporter, testing: Testing, voice: Voice) -> ExitCode {
    let path = setup.paths.conf_file.display();
    let (nothing, mut told) = (Bundle::default(), Told::default());
    let mut resources = SystemResources::new(Purpose::Test, reporter, &nothing);
    let result = load::<E>(setup, &mut resources, None, &mut told);
    told.report_notices(reporter);
    if voice == Voice::Normal {
        told.show_hints();
    }
    let is_syntax_ok = result.is_ok() || resources.has_failed();
    if is_syntax_ok && voice == Voice::Normal {
        eprintln!("nginx: the configuration file {path} syntax is ok");
    }
    let is_fine = match &result {
        Ok(loaded) => pid_file::check(&loaded.core.pid_file)
            .inspect_err(|error| {
                let pid = loaded.core.pid_file.display();
                reporter.report(Level::Emerg, format_args!("open() \"{pid}\" failed {}", Errno(error)));
            })
            .is_ok(),
        Err(error) if !resources.has_failed() => {
            report(reporter, error, &told.sources);
            false
        }
        Err(_) => false,
    };
    if !is_fine {
        eprintln!("nginx: configuration file {path} test failed");
        return ExitCode::FAILURE;
    }
    if voice == Voice::Normal {
        eprintln!("nginx: configuration file {path} test is successful");
    }
    if testing == Testing::Dump {
        // A reader that went away, such as `head`, is no failure of the test.
        let _ = told.sources.dump(&mut std::io::stdout().lock());
    }
    ExitCode::SUCCESS
}
