//! How a running process is found: the file with its process id, and the control socket. Both are there as soon as
//! it starts, so that a second one is refused; or, when it takes the place of another, as soon as it serves.

use super::control::{Control, Desk};
use super::handover::Takeover;
use crate::config::file;
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Clones are the same.
#[derive(Clone)]
pub struct Doorplate(Arc<Mutex<Plates>>);

struct Plates {
    control_path: Option<PathBuf>,
    control: Option<Arc<Control>>,
    /// Not written yet.
    pid_path: Option<PathBuf>,
    pid_file: Option<PidFile>,
}

impl Doorplate {
    /// # Errors
    /// In words for the operator: another process is there, or a file cannot be written.
    pub fn put_up(server: &file::Server, takeover: &Takeover) -> Result<Doorplate, String> {
        let mut plates = Plates {
            control_path: server.upgrade_sock.as_ref().map(|path| path.value.clone()),
            control: None,
            pid_path: server.pid_file.clone(),
            pid_file: None,
        };
        if server.daemon {
            // written by Pingora, after the fork
            plates.pid_file = plates.pid_path.take().map(PidFile);
        }
        if !takeover.is_one() {
            plates.open_control(false)?;
            plates.write_pid_file()?;
        }
        Ok(Doorplate(Arc::new(Mutex::new(plates))))
    }

    /// The process serves: what is not there yet takes the place of that of another process.
    pub fn show(&self) {
        let mut plates = self.0.lock();
        let shown = [plates.open_control(true), plates.write_pid_file()];
        for why in shown.into_iter().filter_map(Result::err) {
            log::error!("{why}");
        }
    }

    /// Answers those who come to the control socket, if there is one, for ever.
    pub async fn answer(&self, desk: Desk) {
        let control = self.0.lock().control.clone();
        match control {
            Some(control) => control.serve(desk).await,
            None => std::future::pending().await,
        }
    }

    /// The process ends: what is still its own is removed.
    pub fn take_down(&self) {
        let mut plates = self.0.lock();
        if let Some(control) = plates.control.take() {
            control.remove();
        }
        plates.pid_file.take();
    }
}

impl Plates {
    fn open_control(&mut self, takes_over: bool) -> Result<(), String> {
        if let (None, Some(path)) = (&self.control, &self.control_path) {
            self.control = Some(Arc::new(Control::bind(path, takes_over)?));
        }
        Ok(())
    }

    fn write_pid_file(&mut self) -> Result<(), String> {
        if let Some(path) = self.pid_path.take() {
            self.pid_file = Some(PidFile::write(path)?);
        }
        Ok(())
    }
}

/// The file that says which process this is.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<Self, String> {
        write_pid(&path).map_err(|e| format!("pid_file `{}` cannot be written: {e}", path.display()))?;
        Ok(PidFile(path))
    }
}

/// Says in this file that it is this process.
pub fn write_pid(path: &Path) -> std::io::Result<()> {
    std::fs::write(path, format!("{}\n", std::process::id()))
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let ours = std::process::id().to_string();
        if std::fs::read_to_string(&self.0).is_ok_and(|pid| pid.trim() == ours) {
            std::fs::remove_file(&self.0).ok();
        }
    }
}
