//! Counts checks and prints each as it is made, with the figure that was seen.

/// What was found so far.
#[derive(Debug, Default)]
pub struct Report {
    part: &'static str,
    /// Checks that held.
    pub passed: usize,
    /// Checks that did not.
    pub failed: usize,
}

impl Report {
    /// The checks that follow belong to this part.
    pub fn begin(&mut self, part: &'static str) {
        self.part = part;
    }

    /// Notes a check: with what was seen when it held, with what went wrong when it did not.
    pub fn check(&mut self, what: &str, result: Result<String, String>) {
        let part = self.part;
        match result {
            Ok(seen) if seen.is_empty() => {
                self.passed += 1;
                println!("ok      {part}: {what}");
            }
            Ok(seen) => {
                self.passed += 1;
                println!("ok      {part}: {what} ({seen})");
            }
            Err(why) => {
                self.failed += 1;
                println!("FAILED  {part}: {what}: {why}");
            }
        }
    }

    /// The last line.
    pub fn summary(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

/// A check that holds when `holds` does; either way `seen` is told.
pub fn when(holds: bool, seen: String) -> Result<String, String> {
    if holds { Ok(seen) } else { Err(seen) }
}
