//! How many arguments a directive takes, in nginx's own terms (`NGX_CONF_TAKE1`, `NGX_CONF_1MORE`, …).
//!
//! A set of allowed counts up to seven, or one of the open forms, which win over the set as in nginx.

/// Allowed numbers of arguments (`ngx_conf_file.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arity(u16);

impl Arity {
    /// No argument (`NGX_CONF_NOARGS`).
    pub const NOARGS: Self = Self(1);
    /// One argument (`NGX_CONF_TAKE1`).
    pub const ONE: Self = Self(1 << 1);
    /// Two arguments (`NGX_CONF_TAKE2`).
    pub const TWO: Self = Self(1 << 2);
    /// Three arguments (`NGX_CONF_TAKE3`).
    pub const THREE: Self = Self(1 << 3);
    /// Four arguments (`NGX_CONF_TAKE4`).
    pub const FOUR: Self = Self(1 << 4);
    /// Five arguments (`NGX_CONF_TAKE5`).
    pub const FIVE: Self = Self(1 << 5);
    /// Six arguments (`NGX_CONF_TAKE6`).
    pub const SIX: Self = Self(1 << 6);
    /// Seven arguments (`NGX_CONF_TAKE7`).
    pub const SEVEN: Self = Self(1 << 7);
    /// One or two arguments (`NGX_CONF_TAKE12`).
    pub const TAKE12: Self = Self::ONE.or(Self::TWO);
    /// One or three arguments (`NGX_CONF_TAKE13`).
    pub const TAKE13: Self = Self::ONE.or(Self::THREE);
    /// Two or three arguments (`NGX_CONF_TAKE23`).
    pub const TAKE23: Self = Self::TWO.or(Self::THREE);
    /// One to three arguments (`NGX_CONF_TAKE123`).
    pub const TAKE123: Self = Self::TAKE12.or(Self::THREE);
    /// One to four arguments (`NGX_CONF_TAKE1234`).
    pub const TAKE1234: Self = Self::TAKE123.or(Self::FOUR);
    /// One argument or more (`NGX_CONF_1MORE`).
    pub const MORE1: Self = Self(1 << 8);
    /// Two arguments or more (`NGX_CONF_2MORE`).
    pub const MORE2: Self = Self(1 << 9);
    /// One argument that is `on` or `off` (`NGX_CONF_FLAG`).
    pub const FLAG: Self = Self(1 << 10);
    /// Any number of arguments (`NGX_CONF_ANY`).
    pub const ANY: Self = Self(1 << 11);

    /// What either of the two allows.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the one argument must be `on` or `off`.
    #[must_use]
    pub const fn is_flag(self) -> bool {
        self.0 & Self::FLAG.0 != 0
    }

    /// Whether a directive with this many arguments (its name not counted) is well formed.
    #[must_use]
    pub const fn allows(self, args: usize) -> bool {
        if self.0 & Self::ANY.0 != 0 {
            true
        } else if self.is_flag() {
            args == 1
        } else if self.0 & Self::MORE1.0 != 0 {
            args >= 1
        } else if self.0 & Self::MORE2.0 != 0 {
            args >= 2
        } else {
            args <= 7 && self.0 & (1 << args) != 0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arity;

    #[test]
    fn counts() {
        let check = |arity: Arity, allowed: &str| {
            let counts: String = (0..10).filter(|n| arity.allows(*n)).map(|n| n.to_string()).collect();
            assert_eq!(counts, allowed, "{arity:?}");
        };
        check(Arity::NOARGS, "0");
        check(Arity::ONE, "1");
        check(Arity::SEVEN, "7");
        check(Arity::TAKE12, "12");
        check(Arity::TAKE13, "13");
        check(Arity::TAKE23, "23");
        check(Arity::TAKE1234, "1234");
        check(Arity::NOARGS.or(Arity::ONE), "01");
        check(Arity::MORE1, "123456789");
        check(Arity::MORE2, "23456789");
        check(Arity::FLAG, "1");
        check(Arity::ANY, "0123456789");
    }
}
