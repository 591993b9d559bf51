//! Steps that run a program to its end: the binary with `-t` or other arguments, a start that must fail, a client.
//!
//! A configuration that a `test` step holds in its lines is written to `test.conf` with unchanged line numbers.

use super::{Failure, PATIENCE, Run};
use crate::prelude::dress;
use crate::process::ProcessError;
use crate::script::{Act, ActKind, Expect, Prelude, Step, StepKind};
use crate::text::{glob, latin1};

/// What a command left.
pub(super) struct Left {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Run<'_> {
    pub(super) fn command(&mut self, step: &Step) -> Result<(), Failure> {
        let fail = |what: String| Failure { line: step.line, text: step.text.clone(), what };
        let arguments = self.arguments(step).map_err(fail)?;
        let output =
            self.binary.run(&arguments, self.places.root()).map_err(|error| fail(error.to_string()))?;
        let left = Left {
            code: output.status.code(),
            stdout: latin1(&output.stdout),
            stderr: latin1(&output.stderr),
        };
        self.judge(step, &left)
    }

    pub(super) fn start_fails(&mut self, step: &Step) -> Result<(), Failure> {
        let fail = |what: String| Failure { line: step.line, text: step.text.clone(), what };
        match self.start() {
            Ok(()) => Err(fail("the server started".into())),
            Err(ProcessError::Ended { status, said }) => {
                let left = Left { code: status.code(), stdout: String::new(), stderr: said };
                // What it said of its failed start is no alarm.
                let _ = std::fs::remove_file(self.places.root().join("error.log"));
                let _ = std::fs::remove_file(self.places.root().join("stderr.txt"));
                self.judge(step, &left)
            }
            Err(error) => Err(fail(error.to_string())),
        }
    }

    pub(super) fn wait_exit(&mut self, step: &Step) -> Result<(), Failure> {
        let fail = |what: String| Failure { line: step.line, text: step.text.clone(), what };
        let server = self.server.as_mut().ok_or_else(|| fail("the server was not started".into()))?;
        let status = server.wait(PATIENCE).map_err(fail)?;
        let left = Left { code: status.code(), stdout: String::new(), stderr: server.said() };
        self.judge(step, &left)
    }

    fn arguments(&self, step: &Step) -> Result<Vec<String>, String> {
        let StepKind::Test { file, prelude } = &step.kind else {
            let StepKind::Run(words) = &step.kind else { return Err("not a command".into()) };
            return words.iter().map(|word| self.expand(word)).collect();
        };
        let conf = match file {
            Some(file) => {
                let path = self.scenario.folder.join(file);
                std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?
            }
            None => step
                .acts
                .iter()
                .filter_map(
                    |act| if let ActKind::Text(line) = &act.kind { Some(line.as_str()) } else { None },
                )
                .fold(String::new(), |conf, line| conf + line + "\n"),
        };
        let root = self.places.root().display().to_string();
        let mut words: Vec<String> =
            ["-t", "-p", &format!("{root}/"), "-c", "test.conf", "-e", "test.log"].map(str::to_owned).into();
        match prelude {
            Prelude::Added => self
                .write("test.conf", &self.expand(&dress(&conf, &self.binary.paths, &self.binary.events))?)?,
            Prelude::Bare => {
                self.write("test.conf", &self.expand(&conf)?)?;
                words.extend(["-g".to_owned(), format!("pid {root}/test.pid;")]);
            }
        }
        Ok(words)
    }

    pub(super) fn judge(&self, step: &Step, left: &Left) -> Result<(), Failure> {
        for act in &step.acts {
            if act.only.is_some_and(|kind| kind != self.binary.kind) {
                continue;
            }
            let ActKind::Expect(expected) = &act.kind else { continue };
            self.holds(act, expected, left).map_err(|what| {
                let (out, err) = (&left.stdout, &left.stderr);
                let what = format!("{what}\nexit {:?}\nstdout: {out}\nstderr: {err}", left.code);
                Failure { line: act.line, text: act.text.clone(), what }
            })?;
        }
        Ok(())
    }

    fn holds(&self, act: &Act, expected: &Expect, left: &Left) -> Result<(), String> {
        let has = |text: &str, wanted: &str| -> Result<bool, String> {
            let wanted = format!("*{}*", self.expand(wanted)?);
            Ok(text.lines().any(|line| glob(wanted.as_bytes(), line.as_bytes())))
        };
        let held = match expected {
            Expect::Exit(code) => left.code == Some(*code),
            Expect::Stderr(text) => has(&left.stderr, text)?,
            Expect::Stdout(text) => has(&left.stdout, text)?,
            Expect::Silent => left.stderr.is_empty(),
            _ => return Err(format!("not for a command: {}", act.text)),
        };
        if held { Ok(()) } else { Err("does not hold".into()) }
    }
}
