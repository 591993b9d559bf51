//! `ngx_http_geo_module`: a variable whose value depends on the client's address.
//!
//! Who has no IPv4 or IPv6 address (a Unix socket, a variable that holds none) is looked up as 255.255.255.255.

mod networks;
mod ranges;
mod read;
mod segments;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base::Network;
use conf::{Arity, Contexts};
use http::forwarded::{self, Recursion};
use http::module::{Module, Slot};
use http::request::Request;
use http::rows::{Row, row};
use http::variables::{Compute, VariableId};
use os::socket::PeerAddr;
use proto::h1::Known;

use self::segments::{Segments, ValueId};

/// `ngx_http_geo_module`.
pub struct Geo;

static SLOT: Slot = Slot::new();

static ROWS: [Row<()>; 1] = [row(
    "geo",
    Contexts::HTTP.or(Contexts::STREAM),
    Arity::TAKE12,
    "",
    "Defines a variable by the client's address.",
    read::block,
)
.free()];

impl Module for Geo {
    const NAME: &'static str = "ngx_http_geo_module";
    const ALSO: &'static [&'static str] = &["ngx_stream_geo_module"];
    const SLOT: &'static Slot = &SLOT;
    type Settings = ();
    type Main = ();

    fn rows() -> &'static [Row<()>] {
        &ROWS
    }
}

/// Stands for every client without an IP address.
const NO_ADDRESS: u32 = u32::MAX;

/// A `geo` block at work.
struct Table {
    /// The variable that holds the address; the client's own without one.
    source: Option<VariableId>,
    proxies: Vec<Network>,
    recursion: Recursion,
    values: Vec<Box<[u8]>>,
    v4: Segments<u32>,
    /// `None` with `ranges`, which know IPv4 only.
    v6: Option<Segments<u128>>,
}

impl Table {
    /// The address to look up; `None` where there is none.
    fn address(&self, r: &Request) -> Option<IpAddr> {
        let sender = match self.source {
            None => r.client().clone(),
            Some(id) => {
                let text = r.variable(id)?;
                let ip = base::address::ip(std::str::from_utf8(&text).ok()?)?;
                PeerAddr::Inet(SocketAddr::new(ip, 0))
            }
        };
        if self.proxies.is_empty() {
            return sender.ip();
        }
        let fields = r.line.fields.all(Known::XForwardedFor).map(|field| field.value.of(&r.head));
        let fields: Vec<_> = fields.collect();
        forwarded::client(&sender, &fields, &self.proxies, self.recursion).unwrap_or(sender).ip()
    }

    fn find(&self, address: Option<IpAddr>) -> ValueId {
        match address.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => self.v4.find(ip.to_bits()),
            Some(IpAddr::V6(ip)) => match &self.v6 {
                Some(table) => table.find(ip.to_bits()),
                None => self.v4.find(NO_ADDRESS),
            },
            None => self.v4.find(NO_ADDRESS),
        }
    }
}

impl Compute for Table {
    fn compute(&self, r: &Request, out: &mut Vec<u8>) -> bool {
        let ValueId(value) = self.find(self.address(r));
        out.extend_from_slice(self.values.get(value as usize).map_or(&[], |value| value));
        true
    }
}

/// A table that is shared with the variables that it fills.
fn shared(table: Table) -> Arc<dyn Compute> {
    Arc::new(table)
}
