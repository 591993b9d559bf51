//! `ngx_http_access_module`: `allow` and `deny`, the first rule that fits the client's address decides.
//!
//! Rules are kept per family as in nginx: a client of a family without any rule is let through.

use std::net::IpAddr;

use base::Network;
use conf::{Arity, Contexts, Directive, Error};
use http::conf::compile::Cx;
use http::conf::core::Satisfy;
use http::conf::network;
use http::conf::{Lines, Location};
use http::module::{Module, Registry, Settings, Slot};
use http::phases::{Outcome, Phase, PhaseHandler, Verdict};
use http::request::Request;
use http::rows::{Row, row};
use os::errlog;
use os::socket::PeerAddr;

/// `ngx_http_access_module`.
pub struct Access;

static SLOT: Slot = Slot::new();

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Allow,
    Deny,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clients {
    All,
    Some(Network),
}

/// The rules of one block.
#[derive(Clone, Default)]
pub struct AccessSettings {
    rules: Lines<(Clients, Rule)>,
}

impl Settings for AccessSettings {
    fn enter(&mut self) {
        self.rules.enter();
    }
}

const PLACES: Contexts = Contexts::HTTP_ALL.or(Contexts::LIMIT_EXCEPT).or(Contexts::STREAM_ALL);

static ROWS: [Row<AccessSettings>; 2] = [
    row("allow", PLACES, Arity::ONE, "", "Lets clients through.", allow).many(),
    row("deny", PLACES, Arity::ONE, "", "Refuses clients.", deny).many(),
];

fn allow(s: &mut AccessSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    s.add(cx, d, Rule::Allow)
}

fn deny(s: &mut AccessSettings, cx: &mut Cx<'_>, d: &Directive) -> Result<(), Error> {
    s.add(cx, d, Rule::Deny)
}

impl Module for Access {
    const NAME: &'static str = "ngx_http_access_module";
    const ALSO: &'static [&'static str] = &["ngx_stream_access_module"];
    const SLOT: &'static Slot = &SLOT;
    type Settings = AccessSettings;
    type Main = ();

    fn rows() -> &'static [Row<AccessSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.phase(Phase::Access, &Access);
        registry.stream_phase(Phase::Access, &Access);
    }
}

impl AccessSettings {
    fn add(&mut self, cx: &mut Cx<'_>, d: &Directive, rule: Rule) -> Result<(), Error> {
        let word = d.arg(0)?;
        let clients = if word.is("all") {
            Clients::All
        } else {
            let invalid = || Error::at(word, format!("invalid parameter \"{}\"", word.as_str()));
            Clients::Some(network(cx, word).ok_or_else(invalid)?)
        };
        self.rules.push((clients, rule));
        Ok(())
    }
}

/// The rule for a client; `None` where no rule speaks of it.
fn decide(rules: &[(Clients, Rule)], client: Option<IpAddr>) -> Option<Rule> {
    let client = match client {
        // A mapped address is an IPv4 client as soon as there is a rule for those.
        Some(ip @ IpAddr::V6(_)) => {
            let has_v4 = rules.iter().any(|(clients, _)| match clients {
                Clients::All => true,
                Clients::Some(Network::Inet { base, .. }) => base.is_ipv4(),
                Clients::Some(Network::Unix) => false,
            });
            Some(if has_v4 { ip.to_canonical() } else { ip })
        }
        other => other,
    };
    rules.iter().find(|(clients, _)| clients.include(client)).map(|(_, rule)| *rule)
}

impl Clients {
    fn include(self, client: Option<IpAddr>) -> bool {
        match (self, client) {
            (Self::All, _) | (Self::Some(Network::Unix), None) => true,
            (Self::Some(Network::Inet { base: IpAddr::V4(base), prefix }), Some(IpAddr::V4(ip))) => {
                let low = 32 - u32::from(prefix.min(32));
                (base.to_bits() ^ ip.to_bits()).checked_shr(low).unwrap_or(0) == 0
            }
            (Self::Some(Network::Inet { base: IpAddr::V6(base), prefix }), Some(IpAddr::V6(ip))) => {
                let low = 128 - u32::from(prefix.min(128));
                (base.to_bits() ^ ip.to_bits()).checked_shr(low).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl PhaseHandler for Access {
    fn concerns(&self, location: &Location) -> bool {
        !location.settings::<Self>().rules.is_empty()
    }

    fn run<'r>(&self, r: &'r mut Request) -> Verdict<'r> {
        let rules = &r.location().settings::<Self>().rules;
        let client = match r.client() {
            PeerAddr::Inet(addr) => Some(addr.ip()),
            PeerAddr::Unix(_) => None,
        };
        match decide(rules, client) {
            None => Verdict::Declined,
            Some(Rule::Allow) => Verdict::Pass,
            Some(Rule::Deny) => {
                if r.location().core.satisfy == Satisfy::All {
                    r.log(errlog::Level::Error, format_args!("access forbidden by rule"));
                }
                Verdict::Finish(Outcome::Status(403))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let check = |rules: &str, client: &str, expected: Option<Rule>| {
            let rules: Vec<_> = rules
                .split_whitespace()
                .map(|text| {
                    let (rule, clients) = text.split_at(1);
                    let clients = match clients {
                        "all" => Clients::All,
                        text => Clients::Some(Network::parse(text).expect("network")),
                    };
                    (clients, if rule == "+" { Rule::Allow } else { Rule::Deny })
                })
                .collect();
            let client = (client != "unix").then(|| client.parse().expect("address"));
            assert_eq!(decide(&rules, client), expected, "{rules:?} {client:?}");
        };
        check("-10.0.0.1 +10.0.0.0/8 -all", "10.0.0.1", Some(Rule::Deny));
        check("-10.0.0.1 +10.0.0.0/8 -all", "10.0.0.2", Some(Rule::Allow));
        check("-10.0.0.1 +10.0.0.0/8 -all", "11.0.0.1", Some(Rule::Deny));
        check("+10.0.0.0/8", "11.0.0.1", None);
        check("-10.0.0.0/8", "::1", None);
        check("-2001:db8::/32", "2001:db8::1", Some(Rule::Deny));
        check("-2001:db8::/32", "2001:db9::1", None);
        check("-::/0", "1.2.3.4", None);
        check("-0.0.0.0/0", "1.2.3.4", Some(Rule::Deny));
        check("-10.0.0.0/8", "::ffff:10.1.1.1", Some(Rule::Deny));
        check("-::/0", "::ffff:10.1.1.1", Some(Rule::Deny));
        check("-::/0 -10.0.0.0/8", "::ffff:11.1.1.1", None);
        check("+unix: -all", "unix", Some(Rule::Allow));
        check("+unix: -all", "127.0.0.1", Some(Rule::Deny));
        check("-127.0.0.1", "unix", None);
        check("-all", "unix", Some(Rule::Deny));
    }
}
