//! The machine the numbers are from: its cores, its name, the date. Called by the `run` and `report` of each benchmark.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

/// Some of the machine's logical processors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cores(Vec<usize>);

impl Cores {
    /// What this process may run on.
    pub fn allowed() -> Result<Cores> {
        // SAFETY: an all-zero cpu_set_t is the empty set; the call writes within the size it is given.
        let set = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of_val(&set), &mut set) != 0 {
                bail!("sched_getaffinity: {}", std::io::Error::last_os_error());
            }
            set
        };
        let limit = usize::try_from(libc::CPU_SETSIZE)?;
        // SAFETY: every index is below CPU_SETSIZE.
        Ok(Cores((0..limit).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()))
    }

    /// One core for the proxy, all others for the origin and the load. With a single core they share it.
    pub fn split(&self) -> (Cores, Cores) {
        match self.0.split_first() {
            Some((first, rest)) if !rest.is_empty() => (Cores(vec![*first]), Cores(rest.to_vec())),
            _ => (self.clone(), self.clone()),
        }
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Keeps the calling thread on these cores. Where that is refused it goes on where it is.
    pub fn pin_thread(&self) {
        let set = self.to_cpu_set();
        // SAFETY: the set is read within the size that is given.
        unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    }

    pub fn to_cpu_set(&self) -> libc::cpu_set_t {
        // SAFETY: an all-zero cpu_set_t is the empty set; every index came from a cpu_set_t.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            self.0.iter().for_each(|&core| libc::CPU_SET(core, &mut set));
            set
        }
    }
}

impl std::fmt::Display for Cores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(","))
    }
}

/// The processor's name as the kernel tells it.
pub fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

pub fn kernel() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// A name for a file: `2x-intel-r-xeon-r-processor`.
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for letter in name.chars().map(|letter| letter.to_ascii_lowercase()) {
        if letter.is_ascii_alphanumeric() {
            slug.push(letter);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// Today in UTC as YYYY-MM-DD.
pub fn today() -> String {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    date(since_epoch.as_secs() / 86_400)
}

/// Days since 1970-01-01 as a date of the Gregorian calendar.
fn date(mut days: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}
