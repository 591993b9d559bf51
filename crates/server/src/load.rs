//! One configuration, from text to a compiled cycle with its log; the same steps everywhere.
//!
//! Master, worker, `-t` and a single process differ only in the [`Resources`] that they bring.

use std::io::IsTerminal;
use std::sync::Arc;

use conf::resources::Resources;
use conf::{Directive, Error, Order, Schema, Sources, Style, Tree};
use os::errlog::{ErrorLog, Level};

use crate::bundle::Bundle;
use crate::core_conf::{self, CoreConf};
use crate::engine::{Engine, Input, Running};
use crate::first_fault::{Pretend, first_fault};
use crate::paths::Paths;
use crate::reporter::Reporter;
use crate::system::{Purpose, SystemResources};

/// What stays the same from one configuration to the next.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) paths: Paths,
    pub(crate) globals: Option<String>,
    pub(crate) schema: Schema,
}

impl Setup {
    pub(crate) fn new<E: Engine>(paths: Paths, globals: Option<String>) -> Self {
        let schema = Schema::new(core_conf::ROWS.iter().chain(E::rows()));
        Self { paths, globals, schema }
    }
}

/// A configuration that is ready to run.
pub(crate) struct Loaded<E: Engine> {
    pub(crate) core: CoreConf,
    pub(crate) error_log: Arc<ErrorLog>,
    /// Some `error_log` names standard error, which then stays what it is.
    pub(crate) logs_to_stderr: bool,
    pub(crate) cycle: Arc<Running<E::Cycle>>,
}

/// The texts and messages of a load, whether it succeeded or not.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) sources: Sources,
    pub(crate) notices: Vec<Error>,
}

/// Called between compiling the core settings and the rest: then the owner of directories is known.
pub(crate) trait Door: Resources {
    fn owned_by(&mut self, core: &CoreConf);

    /// Whether something could not be opened, which nginx does only when all that is written is right.
    fn has_failed(&self) -> bool {
        false
    }

    /// Forgets that, for something written that is wrong.
    fn forgive(&mut self) {}
}

impl Door for SystemResources<'_> {
    fn owned_by(&mut self, core: &CoreConf) {
        self.owner = core.credentials.as_ref().map(|credentials| credentials.uid);
        self.inherits_objects = core.inherits_objects;
        self.check_pid_file(&core.pid_file);
    }

    fn has_failed(&self) -> bool {
        Self::has_failed(self)
    }

    fn forgive(&mut self) {
        Self::forgive(self);
    }
}

impl Door for crate::bundle::BundleResources<'_> {
    fn owned_by(&mut self, _: &CoreConf) {}
}

/// The settings of `main` and `events` alone, as `-s` needs them.
pub(crate) fn load_core<E: Engine>(
    setup: &Setup,
    door: &mut dyn Resources,
    told: &mut Told,
) -> Result<CoreConf, Error> {
    let globals = setup.globals.as_deref();
    let tree = conf::parse(&setup.paths.conf_file, &setup.schema, door, globals, &mut told.sources)?;
    CoreConf::compile(&tree, &setup.paths, E::modules(), &mut told.notices)
}

/// Reads and compiles; `previous` is the configuration that this one will replace.
pub(crate) fn load<E: Engine>(
    setup: &Setup,
    door: &mut impl Door,
    previous: Option<&Arc<Running<E::Cycle>>>,
    told: &mut Told,
) -> Result<Loaded<E>, Error> {
    let globals = setup.globals.as_deref();
    let (tree, broken) =
        conf::parse_as_far_as_good(&setup.paths.conf_file, &setup.schema, door, globals, &mut told.sources);
    let (done, is_whole) = match broken {
        None => (
            compile::<E>(setup, &tree, door, previous, &mut told.notices).and_then(|loaded| {
                let failed = || Error::bare("something could not be opened");
                if door.has_failed() { Err(failed()) } else { Ok(loaded) }
            }),
            Whole::Yes,
        ),
        Some(error) => (Err(error), Whole::No),
    };
    match done {
        Ok(loaded) => {
            told.notices.extend(tree.notices);
            told.notices.sort_by_key(|notice| notice.order);
            Ok(loaded)
        }
        Err(error) => {
            let error = match is_whole {
                Whole::Yes => written::<E>(setup, &tree, error, door, &mut told.notices),
                Whole::No => error,
            };
            Err(first_fault::<E>(&tree, &setup.paths, error, door, &mut told.notices))
        }
    }
}

/// Whether all of the text could be read.
enum Whole {
    Yes,
    No,
}

/// Where a compilation came to an end over something that nginx looks at late, what is wrong with the `http` block
/// nonetheless.
fn written<E: Engine>(
    setup: &Setup,
    tree: &Tree,
    found: Error,
    door: &mut impl Door,
    notices: &mut Vec<Error>,
) -> Error {
    if !door.has_failed() && found.order != Some(Order::END_OF_TEXT) {
        return found;
    }
    let core = CoreConf::defaults(&setup.paths);
    let error_log = Arc::new(ErrorLog::new(Vec::new()));
    let mut said = Vec::new();
    let input = Input {
        tree,
        core: &core,
        paths: &setup.paths,
        error_log: &error_log,
        previous: None,
        resources: &mut Pretend(&mut *door),
        notices: &mut said,
    };
    match E::compile(input) {
        Ok(_) => {
            notices.retain(|notice| notice.order == Some(Order::END_OF_TEXT));
            notices.append(&mut said);
            Error { order: Some(Order::END_OF_TEXT), ..found }
        }
        // Both are found after the text, and what is opened comes before what is shared.
        Err(error) if door.has_failed() && error.order == Some(Order::END_OF_TEXT) => error,
        Err(error) => {
            door.forgive();
            *notices = said;
            error
        }
    }
}

fn compile<E: Engine>(
    setup: &Setup,
    tree: &Tree,
    door: &mut impl Door,
    previous: Option<&Arc<Running<E::Cycle>>>,
    notices: &mut Vec<Error>,
) -> Result<Loaded<E>, Error> {
    let core = CoreConf::compile(tree, &setup.paths, E::modules(), notices)?;
    door.owned_by(&core);
    let error_log = Arc::new(core_conf::main_error_log(tree, &setup.paths, door)?);
    let input = Input {
        tree,
        core: &core,
        paths: &setup.paths,
        error_log: &error_log,
        previous,
        resources: door,
        notices,
    };
    let cycle = E::compile(input)?;
    let logs_to_stderr = error_log.has_stderr() || names_stderr(&tree.directives);
    let cycle = Arc::new(Running::new(cycle, Arc::clone(&error_log)));
    Ok(Loaded { core, cycle, error_log, logs_to_stderr })
}

fn names_stderr(lines: &[Directive]) -> bool {
    lines.iter().any(|line| {
        (line.row.name == "error_log" && line.args.first().is_some_and(|word| word.is("stderr")))
            || names_stderr(line.body())
    })
}

/// Reads, compiles and opens for serving; `None` where something is wrong, which was reported then. `previous` is what
/// runs by now, and `before` what it has opened.
pub(crate) fn load_to_serve<E: Engine>(
    setup: &Setup,
    reporter: &Reporter,
    before: &Bundle,
    previous: Option<&Arc<Running<E::Cycle>>>,
) -> Option<(Loaded<E>, Bundle)> {
    let mut told = Told::default();
    let mut resources = SystemResources::new(Purpose::Serve, reporter, before);
    let result = load::<E>(setup, &mut resources, previous, &mut told);
    told.report_notices(reporter);
    match result {
        Ok(loaded) => Some((loaded, resources.finish())),
        Err(error) => {
            if resources.tell_failure().is_none() {
                report(reporter, &error, &told.sources);
            }
            None
        }
    }
}

/// Reports a message about the configuration, with line, caret and fix where a terminal shows it.
pub(crate) fn report(reporter: &Reporter, error: &Error, sources: &Sources) {
    let level = match error.level {
        conf::Level::Emerg => Level::Emerg,
        conf::Level::Warn => Level::Warn,
        conf::Level::Notice | conf::Level::Hint => Level::Notice,
    };
    let long = std::io::stderr().is_terminal().then(|| error.render(sources, Style::Terminal));
    reporter.report_with(level, format_args!("{}", error.render(sources, Style::Plain)), long.as_deref());
}

impl Told {
    /// Reports what is worth knowing although nothing is wrong.
    pub(crate) fn report_notices(&self, reporter: &Reporter) {
        self.report_early_notices(reporter);
        self.report_late_notices(reporter);
    }

    /// Of this, what is found in the text.
    pub(crate) fn report_early_notices(&self, reporter: &Reporter) {
        self.report_some(reporter, |notice| notice.order != Some(Order::END_OF_TEXT));
    }

    /// Of this, what is found after the text.
    pub(crate) fn report_late_notices(&self, reporter: &Reporter) {
        self.report_some(reporter, |notice| notice.order == Some(Order::END_OF_TEXT));
    }

    fn report_some(&self, reporter: &Reporter, is_meant: impl Fn(&Error) -> bool) {
        for notice in
            self.notices.iter().filter(|notice| notice.level != conf::Level::Hint && is_meant(notice))
        {
            report(reporter, notice, &self.sources);
        }
    }

    /// Shows what only whoever tests a configuration wants to know.
    pub(crate) fn show_hints(&self) {
        let style = if std::io::stderr().is_terminal() { Style::Terminal } else { Style::Plain };
        for hint in self.notices.iter().filter(|notice| notice.level == conf::Level::Hint) {
            eprintln!("nginx: [hint] {}", hint.render(&self.sources, style));
        }
    }
}
