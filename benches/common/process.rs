//! Our children: started on chosen cores, bounded in time, measured through /proc, stopped by their own pid.
//! Called by [`super::programs`] for proxies, by `run` for origins, by `load` for generators. Linux only, as is CPU
//! pinning.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::machine::Cores;

/// How a child is asked to end before it is killed.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// It takes its own workers along.
    Term,
    /// It would only sleep through a grace period.
    Kill,
}

/// A running child that ends with this value.
pub struct Running {
    child: Child,
    stop: Stop,
}

impl Running {
    pub fn start(mut command: Command, cores: &Cores, stop: Stop) -> Result<Running> {
        prepare(&mut command, cores, stop);
        let child = command.spawn().with_context(|| format!("start {}", display(&command)))?;
        Ok(Running { child, stop })
    }

    /// The child and all its descendants.
    pub fn pids(&self) -> Result<Vec<u32>> {
        let parents = all_pids()?.into_iter().filter_map(|pid| Some((pid, stat(pid).ok()?.parent)));
        let parents: Vec<(u32, u32)> = parents.collect();
        let mut tree = vec![self.child.id()];
        let mut next = 0;
        while let Some(&parent) = tree.get(next) {
            tree.extend(parents.iter().filter(|(_, its)| *its == parent).map(|(pid, _)| *pid));
            next += 1;
        }
        Ok(tree)
    }

    /// Sends it to the child alone.
    pub fn signal(&self, signal: i32) {
        send(self.child.id(), signal);
    }

    /// An error once the child has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("ended with {status}"),
        }
    }

    /// The child's end if it comes before `limit`; later the child is killed.
    pub fn wait(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("ended with {status}"),
                None if Instant::now() > deadline => bail!("still running after {limit:?}"),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let tree = self.pids().unwrap_or_default();
        if let (Stop::Term, Ok(None)) = (self.stop, self.child.try_wait()) {
            send(self.child.id(), libc::SIGTERM);
            self.wait(Duration::from_secs(2)).ok();
        }
        self.child.kill().ok();
        self.child.wait().ok();
        for pid in tree.into_iter().skip(1) {
            // Only what is still there under the parent that we knew, or orphaned by it: never a reused pid.
            if stat(pid).is_ok_and(|stat| stat.parent == 1 || stat.parent == self.child.id()) {
                send(pid, libc::SIGKILL);
            }
        }
    }
}

/// Runs `command` to its end and returns what it printed; its file of output is under `dir`.
pub fn output(mut command: Command, cores: &Cores, limit: Duration, dir: &Path) -> Result<String> {
    let (out, err) = (dir.join("load.out"), dir.join("load.err"));
    command.stdout(File::create(&out)?).stderr(File::create(&err)?).stdin(Stdio::null());
    let shown = display(&command);
    let mut running = Running::start(command, cores, Stop::Kill)?;
    running.wait(limit).with_context(|| format!("{shown}: {}", tail(&err)))?;
    fs::read_to_string(&out).context("output of the load")
}

/// Lets this process, and those it starts, have so many open files.
pub fn raise_limit(wanted: u64) -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write one valid rlimit.
    let raised = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            bail!("getrlimit: {}", std::io::Error::last_os_error());
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
    };
    if !raised || limit.rlim_cur < wanted {
        bail!(
            "{wanted} open files are needed and {} allowed; see `ulimit -Hn`, or ask for fewer connections",
            limit.rlim_max
        );
    }
    Ok(())
}

/// Where a program is installed, daemons' folders included, which a user's PATH leaves out.
pub fn find(program: &str) -> Result<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let mut dirs = std::env::split_paths(&paths).chain(daemons);
    let found = dirs.find_map(|dir| Some(dir.join(program)).filter(|path| path.is_file()));
    found.with_context(|| match program {
        "h2load" => "h2load is not installed (Debian: nghttp2-client)".to_owned(),
        "nginx" => "nginx is not installed (Debian: nginx-light)".to_owned(),
        _ => format!("{program} is not installed (Debian: {program})"),
    })
}

/// The last lines of a file, for error messages.
pub fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(4).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

fn display(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    program.to_string_lossy().into_owned()
}

fn prepare(command: &mut Command, cores: &Cores, stop: Stop) {
    let set = cores.to_cpu_set();
    let signal = match stop {
        Stop::Term => libc::SIGTERM,
        Stop::Kill => libc::SIGKILL,
    };
    let before_exec = move || {
        // SAFETY: both are plain system calls on values this closure owns, allowed between fork and exec.
        unsafe {
            libc::sched_setaffinity(0, size_of_val(&set), &set);
            // The child ends with us however we end.
            libc::prctl(libc::PR_SET_PDEATHSIG, signal);
        }
        Ok(())
    };
    // SAFETY: the closure only makes system calls; it neither allocates nor takes a lock.
    unsafe { command.pre_exec(before_exec) };
}

fn send(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid) {
        // SAFETY: kill(2) takes plain integers.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Processor time since a process began, all its threads together.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cpu {
    pub user: Duration,
    pub system: Duration,
}

impl Cpu {
    pub fn of(pids: &[u32]) -> Result<Cpu> {
        let mut sum = Cpu::default();
        for &pid in pids {
            let stat = stat(pid)?;
            sum.user += stat.user;
            sum.system += stat.system;
        }
        Ok(sum)
    }

    pub fn since(self, earlier: Cpu) -> Cpu {
        let user = self.user.saturating_sub(earlier.user);
        Cpu { user, system: self.system.saturating_sub(earlier.system) }
    }
}

struct Stat {
    parent: u32,
    user: Duration,
    system: Duration,
}

/// proc_pid_stat(5): fields 4 (ppid), 14 (utime) and 15 (stime), the latter two in clock ticks.
fn stat(pid: u32) -> Result<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name stands in brackets and may hold spaces and brackets itself.
    let (_, after_name) = text.rsplit_once(')').context("stat without a name")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let field =
        |number: usize| -> Result<u64> { Ok(fields.get(number - 3).context("short stat")?.parse::<u64>()?) };
    // SAFETY: sysconf takes and returns plain integers.
    let ticks = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) })?.max(1);
    let time = |ticks_used: u64| Duration::from_micros(ticks_used * 1_000_000 / ticks);
    Ok(Stat { parent: u32::try_from(field(4)?)?, user: time(field(14)?), system: time(field(15)?) })
}

/// Resident memory of the processes together, in bytes; pages they share are counted once per process.
pub fn resident(pids: &[u32]) -> Result<u64> {
    memory(pids, "status", "VmRSS:")
}

/// The same, but a page that several processes share is divided between them (proc_pid_smaps(5)).
pub fn proportional(pids: &[u32]) -> Result<u64> {
    memory(pids, "smaps_rollup", "Pss:")
}

/// The sum of one line of a file of each process under `/proc`.
fn memory(pids: &[u32], file: &str, name: &str) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}"))?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let line = line.with_context(|| format!("no {name} in {file}"))?;
        sum += line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024;
    }
    Ok(sum)
}

/// Refuses a port that anybody but `pids` accepts connections on. With SO_REUSEPORT a process that was thought
/// gone keeps taking its share, and every figure is wrong.
pub fn check_only_listener(port: u16, pids: &[u32]) -> Result<()> {
    let mut unowned = listening_inodes(port)?;
    if unowned.is_empty() {
        bail!("nobody listens on port {port}");
    }
    for pid in all_pids()? {
        let held = socket_inodes(pid);
        let listens = held.iter().any(|inode| unowned.contains(inode));
        if listens && !pids.contains(&pid) {
            bail!("process {pid} listens on port {port} too");
        }
    }
    for pid in pids {
        unowned = &unowned - &socket_inodes(*pid);
    }
    if !unowned.is_empty() {
        bail!("a process that cannot be seen listens on port {port} too");
    }
    Ok(())
}

fn listening_inodes(port: u16) -> Result<HashSet<u64>> {
    const LISTEN: &str = "0A";
    let wanted = format!(":{port:04X}");
    let mut inodes = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        for line in fs::read_to_string(table).unwrap_or_default().lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if let [_, local, _, LISTEN, _, _, _, _, _, inode, ..] = fields.as_slice()
                && local.ends_with(&wanted)
            {
                inodes.insert(inode.parse()?);
            }
        }
    }
    Ok(inodes)
}

fn socket_inodes(pid: u32) -> HashSet<u64> {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return HashSet::new() };
    let inode = |fd: fs::DirEntry| {
        let target = fs::read_link(fd.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    fds.filter_map(Result::ok).filter_map(inode).collect()
}

fn all_pids() -> Result<Vec<u32>> {
    let entries = fs::read_dir("/proc")?.filter_map(Result::ok);
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}
