//! The parameters of `server` in an `upstream` block, with nginx's sentences for those that are wrong.
//!
//! Which parameters are taken depends on the balancing method named so far: nginx reads the block top down.

use base::{parse_time_ms, parse_time_sec};

use crate::peer::Admin;

/// Longest `route`, in bytes (`NGX_HTTP_UPSTREAM_SID_LEN`).
const ROUTE_LIMIT: usize = 32;

/// The parameters of one `server`; the default is what nginx assumes where none are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// `weight=`, at least 1.
    pub weight: u32,
    /// `max_conns=`; 0 is no limit.
    pub max_conns: u32,
    /// `max_fails=`; 0 never disables.
    pub max_fails: u32,
    /// `fail_timeout=`, seconds.
    pub fail_timeout_sec: u64,
    /// `slow_start=`, milliseconds.
    pub slow_start_ms: u64,
    /// `backup`.
    pub role: Role,
    /// `down` or `drain`; the later one holds.
    pub admin: Admin,
    /// `route=`, 1 to 32 bytes.
    pub route: Option<Box<str>>,
    /// `resolve`.
    pub resolve: Resolve,
    /// `service=`, never empty.
    pub service: Option<Box<str>>,
}

/// Whether a server takes requests at once or when no other can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes requests at once.
    #[default]
    Primary,
    /// `backup`: takes them when no primary can.
    Backup,
}

/// When a server's name is looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolve {
    /// Once, when the configuration is read.
    #[default]
    AtLoad,
    /// `resolve`: again and again while running.
    WhileRunning,
}

impl Default for ServerSpec {
    fn default() -> Self {
        Self {
            weight: 1,
            max_conns: 0,
            max_fails: 1,
            fail_timeout_sec: 10,
            slow_start_ms: 0,
            role: Role::Primary,
            admin: Admin::Up,
            route: None,
            resolve: Resolve::AtLoad,
            service: None,
        }
    }
}

/// Which parameters the balancing method takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// All of them: round robin, `least_conn`, `least_time`.
    All,
    /// All but `backup` and `slow_start`: `hash`, `ip_hash`, `random`.
    NoBackup,
}

/// Why a `server` is refused; the text is nginx's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamError {
    /// Unknown, or its value is not of its form.
    #[error("invalid parameter \"{0}\"")]
    Invalid(Box<str>),
    /// Known, but not to this balancing method.
    #[error("balancing method does not support parameter \"{0}\"")]
    NotSupported(Box<str>),
    /// `route=` without a value.
    #[error("route is empty")]
    RouteEmpty,
    /// `route=` of more than 32 bytes.
    #[error("route is longer than 32")]
    RouteTooLong,
    /// `service=` without a value.
    #[error("service is empty")]
    ServiceEmpty,
    /// `service=` without `resolve`.
    #[error("service upstream \"{0}\" requires \"resolve\" parameter")]
    ServiceNeedsResolve(Box<str>),
}

/// Reads the parameters that follow the address of a `server` (`ngx_http_upstream_server`).
///
/// # Errors
/// [`ParamError`] for the first parameter that is wrong.
pub fn parse_server_params(params: &[&str], accepts: Accepts) -> Result<ServerSpec, ParamError> {
    let mut spec = ServerSpec::default();
    for param in params {
        apply(&mut spec, param, accepts)?;
    }
    Ok(spec)
}

fn apply(spec: &mut ServerSpec, param: &str, accepts: Accepts) -> Result<(), ParamError> {
    let invalid = || ParamError::Invalid(param.into());
    let only_for_all = || match accepts {
        Accepts::All => Ok(()),
        Accepts::NoBackup => Err(ParamError::NotSupported(param.into())),
    };
    if let Some((name, value)) = param.split_once('=') {
        match name {
            "weight" => spec.weight = number(value).filter(|n| *n > 0).ok_or_else(invalid)?,
            "max_conns" => spec.max_conns = number(value).ok_or_else(invalid)?,
            "max_fails" => spec.max_fails = number(value).ok_or_else(invalid)?,
            "fail_timeout" => {
                spec.fail_timeout_sec = parse_time_sec(value.as_bytes()).map_err(|_| invalid())?
            }
            "slow_start" => {
                only_for_all()?;
                spec.slow_start_ms = parse_time_ms(value.as_bytes()).map_err(|_| invalid())?;
            }
            "route" if value.is_empty() => return Err(ParamError::RouteEmpty),
            "route" if value.len() > ROUTE_LIMIT => return Err(ParamError::RouteTooLong),
            "route" => spec.route = Some(value.into()),
            "service" if value.is_empty() => return Err(ParamError::ServiceEmpty),
            "service" => spec.service = Some(value.into()),
            _ => return Err(invalid()),
        }
        return Ok(());
    }
    match param {
        "backup" => {
            only_for_all()?;
            spec.role = Role::Backup;
        }
        "down" => spec.admin = Admin::Down,
        "drain" => spec.admin = Admin::Draining,
        "resolve" => spec.resolve = Resolve::WhileRunning,
        _ => return Err(invalid()),
    }
    Ok(())
}

/// Digits alone, as `ngx_atoi` takes them; what does not fit is wrong too.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

impl ServerSpec {
    /// Checks what must hold once all parameters of `server` are read.
    ///
    /// # Errors
    /// [`ParamError::ServiceNeedsResolve`].
    pub fn check(&self, server: &str) -> Result<(), ParamError> {
        match (&self.service, self.resolve) {
            (Some(_), Resolve::AtLoad) => Err(ParamError::ServiceNeedsResolve(server.into())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_ones_get_the_sentence_of_nginx() {
        let check = |param: &str, accepts, expected: &str| {
            let error = parse_server_params(&["weight=2", param], accepts).expect_err(param);
            assert_eq!(error.to_string(), expected);
        };
        check("weight=0", Accepts::All, "invalid parameter \"weight=0\"");
        check("weight=", Accepts::All, "invalid parameter \"weight=\"");
        check("weight=+1", Accepts::All, "invalid parameter \"weight=+1\"");
        check("weight=99999999999", Accepts::All, "invalid parameter \"weight=99999999999\"");
        check("max_fails=-1", Accepts::All, "invalid parameter \"max_fails=-1\"");
        check("max_conns=x", Accepts::All, "invalid parameter \"max_conns=x\"");
        check("fail_timeout=1ms", Accepts::All, "invalid parameter \"fail_timeout=1ms\"");
        check("fail_timeout=", Accepts::All, "invalid parameter \"fail_timeout=\"");
        check("Backup", Accepts::All, "invalid parameter \"Backup\"");
        check("down=1", Accepts::All, "invalid parameter \"down=1\"");
        check("", Accepts::All, "invalid parameter \"\"");
        check("backup", Accepts::NoBackup, "balancing method does not support parameter \"backup\"");
        check(
            "slow_start=1s",
            Accepts::NoBackup,
            "balancing method does not support parameter \"slow_start=1s\"",
        );
        check("route=", Accepts::All, "route is empty");
        check(&format!("route={}", "a".repeat(33)), Accepts::All, "route is longer than 32");
        check("service=", Accepts::All, "service is empty");
    }

    #[test]
    fn right_ones_fill_the_fields() {
        let params = ["weight=5", "max_conns=7", "max_fails=0", "fail_timeout=1m30s", "slow_start=250ms"];
        let spec = parse_server_params(&params, Accepts::All).expect("known");
        let expected = ServerSpec {
            weight: 5,
            max_conns: 7,
            max_fails: 0,
            fail_timeout_sec: 90,
            slow_start_ms: 250,
            ..ServerSpec::default()
        };
        assert_eq!(spec, expected);
        let params = ["backup", "down", "drain", "route=a=b", "resolve", "service=http"];
        let spec = parse_server_params(&params, Accepts::All).expect("known");
        assert_eq!(
            (spec.role, spec.admin, spec.resolve),
            (Role::Backup, Admin::Draining, Resolve::WhileRunning)
        );
        assert_eq!((spec.route.as_deref(), spec.service.as_deref()), (Some("a=b"), Some("http")));
        assert_eq!(parse_server_params(&[], Accepts::All), Ok(ServerSpec::default()));
    }

    #[test]
    fn service_needs_resolve() {
        let spec = parse_server_params(&["service=http"], Accepts::All).expect("known");
        let error = spec.check("example.com").expect_err("no resolve").to_string();
        assert_eq!(error, "service upstream \"example.com\" requires \"resolve\" parameter");
    }
}
