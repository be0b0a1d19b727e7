//! From the shape as typed to the resolved [`Plan`]: cross-references, files and meaning. Collects
//! every problem, not the first. Called by `gate` and `cli`; each room's checks are in a file of its name.

mod access_log;
mod acme;
mod admin;
mod certificate;
mod discovery;
mod error_pages;
mod files;
mod filters;
mod grpc;
mod health;
mod layer4;
mod listeners;
mod no_effect;
mod ocsp;
mod passive;
mod placement;
mod process;
mod routes;
mod sticky;
mod tls;
mod tracing;
mod udp;
mod upstream_tls;
mod upstreams;

pub(crate) use certificate::expires_soon;
pub use files::FileDigests;
pub(crate) use listeners::overlap;

use crate::config::decode::decode;
use crate::config::file::File;
use crate::config::load::{self, Document};
use crate::config::plan::{self, Plan, UpstreamId};
use crate::config::report::{Code, Report, Severity, Sources, Span};
use crate::config::yaml::Node;
use crate::filter::{Catalogue, FilterPlan};
use ahash::{AHashMap, AHashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A configuration that was read and checked.
pub struct Checked {
    /// As typed, with every default filled in.
    pub file: File,
    /// `None` when there are errors.
    pub plan: Option<Plan>,
    pub report: Report,
    pub sources: Sources,
    /// The files it names that were read: certificates, keys, error pages.
    pub files: FileDigests,
    /// The files that it is written in, and the directories in which a new file would belong to it.
    pub read: Vec<PathBuf>,
}

impl Checked {
    /// The warnings, one line each, for a process log.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let warnings = self.report.diagnostics().iter().filter(|d| d.severity == Severity::Warning);
        warnings.map(|d| format!("{} [{}]", d.message, d.code.as_str()))
    }
}

/// Reads and checks a file; variables come from the environment of the process.
pub fn check_file(path: &Path, catalogue: &Catalogue) -> Checked {
    check_file_after(path, catalogue, &[])
}

/// As [`check_file`]. Routes of the plan that are like the one at its place in `before` may be that one: no memory is asked for
/// to hold the same again.
pub fn check_file_after(path: &Path, catalogue: &Catalogue, before: &[Arc<plan::Route>]) -> Checked {
    let mut report = Report::new();
    let document = load::load(path, &|name| std::env::var(name).ok(), &mut report);
    check_after(document, catalogue, report, before)
}

/// As [`check_file`], with the text of the file given.
pub fn check_text(path: &Path, text: &str, catalogue: &Catalogue) -> Checked {
    let mut report = Report::new();
    let name = path.display().to_string();
    let document = load::load_str(&name, text, &|name| std::env::var(name).ok(), &mut report);
    check_document(document, catalogue, report)
}

/// Checks what was read.
pub fn check_document(document: Document, catalogue: &Catalogue, report: Report) -> Checked {
    check_after(document, catalogue, report, &[])
}

fn check_after(
    mut document: Document,
    catalogue: &Catalogue,
    mut report: Report,
    before: &[Arc<plan::Route>],
) -> Checked {
    let file: File = decode(&document, &document.root, &mut report);
    // filters keep what they need of the tree; the rest makes room for the plan
    document.root = Node::null(Span::default());
    // what was cut out because of a mistake must not look unused or missing below
    let whole = !report.has_errors();
    let checker = Checker { before, ..Checker::new(&document, &file, catalogue, &mut report, whole) };
    let (plan, files) = files::noting(|| checker.plan());
    let read = document.files.into_iter().chain(document.directories).collect();
    let mut sources = document.sources;
    discovery::files(&file, &mut sources, &mut report);
    let plan = plan.filter(|_| !report.has_errors());
    Checked { plan, file, sources, report, files, read }
}

/// What the checks share.
struct Checker<'a> {
    document: &'a Document,
    file: &'a File,
    catalogue: &'a Catalogue,
    report: &'a mut Report,
    /// The shape had no mistakes, so that what is missing really is missing.
    whole: bool,
    upstreams: AHashMap<&'a str, UpstreamId>,
    used_upstreams: AHashSet<UpstreamId>,
    /// Named filter chains, decoded.
    chains: AHashMap<&'a str, Vec<FilterPlan>>,
    used_chains: AHashSet<&'a str>,
    authorities: acme::Authorities<'a>,
    /// The routes in use, of which those that are the same are taken.
    before: &'a [Arc<plan::Route>],
}

impl<'a> Checker<'a> {
    fn new(
        document: &'a Document,
        file: &'a File,
        catalogue: &'a Catalogue,
        report: &'a mut Report,
        whole: bool,
    ) -> Self {
        let ids = file.upstreams.names().enumerate().map(|(i, name)| (name, UpstreamId(i))).collect();
        Checker {
            document,
            file,
            catalogue,
            report,
            whole,
            upstreams: ids,
            used_upstreams: AHashSet::new(),
            chains: AHashMap::new(),
            used_chains: AHashSet::new(),
            authorities: acme::Authorities::default(),
            before: &[],
        }
    }

    fn plan(mut self) -> Option<Plan> {
        self.process();
        self.access_log();
        self.dns_settings("dns", self.file.dns.span, &self.file.dns);
        self.named_chains();
        self.authorities();
        let upstreams = self.upstreams();
        let listeners = self.listeners();
        let routes = self.routes(&listeners);
        let file = self.file;
        let error_pages = self.error_pages("the file", &file.error_pages).into();
        let admin = self.admin();
        let tracing = self.tracing();
        self.sticky_cookies_apart(&routes, &upstreams);
        self.nothing_to_serve();
        self.placement();
        self.no_effect();
        self.grpc_web(&listeners, &routes, &upstreams);
        self.challenges_reachable();
        self.unused();
        let plan = Plan {
            server: self.file.server.clone(),
            trusted_proxies: self.file.trusted_proxies.iter().map(|c| c.0).collect(),
            proxy_headers: self.file.proxy_headers,
            log_level: self.file.log.level,
            access_log: self.file.log.access.clone(),
            listeners,
            routes,
            error_pages,
            admin,
            tracing,
            upstreams,
        };
        Some(plan)
    }

    fn nothing_to_serve(&mut self) {
        let (listeners, routes) = (&self.file.listeners, &self.file.routes);
        if !self.whole {
            return;
        }
        if listeners.is_empty() {
            self.report
                .error(Code::NothingToServe, Span::default(), "there is no listener")
                .help("add `listeners: [{ address: 127.0.0.1:8080 }]`");
        } else if routes.is_empty() && !listeners.iter().all(|l| l.redirect_https.enabled || l.passes_all()) {
            self.report
                .error(Code::NothingToServe, Span::default(), "there is no route")
                .help("add `routes: [{ path: /, upstream: NAME }]`, with the group under `upstreams`");
        }
    }

    /// Warnings about what is defined and serves nothing. Where there are errors, the mistake may
    /// be in what would have used it.
    fn unused(&mut self) {
        if self.report.has_errors() {
            return;
        }
        for (name, _) in self.file.upstreams.iter() {
            let id = self.upstreams.get(name.value.as_str());
            if id.is_some_and(|id| !self.used_upstreams.contains(id)) {
                let message = format!("upstream \"{}\" is not used by any route", name.value);
                self.report.warning(Code::UnusedUpstream, name.span, message).help("use it or remove it");
            }
        }
        for (name, _) in self.file.filters.iter() {
            if !self.used_chains.contains(name.value.as_str()) {
                let message = format!("filter chain \"{}\" is not used", name.value);
                self.report.warning(Code::UnusedFilters, name.span, message).help("use it or remove it");
            }
        }
    }

    /// An error about a name that refers to nothing, with the nearest one that exists.
    fn unknown_name<'n>(
        &mut self,
        span: Span,
        what: String,
        name: &str,
        known: impl Iterator<Item = &'n str> + Clone,
    ) {
        let near = crate::config::report::suggest(name, known.clone());
        let hint = near.map(|n| format!("; did you mean \"{n}\"?")).unwrap_or_default();
        let names: Vec<_> = known.collect();
        let help = match names.is_empty() {
            true => "none is defined".to_string(),
            false => format!("defined are {}", names.join(", ")),
        };
        self.report.error(Code::UnknownName, span, format!("{what} \"{name}\"{hint}")).help(help);
    }

    /// A message whose second line, if it has one, is the help.
    fn error(&mut self, code: Code, span: Span, message: &str) {
        match message.split_once('\n') {
            Some((message, help)) => {
                self.report.error(code, span, message).help(help);
            }
            None => {
                self.report.error(code, span, message);
            }
        }
    }
}
