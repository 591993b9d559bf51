//! Networks of clients in directives (`ngx_ptocidr`).

use base::Network;
use conf::{Error, Level, Word};

use super::compile::Cx;

/// Reads an address, a network or `unix:`; `None` for anything else. Bits of the address that its prefix does
/// not reach bring a warning.
pub fn network(cx: &mut Cx<'_>, word: &Word) -> Option<Network> {
    let text = word.as_str();
    let network = Network::parse(&text)?;
    if has_low_bits(&text, network) {
        let sentence = format!("low address bits of {text} are meaningless");
        cx.notices.push(Error::at(word, sentence).with_level(Level::Warn));
    }
    Some(network)
}

/// Whether bits of the address were dropped because the prefix does not reach them.
fn has_low_bits(text: &str, network: Network) -> bool {
    let Network::Inet { base, .. } = network else { return false };
    text.split('/').next().and_then(base::address::ip).is_some_and(|ip| ip != base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_bits() {
        let check = |text: &str, expected| {
            assert_eq!(has_low_bits(text, Network::parse(text).expect("network")), expected, "{text}");
        };
        check("10.1.0.0/8", true);
        check("10.0.0.0/8", false);
        check("::1/64", true);
        check("::1", false);
        check("unix:", false);
    }
}
