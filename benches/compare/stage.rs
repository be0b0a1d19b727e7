//! What all proxies of a run share: the server behind them, certificates, cores, a folder. Called by `run`, `memory` and
//! `soak`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Result;
use rcgen::{CertificateParams, KeyPair};

use crate::common::machine::Cores;
use crate::common::origin;
use crate::common::process::{Running, Stop};
use crate::common::programs::free_addresses;
use crate::proxies::Site;

/// Of 2,048 bits.
const RSA_KEY: &str = include_str!("../../tests/harness/rsa.key");

pub struct Stage {
    dir: tempfile::TempDir,
    /// Of the proxies, and of origin and load.
    pub cores: (Cores, Cores),
    origin: SocketAddr,
    _origin: Running,
    ecdsa: Certificate,
    rsa: Certificate,
}

/// What a certificate is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    P256,
    Rsa2048,
}

struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    pair: PathBuf,
}

impl Certificate {
    /// Of `localhost`, signed by this key, as three files in `dir`.
    fn write(dir: &Path, name: &str, key: &KeyPair) -> Result<Certificate> {
        let cert = CertificateParams::new(["localhost".to_owned()])?.self_signed(key)?.pem();
        let key = key.serialize_pem();
        let write = |part: &str, text: &str| -> Result<PathBuf> {
            let path = dir.join(format!("{name}-{part}.pem"));
            std::fs::write(&path, text)?;
            Ok(path)
        };
        Ok(Certificate {
            cert: write("cert", &cert)?,
            key: write("key", &key)?,
            pair: write("pair", &format!("{cert}{key}"))?,
        })
    }
}

impl Stage {
    pub fn set_up() -> Result<Stage> {
        let dir = tempfile::Builder::new().prefix("weirgate-compare-").tempdir()?;
        let cores = Cores::allowed()?.split();
        let [origin] = free_addresses()?;
        Ok(Stage {
            ecdsa: Certificate::write(dir.path(), "ecdsa", &KeyPair::generate()?)?,
            rsa: Certificate::write(dir.path(), "rsa", &KeyPair::from_pem(RSA_KEY)?)?,
            _origin: start_origin(origin, &cores.1)?,
            origin,
            cores,
            dir,
        })
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Free addresses, a folder of this name and a certificate.
    pub fn site(&self, name: &str, key: Key) -> Result<Site> {
        let Certificate { cert, key, pair } = match key {
            Key::P256 => &self.ecdsa,
            Key::Rsa2048 => &self.rsa,
        };
        let [plain, secure, h2c, admin] = free_addresses()?;
        Ok(Site {
            dir: self.dir.path().join(name),
            plain,
            secure,
            h2c,
            admin,
            origin: self.origin,
            cert: cert.clone(),
            key: key.clone(),
            pair: pair.clone(),
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
