//! Steps about log files, and the look at the error log when a run ends.
//!
//! What must be there is waited for; what must not is judged at once, so it stands behind something awaited.

use std::time::{Duration, Instant};

use super::{Failure, PATIENCE, Run};
use crate::script::{ActKind, LogExpect, Step};
use crate::text::{glob, latin1};

impl Run<'_> {
    pub(super) fn log(&self, step: &Step, path: &str) -> Result<(), Failure> {
        let path = self.places.root().join(path);
        for act in &step.acts {
            if act.only.is_some_and(|kind| kind != self.binary.kind) {
                continue;
            }
            let ActKind::Log(expected) = &act.kind else { continue };
            let fail = |what: String| Failure { line: act.line, text: act.text.clone(), what };
            let (glob_text, whole) = match expected {
                LogExpect::Line(text) => (text.clone(), true),
                LogExpect::Has(text) | LogExpect::Lacks(text) | LogExpect::Count(_, text) => {
                    (format!("*{text}*"), false)
                }
            };
            let pattern = self.expand(&glob_text).map_err(fail)?;
            let deadline = Instant::now() + PATIENCE;
            loop {
                let text = latin1(&std::fs::read(&path).unwrap_or_default());
                let found = text.lines().filter(|line| glob(pattern.as_bytes(), line.as_bytes())).count();
                let (held, may_come) = match expected {
                    LogExpect::Has(_) | LogExpect::Line(_) => (found > 0, true),
                    LogExpect::Lacks(_) => (found == 0, false),
                    LogExpect::Count(count, _) => (found == *count, found < *count),
                };
                if held {
                    break;
                }
                if !may_come || Instant::now() > deadline {
                    let wanted = if whole { "whole lines match" } else { "lines contain it" };
                    return Err(fail(format!("{found} {wanted} in {}:\n{text}", path.display())));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Lines of the error log that no run may leave, unless the script allows them.
    pub(super) fn alarms(&self) -> Option<String> {
        let log = latin1(&std::fs::read(self.places.root().join("error.log")).unwrap_or_default());
        let stderr = latin1(&std::fs::read(self.places.root().join("stderr.txt")).unwrap_or_default());
        log.lines()
            .chain(stderr.lines())
            .filter(|line| ["[alert]", "[emerg]", "panicked at"].iter().any(|alarm| line.contains(alarm)))
            .find(|line| !self.scenario.allowed.iter().any(|allowed| line.contains(allowed.as_str())))
            .map(str::to_owned)
    }
}
