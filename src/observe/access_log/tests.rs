use super::*;
use crate::config::file::AccessFormat;
use std::collections::HashMap;
use std::path::PathBuf;

/// A reader under the test's control.
#[derive(Default)]
struct Pipe {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    read: Vec<u8>,
    /// What the next writes meet.
    mood: Mood,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Mood {
    #[default]
    Reading,
    /// Nobody reads: a pipe that stays full.
    Full,
    /// A write that never comes back, as on a dead network file system.
    Hanging,
    /// Takes half of what is offered, then the disk is full.
    DiskFull,
}

impl Pipe {
    fn set(&self, mood: Mood) {
        self.state.lock().mood = mood;
        self.changed.notify_all();
    }

    fn text(&self) -> String {
        String::from_utf8(self.state.lock().read.clone()).unwrap()
    }

    /// Waits, under a deadline, until the reader has what is asked for.
    fn wait(&self, what: &str, done: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut state = self.state.lock();
        while !done(&state) {
            let late = self.changed.wait_until(&mut state, deadline).timed_out();
            assert!(
                !late || done(&state),
                "still no {what} after 20 s: {:?}",
                String::from_utf8_lossy(&state.read)
            );
        }
    }
}

struct PipeEnd(Arc<Pipe>);

impl Sink for PipeEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.state.lock();
        while state.mood == Mood::Hanging {
            self.0.changed.wait(&mut state);
        }
        let taken = match state.mood {
            Mood::Reading | Mood::Hanging => bytes.len().min(1000),
            Mood::Full => {
                drop(state);
                std::thread::sleep(Duration::from_millis(1));
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Mood::DiskFull if bytes.len() < 20 => return Err(io::ErrorKind::StorageFull.into()),
            Mood::DiskFull => bytes.len() / 2,
        };
        state.read.extend_from_slice(&bytes[..taken]);
        self.0.changed.notify_all();
        Ok(taken)
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const SMALL: Limits = Limits { shard_bytes: 4000, wake_bytes: 1000, pause: Duration::from_millis(1) };

fn log(limits: Limits) -> (AccessLog, Arc<Pipe>) {
    let pipe = Arc::new(Pipe::default());
    let sink = Box::new(PipeEnd(Arc::clone(&pipe)));
    (AccessLog::with_sink(&plan::AccessLog::default(), "of the test".to_owned(), sink, limits), pipe)
}

fn to_file(path: &Path) -> plan::AccessLog {
    plan::AccessLog { to: LogTarget::File(PathBuf::from(path)).into(), ..plan::AccessLog::default() }
}

fn write(log: &AccessLog, thread: usize, number: usize) {
    let path = format!("/{thread}/{number}");
    log.write(&Entry { listener: "web", path: Some(path.as_bytes()), status: 200, ..Entry::default() });
}

/// The thread and number of each line; every line is whole.
fn numbers(text: &str) -> Vec<(usize, usize)> {
    assert!(text.is_empty() || text.ends_with('\n'), "a torn end: {text}");
    text.lines()
        .map(|line| {
            let value: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let mut parts = value["path"].as_str().unwrap().split('/').skip(1);
            let mut next = || parts.next().unwrap().parse().unwrap();
            (next(), next())
        })
        .collect()
}

#[test]
fn lines_of_a_thread_keep_their_order_and_none_is_lost() {
    let limits = Limits { shard_bytes: usize::MAX, ..SMALL };
    let (log, pipe) = log(limits);
    std::thread::scope(|scope| {
        for thread in 0..20 {
            let log = &log;
            scope.spawn(move || (0..1000).for_each(|number| write(log, thread, number)));
        }
    });
    drop(log);
    let mut next: HashMap<usize, usize> = HashMap::new();
    for (thread, number) in numbers(&pipe.text()) {
        let expected = next.entry(thread).or_default();
        assert_eq!(number, *expected, "of thread {thread}");
        *expected += 1;
    }
    assert_eq!(next.len(), 20);
    assert!(next.values().all(|count| *count == 1000), "{next:?}");
}

#[test]
fn a_slow_reader_costs_lines_but_never_a_wait() {
    let (log, pipe) = log(SMALL);
    pipe.set(Mood::Full);
    for number in 0..5000 {
        write(&log, 0, number);
    }
    let dropped = log.dropped() as usize;
    // two shards' worth at most (one is being written) of about 100 bytes a line
    assert!(dropped > 4800, "{dropped}");
    pipe.set(Mood::Reading);
    assert!(log.flush());
    let written = numbers(&pipe.text());
    assert_eq!(written.len() + dropped, 5000);
    assert!(written.is_sorted());
    // and it goes on
    write(&log, 0, 5000);
    drop(log);
    assert_eq!(numbers(&pipe.text()).last(), Some(&(0, 5000)));
}

#[test]
fn dropping_writes_what_is_left() {
    let (log, pipe) = log(Limits { pause: Duration::from_secs(3600), ..Limits::default() });
    for number in 0..300 {
        write(&log, 0, number);
    }
    drop(log);
    assert_eq!(numbers(&pipe.text()), (0..300).map(|n| (0, n)).collect::<Vec<_>>());
}

#[test]
fn the_end_comes_with_a_reader_that_does_not_read() {
    let (log, pipe) = log(SMALL);
    pipe.set(Mood::Full);
    for number in 0..10 {
        write(&log, 0, number);
    }
    let shared = Arc::clone(&log.shared);
    assert!(!log.flush());
    drop(log);
    assert!(shared.progress.lock().finished, "the writer gave up in time");
    assert_eq!(shared.dropped.load(Ordering::Relaxed), 10);
    assert_eq!(pipe.text(), "");
}

#[test]
fn the_end_comes_with_a_write_that_never_returns() {
    let (log, pipe) = log(SMALL);
    pipe.set(Mood::Hanging);
    write(&log, 0, 0);
    let shared = Arc::clone(&log.shared);
    drop(log);
    // reached only because dropping did not wait for the writer, which is still in its write
    assert!(!shared.progress.lock().finished);
    pipe.set(Mood::Reading);
    pipe.wait("line", |state| !state.read.is_empty());
}

#[test]
fn a_full_disk_costs_lines_and_tears_at_most_one() {
    let (log, pipe) = log(SMALL);
    write(&log, 0, 0);
    assert!(log.flush());
    pipe.set(Mood::DiskFull);
    for number in 1..6 {
        write(&log, 0, number);
        assert!(log.flush(), "flushed, in the sense that nothing more can be done");
    }
    assert!(log.dropped() >= 5, "{}", log.dropped());
    pipe.set(Mood::Reading);
    write(&log, 0, 6);
    drop(log);
    let text = pipe.text();
    let whole: Vec<&str> = text.lines().filter(|line| line.ends_with('}')).collect();
    let ends: Vec<(usize, usize)> = numbers(&(whole.join("\n") + "\n"));
    assert_eq!((ends.first(), ends.last()), (Some(&(0, 0)), Some(&(0, 6))), "{text}");
    assert!(text.lines().count() <= whole.len() + 1, "{text}");
}

#[test]
fn a_sleeping_writer_wakes_for_every_line() {
    let (log, pipe) = log(Limits { pause: Duration::from_micros(10), ..Limits::default() });
    for number in 0..2000 {
        write(&log, 0, number);
        let expected = format!("\"path\":\"/0/{number}\"");
        pipe.wait("line", |state| {
            let tail = state.read.len().saturating_sub(200);
            String::from_utf8_lossy(&state.read[tail..]).contains(&expected)
        });
    }
}

#[test]
fn a_file_is_written_rotated_and_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let plan = plan::AccessLog { format: AccessFormat::Combined, ..to_file(&path) };
    let log = AccessLog::open(&plan).unwrap().expect("a log");
    assert!(log.flush(), "nothing to write is written");
    let entry = Entry {
        method: Some("GET"),
        path: Some(b"/"),
        protocol: Some("HTTP/1.1"),
        status: 200,
        response_bytes: 5,
        client: Some([127, 0, 0, 1].into()),
        ..Entry::default()
    };
    log.write(&entry);
    assert!(log.flush());
    let old = dir.path().join("access.log.1");
    std::fs::rename(&path, &old).unwrap();
    log.reopen();
    log.write(&entry);
    log.write(&entry);
    drop(log);
    let [before, after] = [old, path].map(|path| std::fs::read_to_string(path).unwrap());
    assert_eq!((before.lines().count(), after.lines().count()), (1, 2));
    assert!(before.starts_with("127.0.0.1 - - ["), "{before}");
    assert!(before.ends_with(" +0000] \"GET / HTTP/1.1\" 200 5 \"-\" \"-\"\n"), "{before}");
}

#[test]
fn off_is_none() {
    let plan = plan::AccessLog { to: LogTarget::Off.into(), ..plan::AccessLog::default() };
    assert!(AccessLog::open(&plan).unwrap().is_none());
}

#[test]
fn a_file_that_cannot_be_opened_says_which_why_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    for (path, fix) in [
        (dir.path().join("missing/access.log"), "create its directory first"),
        (dir.path().to_owned(), "name a file in it"),
    ] {
        let plan = to_file(&path);
        let error = AccessLog::open(&plan).expect_err("cannot be opened").to_string();
        assert!(error.starts_with(&format!("cannot open the access log {}: ", path.display())), "{error}");
        assert!(error.ends_with(fix), "{error}");
    }
}

#[test]
fn a_named_pipe_without_a_reader_is_an_error_not_a_hang() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: a NUL-terminated path, alive during the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let plan = to_file(&path);
    assert!(AccessLog::open(&plan).is_err());
}

#[test]
fn a_share_of_the_requests_is_the_same_at_every_gate() {
    let sampling = |sample| {
        let plan = plan::AccessLog { sample, ..plan::AccessLog::default() };
        AccessLog::with_sink(&plan, String::new(), Box::new(PipeEnd(Arc::default())), SMALL)
    };
    let [tenth, other, all] = [Percent::of(10), Percent::of(90), Percent::of(100)].map(sampling);
    let ids: Vec<String> = (0..20_000).map(|number| format!("{number:032x}")).collect();
    let count = |log: &AccessLog, share| ids.iter().filter(|id| log.samples(share, id.as_bytes())).count();
    let found = count(&tenth, None);
    assert!((1800..2200).contains(&found), "{found}");
    for id in &ids {
        let id = id.as_bytes();
        assert_eq!(tenth.samples(None, id), other.samples(Some(Percent::of(10)), id));
        assert!(
            !tenth.samples(None, id) || other.samples(None, id),
            "more of them have those that less have"
        );
    }
    assert_eq!([count(&all, None), count(&tenth, Some(Percent::of(100)))], [20_000; 2]);
    assert_eq!(count(&all, Some(Percent::of(0))), 0);
    let flows = (0..20_000).filter(|_| all.samples_flow(Some(Percent::of(50)))).count();
    assert!((9_000..11_000).contains(&flows), "{flows}");
}
