//! The gate as a library: a configuration file, the filters it may use, and `run`.

use crate::config::{self, Checked};
use crate::filter::{Catalogue, FilterSettings};
use crate::observe::process_log;
use crate::run;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// A gate that is about to be started from a YAML file.
///
/// ```no_run
/// # fn main() -> Result<(), weirgate::Error> {
/// weirgate::Gate::from_file("conf/weirgate.yaml").run()
/// # }
/// ```
pub struct Gate {
    file: PathBuf,
    catalogue: Catalogue,
}

/// Why a gate did not start, or did not end well.
#[derive(Debug)]
pub enum Error {
    /// The configuration has mistakes; the text lists all of them with their places.
    Configuration(String),
    /// The process could not do what the configuration says: an address in use, a file it may not open.
    Start(String),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Configuration(text) | Error::Start(text) => f.write_str(text.trim_end()),
        }
    }
}

impl std::error::Error for Error {}

impl Gate {
    /// The file is read by [`Gate::check`] and [`Gate::run`].
    pub fn from_file(file: impl AsRef<Path>) -> Gate {
        Gate { file: file.as_ref().to_path_buf(), catalogue: Catalogue::standard() }
    }

    /// Adds a kind of filter, so that the configuration may use it under its key. It is part of
    /// the unknown-key checks and of the schema from then on.
    #[must_use]
    pub fn filter<S: FilterSettings>(mut self) -> Gate {
        self.catalogue.register::<S>();
        self
    }

    /// The filters that a configuration may use.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// Reads the configuration and collects every problem in it.
    pub fn check(&self) -> Checked {
        config::check_file(&self.file, &self.catalogue)
    }

    /// Serves until the process is told to stop (SIGTERM lets requests end first, SIGINT does not), or another
    /// process takes its place. The configuration is read again when that is asked for (SIGHUP).
    ///
    /// # Errors
    /// [`Error::Configuration`] when the file has mistakes, [`Error::Start`] when an address or
    /// file cannot be had. Nothing was served then.
    pub fn run(self) -> Result<(), Error> {
        let takeover = run::Takeover::given().map_err(Error::Start)?;
        let served = self.serve(&takeover);
        if let Err(why) = &served {
            takeover.failed(&why.to_string());
        }
        served
    }

    fn serve(self, takeover: &run::Takeover) -> Result<(), Error> {
        let root =
            std::env::current_dir().map_err(|why| Error::Start(format!("no working directory: {why}")))?;
        let source = run::Source { file: self.file, catalogue: Arc::new(self.catalogue), root };
        let begun = SystemTime::now();
        let mut checked = source.check();
        let Some(plan) = checked.plan.take() else {
            return Err(Error::Configuration(checked.report.render_text(&checked.sources)));
        };
        process_log::init(plan.log_level);
        for warning in checked.warnings() {
            log::warn!("{warning}");
        }
        run::run(source, (begun, checked, plan), takeover).map_err(Error::Start)
    }
}
