//! `make demo`: five labelled backends, the real gate in front of them, and four commands to try.
//!
//! The backends are processes of their own (this program again, with `backend` as its first argument), so that one
//! can be killed. The gate is `target/debug/weirgate run -c conf/weirgate.yaml`. Nothing outlives this program: a
//! backend ends when the pipe to its standard input closes; the gate is told to, and on Linux the kernel sees to it
//! even after `kill -9`.
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

/// What conf/weirgate.yaml names, in its order.
const BACKENDS: [(&str, &str); 5] = [
    ("api-1", "127.0.0.1:7001"),
    ("api-2", "127.0.0.1:7002"),
    ("api-3", "127.0.0.1:7003"),
    ("admin-1", "127.0.0.1:7101"),
    ("admin-2", "127.0.0.1:7102"),
];
const PLAIN: &str = "127.0.0.1:8080";
const SECURE: &str = "127.0.0.1:8443";
const CONFIG: &str = "conf/weirgate.yaml";
const CERT: &str = "certs/demo.crt";
const KEY: &str = "certs/demo.key";
const CERT_DAYS: u64 = 90;
const READY_WITHIN: Duration = Duration::from_secs(15);
const STOPPED_WITHIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demo(),
        ["backend", label, address] => backend(label, address),
        _ => Err(anyhow::anyhow!("the demo takes no arguments: make demo")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// From free ports to "try this", then until a signal or until the gate ends.
fn demo() -> Result<()> {
    // cargo says where the project is, so that the demo also works from a subfolder
    if let Some(root) = std::env::var_os("CARGO_MANIFEST_DIR") {
        std::env::set_current_dir(&root)
            .with_context(|| format!("cannot enter {}", Path::new(&root).display()))?;
    }
    let gate = gate_binary()?;
    ports_are_free()?;
    certificate()?;

    // A current-thread runtime keeps every spawn on the main thread: the kernel's parent-death signal follows the
    // thread that spawned, not the process.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut family = Family { backends: Vec::new(), gate: None };
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let stopped = async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
        };
        tokio::select! {
            biased;
            () = stopped => Ok(()),
            failed = family.live(&gate) => failed,
        }
    })?;
    say("\nstopping");
    Ok(())
}

/// The processes of the demo; all of them end when this is dropped, on success and on failure alike.
struct Family {
    backends: Vec<(&'static str, Child)>,
    gate: Option<Child>,
}

impl Family {
    /// Starts everybody, says what to try, and returns only when something has failed.
    async fn live(&mut self, gate: &Path) -> Result<()> {
        for (label, address) in BACKENDS {
            let child = spawn(
                Command::new(std::env::current_exe()?).args(["backend", label, address]),
                Stdio::piped(),
            )
            .with_context(|| format!("cannot start backend {label}"))?;
            self.backends.push((label, child));
        }
        for (label, address) in BACKENDS {
            self.ready(address, "/healthz")
                .await
                .with_context(|| format!("backend {label} did not start"))?;
        }
        let child = spawn(Command::new(gate).args(["run", "-c", CONFIG]), Stdio::null())
            .with_context(|| format!("cannot start {}", gate.display()))?;
        self.gate = Some(child);
        self.ready(PLAIN, "/api/").await.context("the gate did not start")?;
        self.ready_tls().await.context("the gate did not start")?;

        self.introduce(gate);
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.watch()?;
        }
    }

    /// Reports each backend that has ended, once; an end of the gate ends the demo.
    fn watch(&mut self) -> Result<()> {
        if let Some(gate) = &mut self.gate
            && let Some(status) = gate.try_wait()?
        {
            bail!("the gate ended ({status}); what it said is above");
        }
        let mut left = Vec::new();
        for (label, mut child) in self.backends.drain(..) {
            match child.try_wait()? {
                Some(status) => {
                    say(&format!("demo: {label} is gone ({status}); its group goes on without it"))
                }
                None => left.push((label, child)),
            }
        }
        self.backends = left;
        Ok(())
    }

    /// Waits until `address` answers `GET path` with 200, watching that nobody has died meanwhile.
    async fn ready(&mut self, address: &str, path: &str) -> Result<()> {
        self.within_deadline(|| answers(address, path))
            .await
            .with_context(|| format!("http://{address}{path}"))
    }

    /// An accepted connection is enough here: that TLS works is for the second command to show.
    async fn ready_tls(&mut self) -> Result<()> {
        self.within_deadline(|| Ok(TcpStream::connect(SECURE).map(drop)?)).await.context(SECURE)
    }

    async fn within_deadline(&mut self, attempt: impl Fn() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let Err(why) = attempt() else { return Ok(()) };
            let expected = self.backends.len();
            self.watch()?;
            if self.backends.len() < expected {
                bail!("a backend ended while the demo started");
            }
            if Instant::now() > deadline {
                return Err(why.context(format!("not ready after {} s", READY_WITHIN.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn introduce(&self, gate: &Path) {
        let edited = gate.ancestors().nth(2).unwrap_or(gate).join("edited.yaml"); // target/edited.yaml
        let edited = edited.display();
        // CARGO_TARGET_DIR may have put it outside this folder
        let gate = if gate.is_relative() { Path::new(".").join(gate) } else { gate.to_owned() };
        say("\nThe gate is open. Behind it:");
        for ((label, child), (_, address)) in self.backends.iter().zip(BACKENDS) {
            say(&format!("  {label:<8} {address}  pid {}", child.id()));
        }
        let victim = self.backends.first().map_or(0, |(_, child)| child.id());
        say("\nTry, in another terminal, in this folder:\n");
        say("1. a request; ask again, and another backend answers");
        say(&format!("     curl http://{PLAIN}/api/hello\n"));
        say("2. TLS and HTTP/2");
        say(&format!("     curl --http2 --cacert {CERT} https://localhost:8443/api/hello\n"));
        say("3. kill a backend: every request is still answered");
        say(&format!("     kill -9 {victim}; for i in 1 2 3 4; do curl http://{PLAIN}/api/hello; done\n"));
        say("4. edit the configuration, and have it checked before it runs");
        say(&format!("     sed 's/upstream: api/upstream: apo/' {CONFIG} > {edited}"));
        say(&format!("     {} check -c {edited}\n", gate.display()));
        say("Ctrl-C stops everything. The lines below are the gate's access log.\n");
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        // The gate first: while it runs, its servers are there.
        if let Some(mut gate) = self.gate.take() {
            if let (Ok(None), Ok(pid)) = (gate.try_wait(), libc::pid_t::try_from(gate.id())) {
                // SAFETY: kill only takes numbers. The child has not been waited for, so the pid is still its own.
                unsafe { libc::kill(pid, libc::SIGINT) };
            }
            let deadline = Instant::now() + STOPPED_WITHIN;
            while matches!(gate.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            end(&mut gate);
        }
        for (_, child) in &mut self.backends {
            end(child);
        }
    }
}

fn end(child: &mut Child) {
    let _ = child.kill(); // an error here means that it has ended already
    let _ = child.wait();
}

/// A child in a process group of its own: Ctrl-C reaches only the demo, which then stops the others in order.
fn spawn(command: &mut Command, stdin: Stdio) -> io::Result<Child> {
    command.stdin(stdin).process_group(0);
    #[cfg(target_os = "linux")]
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl is one.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    command.spawn()
}

fn gate_binary() -> Result<PathBuf> {
    let here = std::env::current_exe()?; // target/debug/examples/demo
    let gate = here.ancestors().nth(2).unwrap_or(&here).join("weirgate");
    if !gate.is_file() {
        bail!("{} has not been built yet; `make demo` builds it", gate.display());
    }
    let root = std::env::current_dir()?;
    Ok(gate.strip_prefix(&root).map(Path::to_path_buf).unwrap_or(gate))
}

/// Says every port that is taken, not only the first.
fn ports_are_free() -> Result<()> {
    let mut taken = Vec::new();
    for address in [PLAIN, SECURE].into_iter().chain(BACKENDS.map(|(_, address)| address)) {
        match TcpListener::bind(address) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => taken.push(address),
            Err(error) => return Err(error).with_context(|| format!("cannot listen on {address}")),
        }
    }
    if let Some(first) = taken.first() {
        let port = first.rsplit(':').next().unwrap_or_default();
        bail!(
            "already in use: {}\n      another demo may be running: stop it with Ctrl-C where it runs; \
             `lsof -nP -iTCP:{port} -sTCP:LISTEN` shows who listens; then run `make demo` again",
            taken.join(", ")
        );
    }
    Ok(())
}

/// Makes certs/demo.crt and certs/demo.key unless a pair is there that will be valid for another day.
fn certificate() -> Result<()> {
    if pair_is_good() {
        return Ok(());
    }
    let key = rcgen::KeyPair::generate()?;
    let names = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "weirgate demo");
    let now = x509_parser::time::ASN1Time::now().to_datetime();
    params.not_before = now - Duration::from_secs(3600); // clocks differ
    params.not_after = now + Duration::from_secs(CERT_DAYS * 86_400);
    let cert = params.self_signed(&key)?;

    fs::create_dir_all("certs").context("cannot make the folder certs")?;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(KEY)
        .with_context(|| format!("cannot write {KEY}"))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?; // `mode` is only for a file that is new
    file.write_all(key.serialize_pem().as_bytes())?;
    fs::write(CERT, cert.pem()).with_context(|| format!("cannot write {CERT}"))?;
    say(&format!("made {CERT} and {KEY} for localhost, valid for {CERT_DAYS} days"));
    Ok(())
}

fn pair_is_good() -> bool {
    let (Ok(cert), Ok(key)) = (fs::read(CERT), fs::read_to_string(KEY)) else { return false };
    let Ok(key) = rcgen::KeyPair::from_pem(&key) else { return false };
    let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&cert) else { return false };
    let Ok(cert) = pem.parse_x509() else { return false };
    let left = cert.validity().time_to_expiration().map(|left| left.whole_days());
    left.is_some_and(|days| days >= 1)
        && cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
}

/// One small HTTP/1.1 server that says who it is. Ends when its standard input does, which is when the demo ends.
fn backend(label: &str, address: &str) -> Result<()> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("{label}: cannot listen on {address}"))?;
    std::thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    let who: &'static str = format!("{label} (pid {}, {address})", std::process::id()).leak();
    for stream in listener.incoming() {
        // a connection that breaks ends its own thread and nothing else
        std::thread::spawn(move || stream.and_then(|stream| serve(stream, who)));
    }
    Ok(())
}

/// Answers requests on one connection until the client closes it, or until a chunked body, which is not read.
fn serve(stream: TcpStream, who: &str) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut first, mut length, mut chunked) = (String::new(), 0u64, false);
        loop {
            let mut line = String::new();
            if reader.by_ref().take(16 * 1024).read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if first.is_empty() {
                first = line.to_owned();
            } else if let Some((name, value)) = line.split_once(':') {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().unwrap_or(0),
                    "transfer-encoding" => chunked = true,
                    _ => {}
                }
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let text =
            if path == "/healthz" { "ok\n".into() } else { format!("{who} answers {method} {path}\n") };
        let close = if chunked { "connection: close\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{close}content-length: {}\r\n\r\n",
            text.len()
        );
        let body = if method == "HEAD" { "" } else { &text };
        writer.write_all(format!("{head}{body}").as_bytes())?;
        if chunked {
            return Ok(());
        }
    }
}

/// One request without a library: 200 or why not.
fn answers(address: &str, path: &str) -> Result<()> {
    let address: SocketAddr = address.parse()?;
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut line = String::new();
    BufReader::new(stream).take(1024).read_line(&mut line)?;
    match line.split(' ').nth(1) {
        Some("200") => Ok(()),
        _ => bail!("answered {:?}", line.trim_end()),
    }
}

/// A line for the person at the terminal; a closed terminal is no reason to stop early.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
