//! Arguments as values: flags, numbers, sizes, times, choices; each with nginx's sentence when it is none.
//!
//! Methods of a directive look at its first arguments; methods of a word leave the sentence to the caller.

use base::{UnitError, parse_offset, parse_size, parse_time_ms, parse_time_sec};

use crate::tree::{Directive, Word};
use crate::{Error, Fault, Level};

/// A number of buffers and the size of each, as in `proxy_buffers 8 4k`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bufs {
    /// How many, at least one.
    pub number: u64,
    /// Bytes of each, at least one.
    pub size: u64,
}

impl Word {
    /// A decimal number (`ngx_atoi`); `None` for anything else and beyond 63 bits.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        parse_number(&self.bytes)
    }

    /// Bytes of a size such as `8k` or `1m` (`ngx_parse_size`).
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        parse_size(&self.bytes).ok()
    }

    /// Bytes of an offset, which knows `g` too (`ngx_parse_offset`).
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        parse_offset(&self.bytes).ok()
    }

    /// Milliseconds of a time such as `1m30s` (`ngx_parse_time`).
    #[must_use]
    pub fn time_ms(&self) -> Option<u64> {
        parse_time_ms(&self.bytes).ok()
    }

    /// Seconds of a time; milliseconds are refused (`ngx_parse_time`).
    #[must_use]
    pub fn time_sec(&self) -> Option<u64> {
        parse_time_sec(&self.bytes).ok()
    }

    /// Whether the word is this text in any case of letters.
    #[must_use]
    pub fn is_ignoring_case(&self, text: &str) -> bool {
        self.bytes.eq_ignore_ascii_case(text.as_bytes())
    }
}

/// A decimal number of at most 63 bits without a sign (`ngx_atoi`), such as what follows `max_fails=`.
#[must_use]
pub fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    u64::try_from(number).ok()
}

pub(crate) fn flag_of(name: &Word, value: &Word) -> Result<bool, Error> {
    if value.is_ignoring_case("on") {
        Ok(true)
    } else if value.is_ignoring_case("off") {
        Ok(false)
    } else {
        let fault = Fault::NotFlag { value: value.as_str().into(), name: name.as_str().into() };
        Err(Error::fault_at(value, fault))
    }
}

impl Directive {
    /// `on` or `off` (`ngx_conf_set_flag_slot`).
    ///
    /// # Errors
    /// `invalid value "x" in "y" directive, it must be "on" or "off"`
    pub fn flag(&self) -> Result<bool, Error> {
        flag_of(&self.name, self.arg(0)?)
    }

    /// A number (`ngx_conf_set_num_slot`).
    ///
    /// # Errors
    /// `"x" directive invalid number`
    pub fn number(&self) -> Result<u64, Error> {
        let word = self.arg(0)?;
        word.number().ok_or_else(|| self.verdict(word, "invalid number"))
    }

    /// A number of at least `low` (`ngx_conf_check_num_bounds`).
    ///
    /// # Errors
    /// `value must be equal to or greater than LOW`, and as [`Directive::number`].
    pub fn number_at_least(&self, low: u64) -> Result<u64, Error> {
        let number = self.number()?;
        let sentence = || format!("value must be equal to or greater than {low}");
        if number >= low { Ok(number) } else { Err(Error::at(self.arg(0)?, sentence())) }
    }

    /// A number from `low` to `high` (`ngx_conf_check_num_bounds`).
    ///
    /// # Errors
    /// `value must be between LOW and HIGH`, and as [`Directive::number`].
    pub fn number_between(&self, low: u64, high: u64) -> Result<u64, Error> {
        let number = self.number()?;
        let sentence = || format!("value must be between {low} and {high}");
        if (low..=high).contains(&number) { Ok(number) } else { Err(Error::at(self.arg(0)?, sentence())) }
    }

    /// A size, bytes (`ngx_conf_set_size_slot`).
    ///
    /// # Errors
    /// `"x" directive invalid value`
    pub fn size(&self) -> Result<u64, Error> {
        self.unit(parse_size)
    }

    /// An offset, bytes (`ngx_conf_set_off_slot`).
    ///
    /// # Errors
    /// `"x" directive invalid value`
    pub fn offset(&self) -> Result<u64, Error> {
        self.unit(parse_offset)
    }

    /// A time, milliseconds (`ngx_conf_set_msec_slot`).
    ///
    /// # Errors
    /// `"x" directive invalid value`
    pub fn time_ms(&self) -> Result<u64, Error> {
        self.unit(parse_time_ms)
    }

    /// A time, seconds (`ngx_conf_set_sec_slot`).
    ///
    /// # Errors
    /// `"x" directive invalid value`
    pub fn time_sec(&self) -> Result<u64, Error> {
        self.unit(parse_time_sec)
    }

    /// Number and size of buffers (`ngx_conf_set_bufs_slot`).
    ///
    /// # Errors
    /// `"x" directive invalid value`, also when either is zero.
    pub fn bufs(&self) -> Result<Bufs, Error> {
        let (count, size) = (self.arg(0)?, self.arg(1)?);
        let positive = |word, value: Option<u64>| {
            value.filter(|value| *value > 0).ok_or_else(|| self.verdict(word, "invalid value"))
        };
        Ok(Bufs { number: positive(count, count.number())?, size: positive(size, size.size())? })
    }

    /// One of some names, in any case of letters (`ngx_conf_set_enum_slot`).
    ///
    /// # Errors
    /// `invalid value "x"`
    pub fn one_of<T: Copy>(&self, names: &[(&str, T)]) -> Result<T, Error> {
        let word = self.arg(0)?;
        chosen(word, names)
    }

    /// The bits of several names, in any case of letters, added to those of an `earlier` line of the same block
    /// (`ngx_conf_set_bitmask_slot`). A name that is written twice is a warning.
    ///
    /// # Errors
    /// `invalid value "x"`
    pub fn bits(&self, earlier: u32, names: &[(&str, u32)], warnings: &mut Vec<Error>) -> Result<u32, Error> {
        self.args.iter().try_fold(earlier, |bits, word| {
            let bit = chosen(word, names)?;
            if bits & bit != 0 {
                let sentence = format!("duplicate value \"{}\"", word.as_str());
                warnings.push(Error::at(word, sentence).with_level(Level::Warn));
            }
            Ok(bits | bit)
        })
    }

    fn unit(&self, parse: fn(&[u8]) -> Result<u64, UnitError>) -> Result<u64, Error> {
        let word = self.arg(0)?;
        parse(&word.bytes).map_err(|UnitError| self.verdict(word, "invalid value"))
    }

    /// `"x" directive VERDICT` with the caret below one of its arguments.
    fn verdict(&self, word: &Word, verdict: &str) -> Error {
        Error::fault_at(word, Fault::Verdict { name: self.name.as_str().into(), verdict: verdict.into() })
    }
}

fn chosen<T: Copy>(word: &Word, names: &[(&str, T)]) -> Result<T, Error> {
    let found = names.iter().find(|(name, _)| word.is_ignoring_case(name));
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| Error::at(word, format!("invalid value \"{}\"", word.as_str())))
}

#[cfg(test)]
mod tests;
