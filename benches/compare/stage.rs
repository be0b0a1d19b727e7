//! What all proxies of a run share: the server behind them, certificates, cores, a folder. Called by `run`, `idle` and
//! `soak`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;

use crate::common::machine::Cores;
use crate::common::origin;
use crate::common::process::{Running, Stop};
use crate::common::programs::free_addresses;
use crate::proxies::Site;

pub struct Stage {
    dir: tempfile::TempDir,
    /// Of the proxies, and of origin and load.
    pub cores: (Cores, Cores),
    origin: SocketAddr,
    _origin: Running,
    cert: PathBuf,
    key: PathBuf,
    pair: PathBuf,
}

impl Stage {
    pub fn set_up() -> Result<Stage> {
        let dir = tempfile::Builder::new().prefix("weirgate-compare-").tempdir()?;
        let cores = Cores::allowed()?.split();
        let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
        let (cert, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let write = |name: &str, text: &str| -> Result<PathBuf> {
            let path = dir.path().join(name);
            std::fs::write(&path, text)?;
            Ok(path)
        };
        let [origin] = free_addresses()?;
        Ok(Stage {
            cert: write("cert.pem", &cert)?,
            key: write("key.pem", &key)?,
            pair: write("pair.pem", &format!("{cert}{key}"))?,
            _origin: start_origin(origin, &cores.1)?,
            origin,
            cores,
            dir,
        })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Free addresses, and a folder of this name.
    pub fn site(&self, name: &str) -> Result<Site> {
        let [plain, secure, h2c, admin] = free_addresses()?;
        Ok(Site {
            dir: self.dir.path().join(name),
            plain,
            secure,
            h2c,
            admin,
            origin: self.origin,
            cert: self.cert.clone(),
            key: self.key.clone(),
            pair: self.pair.clone(),
        })
    }
}

fn start_origin(address: SocketAddr, cores: &Cores) -> Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["origin", &address.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
    let mut running = Running::start(command, cores, Stop::Kill)?;
    origin::wait_for(&mut running, address)?;
    Ok(running)
}
