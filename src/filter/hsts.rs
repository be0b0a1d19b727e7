//! `hsts`: browsers are told to come by https only (HTTP Strict Transport Security, RFC 6797).

use super::{Exchange, Filter, FilterSettings, Phases};
use crate::units::Time;
use http::HeaderValue;
use pingora_http::ResponseHeader;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What browsers want before they put a name on the list they come with (hstspreload.org).
const A_YEAR: u64 = 365 * 24 * 60 * 60;

/// Tell browsers to come by https only. Sent over https alone, as RFC 6797 §7.2 has it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hsts {
    /// How long they remember it; `0s` makes them forget.
    pub max_age: Time,
    /// It is for all names below the host, too.
    pub include_subdomains: bool,
    /// The name may be put on the list that browsers come with.
    pub preload: bool,
}

impl Default for Hsts {
    fn default() -> Self {
        Hsts { max_age: Time::secs(A_YEAR), include_subdomains: false, preload: false }
    }
}

/// The behaviour of [`Hsts`].
pub struct HstsFilter(HeaderValue);

impl FilterSettings for Hsts {
    const KEY: &'static str = "hsts";
    type Filter = HstsFilter;

    fn build(&self) -> Result<HstsFilter, String> {
        let seconds = self.max_age.0.as_secs();
        if self.preload && (seconds < A_YEAR || !self.include_subdomains) {
            return Err("browsers put no such name on their list\nwith `preload`, write `include_subdomains: true` and a `max_age` of 365d or more".into());
        }
        let mut text = format!("max-age={seconds}");
        if self.include_subdomains {
            text.push_str("; includeSubDomains");
        }
        if self.preload {
            text.push_str("; preload");
        }
        HeaderValue::try_from(text).map(HstsFilter).map_err(|e| e.to_string())
    }
}

impl Filter for HstsFilter {
    fn phases(&self) -> Phases {
        Phases::RESPONSE
    }

    fn response(&self, ex: &mut Exchange<'_>, head: &mut ResponseHeader) {
        if ex.info().https {
            // a head that is full goes as it is
            head.insert_header("Strict-Transport-Security", self.0.clone()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(max_age: u64, include_subdomains: bool, preload: bool) -> Result<String, String> {
        let built = Hsts { max_age: Time::secs(max_age), include_subdomains, preload }.build()?;
        Ok(built.0.to_str().unwrap().to_string())
    }

    #[test]
    fn the_header_says_what_is_asked_for() {
        assert_eq!(built(A_YEAR, false, false).unwrap(), "max-age=31536000");
        assert_eq!(built(0, false, false).unwrap(), "max-age=0");
        assert_eq!(built(A_YEAR, true, true).unwrap(), "max-age=31536000; includeSubDomains; preload");
    }

    #[test]
    fn a_list_has_its_rules() {
        assert!(built(A_YEAR, false, true).is_err() && built(A_YEAR - 1, true, true).is_err());
    }
}
