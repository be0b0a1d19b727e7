//! Checks of `outlier`, `breaker` and `panic` in `upstreams`.

use super::Checker;
use crate::config::decode::Located;
use crate::config::file::{Breaker, Breakers, FailureShare, OneOrMany, Outlier, Panic, Slowness};
use crate::config::plan;
use crate::config::report::{Code, Span};
use crate::config::words::StatusRange;
use crate::units::{Percent, Time};

impl Checker<'_> {
    pub(super) fn outlier(&mut self, who: &str, outlier: &Located<Outlier>) -> plan::Outlier {
        let (span, file) = (outlier.span, &outlier.value);
        let what = |key: &str| format!("outlier.{key} of {who}");
        if file.consecutive_failures.on().is_none()
            && file.failure_share.on().is_none()
            && file.latency.on().is_none()
        {
            let message = format!(
                "outlier of {who} never ejects a server: everything in it is off\nremove `outlier`, or give it `consecutive_failures`"
            );
            self.error(Code::InvalidValue, span, &message);
        }
        self.positive(file.ejection.span, &what("ejection"), file.ejection.value);
        if file.max_ejection.0 < file.ejection.0 {
            let message = format!(
                "outlier.max_ejection of {who} is {}, shorter than the first ejection ({})\nwrite a longer time, such as {}",
                file.max_ejection,
                file.ejection,
                Time(file.ejection.0.saturating_mul(10))
            );
            self.error(Code::InvalidValue, span, &message);
        }
        self.above_zero(file.max_ejected.span, &what("max_ejected"), file.max_ejected.value);
        plan::Outlier {
            consecutive_failures: file.consecutive_failures.on().map(|n| n.get()),
            failure_share: file
                .failure_share
                .on()
                .map(|share| self.failure_share(&what("failure_share"), share)),
            latency: file.latency.on().map(|latency| self.slowness(&what("latency"), latency)),
            statuses: self.failures(&what("statuses"), &file.statuses),
            ejection: file.ejection.0,
            max_ejection: file.max_ejection.0,
            max_ejected: file.max_ejected.0,
        }
    }

    pub(super) fn breakers(&mut self, who: &str, breakers: &Located<Breakers>) -> plan::Breakers {
        let mut breaker = |key: &str, file: Option<&Located<Breaker>>| {
            file.map(|file| self.breaker(&format!("breaker.{key} of {who}"), file))
        };
        plan::Breakers {
            server: breaker("server", breakers.server.on()),
            group: breaker("group", breakers.group.on()),
        }
    }

    fn breaker(&mut self, what: &str, file: &Located<Breaker>) -> plan::Breaker {
        if file.failure_share.on().is_none() && file.pending.is_none() {
            let message = format!(
                "{what} never opens: it has neither `failure_share` nor `pending`\ngive it one of them, or write `off`"
            );
            self.error(Code::InvalidValue, file.span, &message);
        }
        self.positive(file.open.span, &format!("`open` in {what}"), file.open.value);
        let share = file.failure_share.on();
        plan::Breaker {
            failure_share: share.map(|share| self.failure_share(&format!("failure_share in {what}"), share)),
            pending: file.pending.map(|n| n.get()),
            statuses: self.failures(&format!("statuses in {what}"), &file.statuses),
            open: file.open.0,
            trials: u32::from(file.trials.get()),
        }
    }

    pub(super) fn panic(&mut self, who: &str, panic: &Panic) -> Option<Percent> {
        let below = panic.on()?;
        self.above_zero(below.span, &format!("panic of {who}"), below.value);
        Some(below.value)
    }

    fn failure_share(&mut self, what: &str, file: &Located<FailureShare>) -> plan::FailureShare {
        self.above_zero(file.span, what, file.share);
        self.positive(file.span, &format!("the window of {what}"), file.window);
        plan::FailureShare { share: file.share.0, requests: file.requests.get(), window: file.window.0 }
    }

    fn slowness(&mut self, what: &str, file: &Located<Slowness>) -> plan::Slowness {
        if file.times.get() < 2 {
            let message = format!(
                "`times` in {what} is 1: half of all servers are slower than the median\nwrite 2 or more, such as 5"
            );
            self.error(Code::InvalidValue, file.span, &message);
        }
        self.positive(file.span, &format!("the window of {what}"), file.window);
        plan::Slowness {
            times: file.times.get(),
            at_least: file.at_least.0,
            requests: file.requests.get(),
            window: file.window.0,
        }
    }

    fn failures(&mut self, what: &str, ranges: &OneOrMany<Located<StatusRange>>) -> plan::Statuses {
        let mut statuses = plan::Statuses::default();
        for range in &ranges.0 {
            if range.from < 400 {
                let message = format!(
                    "{what} has {range}, which is not the status of a failure\nwrite some from 400 to 599, such as 5xx"
                );
                self.error(Code::InvalidValue, range.span, &message);
            }
            (range.from..=range.to).for_each(|status| statuses.insert(status));
        }
        statuses
    }

    fn above_zero(&mut self, span: Span, what: &str, share: Percent) {
        if share.0 == 0 {
            self.error(
                Code::InvalidValue,
                span,
                &format!("{what} is 0%\nwrite a share such as 50%, or leave it out"),
            );
        }
    }
}
