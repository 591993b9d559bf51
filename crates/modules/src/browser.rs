//! `ngx_http_browser_module`: `$modern_browser`, `$ancient_browser` and `$msie` by the client's `User-Agent`.
//!
//! An agent may name several browsers; they are looked for in a fixed order with Opera first, since Opera named
//! itself MSIE as well.

use conf::{Arity, Contexts, Directive, Error};
use http::conf::Lines;
use http::conf::compile::Cx;
use http::module::{Module, Registry, Settings, Slot};
use http::request::Request;
use http::rows::{Row, value};
use http::special::is_msie;
use http::variables::Variable;
use proto::h1::Known;

/// `ngx_http_browser_module`.
pub struct Browser;

static SLOT: Slot = Slot::new();

/// How a browser is found in a `User-Agent`.
struct Mask {
    name: &'static str,
    /// Bytes at the front that are passed over.
    skip: usize,
    /// What is looked for behind them.
    mark: &'static [u8],
    /// Where its version begins, counted from the mark.
    version_at: usize,
}

/// In the order in which they are looked for.
static MASKS: [Mask; 5] = [
    Mask { name: "opera", skip: 0, mark: b"Opera", version_at: 6 },
    Mask { name: "msie", skip: 25, mark: b"MSIE ", version_at: 5 },
    Mask { name: "gecko", skip: 13, mark: b"rv:", version_at: 3 },
    Mask { name: "safari", skip: 13, mark: b"Safari/", version_at: 7 },
    Mask { name: "konqueror", skip: 25, mark: b"Konqueror/", version_at: 10 },
];

const OPERA: usize = 0;
/// More than any version that can be written.
const UNREACHABLE: u64 = 4_001_000_000;

/// Settings of [`Browser`].
#[derive(Clone, Default)]
pub struct BrowserSettings {
    /// Places in [`MASKS`] with the least version that counts as modern, in the order of the places.
    modern: Lines<(usize, u64)>,
    modern_unlisted: bool,
    ancient: Lines<Box<[u8]>>,
    netscape4: bool,
    modern_value: Box<[u8]>,
    ancient_value: Box<[u8]>,
}

impl Settings for BrowserSettings {
    fn enter(&mut self) {
        self.modern.enter();
        self.ancient.enter();
    }

    /// Who does not list Opera does not mean Opera by MSIE.
    fn finish(&mut self, _: &mut Cx<'_>) -> Result<(), Error> {
        if !self.modern.is_empty() && self.modern.iter().all(|(place, _)| *place != OPERA) {
            self.modern = [&[(OPERA, UNREACHABLE)], &*self.modern].concat().into();
        }
        Ok(())
    }
}

const ALL: Contexts = Contexts::HTTP_ALL;

static ROWS: [Row<BrowserSettings>; 4] = [
    value("modern_browser", ALL, Arity::TAKE12, "", "A browser and its first modern version.", modern).many(),
    value("ancient_browser", ALL, Arity::MORE1, "", "Texts that ancient browsers have.", ancient).many(),
    value("modern_browser_value", ALL, Arity::ONE, "1", "Value of $modern_browser.", modern_value).many(),
    value("ancient_browser_value", ALL, Arity::ONE, "1", "Value of $ancient_browser.", ancient_value).many(),
];

static VARIABLES: [Variable; 3] = [
    Variable::new("msie", |r, out| {
        out.extend_from_slice(if is_msie(r) { b"1" } else { b"" });
        true
    })
    .cached()
    .changeable(),
    Variable::new("modern_browser", |r, out| browser(r, Age::Modern, out)).cached().changeable(),
    Variable::new("ancient_browser", |r, out| browser(r, Age::Ancient, out)).cached().changeable(),
];

impl Module for Browser {
    const NAME: &'static str = "ngx_http_browser_module";
    const SLOT: &'static Slot = &SLOT;
    type Settings = BrowserSettings;
    type Main = ();

    fn rows() -> &'static [Row<BrowserSettings>] {
        &ROWS
    }

    fn register(registry: &mut Registry) {
        registry.variables(&VARIABLES);
    }
}

fn modern_value(s: &mut BrowserSettings, d: &Directive) -> Result<(), Error> {
    s.modern_value = d.arg(0)?.bytes.to_boxed();
    Ok(())
}

fn ancient_value(s: &mut BrowserSettings, d: &Directive) -> Result<(), Error> {
    s.ancient_value = d.arg(0)?.bytes.to_boxed();
    Ok(())
}

fn modern(s: &mut BrowserSettings, d: &Directive) -> Result<(), Error> {
    s.modern_unlisted &= s.modern.is_own();
    let own = s.modern.own();
    let name = d.arg(0)?;
    let Some(version) = d.args.get(1) else {
        if !name.is("unlisted") {
            return Err(Error::at(name, format!("invalid parameter \"{}\"", name.as_str())));
        }
        s.modern_unlisted = true;
        return Ok(());
    };
    let Some(place) = MASKS.iter().position(|mask| name.is_ignoring_case(mask.name)) else {
        return Err(Error::at(name, format!("unknown browser name \"{}\"", name.as_str())));
    };
    let (least, length) = read_version(&version.bytes);
    if length < version.bytes.len() {
        return Err(Error::at(version, format!("invalid browser version \"{}\"", version.as_str())));
    }
    let at = own.partition_point(|(other, _)| *other <= place);
    own.insert(at, (place, least));
    Ok(())
}

fn ancient(s: &mut BrowserSettings, d: &Directive) -> Result<(), Error> {
    s.netscape4 &= s.ancient.is_own();
    let own = s.ancient.own();
    for word in &d.args {
        if word.is("netscape4") {
            s.netscape4 = true;
        } else {
            own.push(word.bytes.to_boxed());
        }
    }
    Ok(())
}

/// A version of up to four numbers as one number, `4000.99.99.99` at most, and how many bytes it takes.
fn read_version(text: &[u8]) -> (u64, usize) {
    let (mut version, mut number, mut scale) = (0_u64, 0_u64, 1_000_000_u64);
    let mut length = 0;
    for byte in text {
        match byte {
            b'0'..=b'9' => number = number.saturating_mul(10).saturating_add(u64::from(byte - b'0')),
            b'.' => {
                version = version.saturating_add(number.saturating_mul(scale));
                number = 0;
                scale /= 100;
            }
            _ => break,
        }
        length += 1;
    }
    (version.saturating_add(number.saturating_mul(scale)), length)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Modern,
    Ancient,
}

fn browser(r: &Request, wanted: Age, out: &mut Vec<u8>) -> bool {
    let settings = r.location().settings::<Browser>();
    if settings.age(r.header(Known::UserAgent)) == wanted {
        out.extend_from_slice(match wanted {
            Age::Modern => &settings.modern_value,
            Age::Ancient => &settings.ancient_value,
        });
    }
    true
}

impl BrowserSettings {
    fn age(&self, agent: Option<&[u8]>) -> Age {
        let unlisted = if self.modern_unlisted { Age::Modern } else { Age::Ancient };
        let Some(agent) = agent else { return unlisted };
        let mut listed = self.modern.iter();
        if let Some(age) = listed.find_map(|(place, least)| MASKS.get(*place)?.age(agent, *least)) {
            return age;
        }
        let is_netscape4 = agent.len() > b"Mozilla/4.72 ".len()
            && matches!(agent, [b'M', b'o', b'z', b'i', b'l', b'l', b'a', b'/', b'1'..=b'4', ..]);
        if (!self.modern.is_empty() && !self.modern_unlisted)
            || (self.netscape4 && is_netscape4)
            || self.ancient.iter().any(|mark| memchr::memmem::find(agent, mark).is_some())
        {
            return Age::Ancient;
        }
        unlisted
    }
}

impl Mask {
    /// How old the browser is, where the agent is this one.
    fn age(&self, agent: &[u8], least: u64) -> Option<Age> {
        let rest = agent.get(self.skip..)?;
        let at = memchr::memmem::find(rest, self.mark)?;
        let text = rest.get(at + self.version_at..).filter(|text| !text.is_empty())?;
        let (version, _) = read_version(text);
        Some(if version >= least { Age::Modern } else { Age::Ancient })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD_MSIE: &str = "Mozilla/4.0 (compatible; MSIE 5.0; Windows NT 5.1)";
    const MSIE: &str = "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.1)";
    const OPERA_AS_MSIE: &str = "Mozilla/4.0 (compatible; MSIE 6.0; Windows NT 5.0; en) Opera 8.0";
    const FIREFOX: &str =
        "Mozilla/5.0 (X11; U; Linux i686; en-US; rv:1.8.0.5) Gecko/20060729 Firefox/1.5.0.5";
    const NETSCAPE: &str = "Mozilla/4.72 [en] (X11; U; Linux)";

    fn settings(modern: &[(usize, u64)], modern_unlisted: bool, ancient: &[&str]) -> BrowserSettings {
        BrowserSettings {
            modern: modern.to_vec().into(),
            modern_unlisted,
            ancient: ancient.iter().map(|mark| mark.as_bytes().into()).collect::<Vec<_>>().into(),
            netscape4: true,
            ..BrowserSettings::default()
        }
    }

    #[test]
    fn ages() {
        let strict = settings(&[(OPERA, UNREACHABLE), (1, 5_500_000), (2, 1_080_005)], false, &[]);
        let lax = settings(&[], true, &["Lynx"]);
        let both = settings(&[(1, 5_500_000)], true, &["Lynx"]);
        let check = |settings: &BrowserSettings, agent: &str, expected| {
            assert_eq!(settings.age(Some(agent.as_bytes())), expected, "{agent}");
        };
        check(&strict, MSIE, Age::Modern);
        check(&strict, OLD_MSIE, Age::Ancient);
        check(&strict, OPERA_AS_MSIE, Age::Ancient);
        check(&strict, FIREFOX, Age::Modern);
        check(&strict, "curl/7.0", Age::Ancient);
        check(&lax, "curl/7.0", Age::Modern);
        check(&lax, "Lynx/2.8", Age::Ancient);
        check(&lax, NETSCAPE, Age::Ancient);
        check(&lax, "Mozilla/5.0 (anything else)", Age::Modern);
        check(&both, "curl/7.0", Age::Modern);
        check(&both, "Lynx/2.8", Age::Ancient);
        check(&both, OLD_MSIE, Age::Ancient);
        assert_eq!(strict.age(None), Age::Ancient);
        assert_eq!(lax.age(None), Age::Modern);
    }

    #[test]
    fn versions() {
        let check = |text: &str, expected| assert_eq!(read_version(text.as_bytes()), expected, "{text}");
        check("6", (6_000_000, 1));
        check("6.0;", (6_000_000, 3));
        check("1.8.0.5", (1_080_005, 7));
        check("4000.99.99.99", (4_000_999_999, 13));
        check("1.2.3.4.5", (1_020_304, 9));
        check("x", (0, 0));
        check("99999999999999999999999", (u64::MAX, 23));
    }
}
