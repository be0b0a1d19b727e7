//! `ip`: who may ask, by the address of the client.

use super::{Exchange, Filter, FilterSettings, Flow, Phases};
use crate::config::words::Cidr;
use http::StatusCode;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Allow or deny clients by address. `deny` is looked at first. With `allow`, everybody else is
/// denied. Behind `trusted_proxies`, the client is the one they report.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ip {
    /// Only these may ask (403 for others).
    pub allow: Vec<Cidr>,
    /// These may not ask (403).
    pub deny: Vec<Cidr>,
}

/// The behaviour of [`Ip`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpFilter {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl FilterSettings for Ip {
    const KEY: &'static str = "ip";
    type Filter = IpFilter;

    fn build(&self) -> Result<IpFilter, String> {
        if self.allow.is_empty() && self.deny.is_empty() {
            return Err("this filter names nobody\nwrite `allow`, `deny`, or both".into());
        }
        let nets = |words: &[Cidr]| words.iter().map(|c| c.0).collect();
        Ok(IpFilter { allow: nets(&self.allow), deny: nets(&self.deny) })
    }
}

impl IpFilter {
    /// Whether a client with this address may come in.
    pub fn admits(&self, client: IpAddr) -> bool {
        // ::ffff:192.0.2.1 is 192.0.2.1 on a dual-stack socket
        let client = client.to_canonical();
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&client));
        !within(&self.deny) && (self.allow.is_empty() || within(&self.allow))
    }
}

impl Filter for IpFilter {
    fn phases(&self) -> Phases {
        Phases::REQUEST
    }

    fn request(&self, ex: &mut Exchange<'_>) -> Flow {
        if self.admits(ex.client().ip()) {
            Flow::Continue
        } else {
            Flow::Refuse(StatusCode::FORBIDDEN, "address denied")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: &[&str], deny: &[&str]) -> IpFilter {
        let words = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        Ip { allow: words(allow), deny: words(deny) }.build().unwrap()
    }

    #[test]
    fn deny_wins_and_allow_shuts_out_the_rest() {
        let f = filter(&["10.0.0.0/8"], &["10.1.0.0/16"]);
        assert!(f.admits("10.2.0.1".parse().unwrap()));
        assert!(!f.admits("10.1.0.1".parse().unwrap()));
        assert!(!f.admits("192.0.2.1".parse().unwrap()));
        assert!(f.admits("::ffff:10.2.0.1".parse().unwrap()));
    }

    #[test]
    fn deny_alone_admits_everybody_else() {
        let f = filter(&[], &["2001:db8::/32"]);
        assert!(f.admits("10.2.0.1".parse().unwrap()));
        assert!(!f.admits("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_filter_that_names_nobody_is_a_mistake() {
        assert!(Ip::default().build().is_err());
    }
}
