//! placeholder
use super::{PrefixVariable, Variable};
pub static VARIABLES: [Variable; 0] = [];
pub static PREFIXES: [PrefixVariable; 0] = [];
