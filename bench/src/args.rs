//! The command line: `--name value` pairs and `--name` switches, taken one by one.
//! Whatever nobody took is an error, so a misspelt option never runs a wrong benchmark.

use std::str::FromStr;

use crate::error::BenchError;

/// The words behind the subcommand that were not taken yet.
pub struct Args {
    words: Vec<String>,
}

impl Args {
    /// Takes the words behind the subcommand; `--name=value` is the same as `--name value`.
    pub fn new(words: impl Iterator<Item = String>) -> Self {
        let mut split = Vec::new();
        for word in words {
            match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => {
                    split.extend([name.to_owned(), value.to_owned()]);
                }
                _ => split.push(word),
            }
        }
        Self { words: split }
    }

    /// Takes the switch `name`; tells whether it was there.
    pub fn switch(&mut self, name: &str) -> bool {
        let found = self.words.iter().position(|word| word == name);
        found.is_some_and(|at| {
            self.words.remove(at);
            true
        })
    }

    /// Takes the value of the option `name`, if it was given.
    ///
    /// # Errors
    /// [`BenchError::Usage`] when the value is missing or does not parse.
    pub fn option<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, BenchError> {
        let Some(at) = self.words.iter().position(|word| word == name) else {
            return Ok(None);
        };
        self.words.remove(at);
        if at >= self.words.len() {
            return Err(BenchError::Usage(format!("{name} needs a value")));
        }
        let word = self.words.remove(at);
        let value = word.parse();
        value.map(Some).map_err(|_| BenchError::Usage(format!("{name} cannot be \"{word}\"")))
    }

    /// Ends the taking.
    ///
    /// # Errors
    /// [`BenchError::Usage`] when a word is left that no option took.
    pub fn finish(self) -> Result<(), BenchError> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(BenchError::Usage(format!("unknown argument \"{word}\""))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn takes_options_and_switches() {
        let mut args = args("--rounds 9 --quick --seconds=0.5");
        assert_eq!(args.option::<u32>("--rounds").ok().flatten(), Some(9));
        assert_eq!(args.option::<f64>("--seconds").ok().flatten(), Some(0.5));
        assert!(args.switch("--quick"));
        assert!(!args.switch("--quick"));
        assert!(args.finish().is_ok());
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        assert!(args("--round 9").finish().is_err());
        assert!(args("--rounds").option::<u32>("--rounds").is_err());
        assert!(args("--rounds many").option::<u32>("--rounds").is_err());
    }
}
