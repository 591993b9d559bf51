//! `-t` and `-T`: compiles, opens what a start would open, tells the result, leaves nothing behind.
//!
//! An address in use is no error: the server that holds it is usually the one that will be reloaded.

use std::process::ExitCode;

use conf::Order;

use crate::bundle::Bundle;
use crate::cli::{Testing, Voice};
use crate::engine::Engine;
use crate::load::{Setup, Told, load, report};
use crate::reporter::Reporter;
use crate::system::{Purpose, SystemResources};

pub(crate) fn run<E: Engine>(setup: &Setup, reporter: &Reporter, testing: Testing, voice: Voice) -> ExitCode {
    let path = setup.paths.conf_file.display();
    let (nothing, mut told) = (Bundle::default(), Told::default());
    let mut resources = SystemResources::new(Purpose::Test, reporter, &nothing);
    let result = load::<E>(setup, &mut resources, None, &mut told);
    told.report_early_notices(reporter);
    if voice == Voice::Normal {
        told.show_hints();
    }
    let is_late = |error: &conf::Error| error.order == Some(Order::END_OF_TEXT);
    let is_syntax_ok = result.as_ref().err().is_none_or(is_late);
    if is_syntax_ok && voice == Voice::Normal {
        eprintln!("nginx: the configuration file {path} syntax is ok");
    }
    told.report_late_notices(reporter);
    let is_fine = match &result {
        Ok(_) => true,
        Err(error) => {
            if resources.tell_failure().is_none() {
                report(reporter, error, &told.sources);
            }
            false
        }
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
    // It goes with the process, as in nginx: to take a long table apart costs as much as to make it.
    std::mem::forget(result);
    ExitCode::SUCCESS
}
