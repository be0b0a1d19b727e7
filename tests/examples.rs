//! The promise: each example works as its README says. The commands of the README are run as they stand, from
//! the top folder; only `cargo build` is left out, and the gate is the one under test.

// Tests fail by panicking, in their helper functions too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod harness;

use harness::{Program, eventually, need_program};
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const TOP: &str = env!("CARGO_MANIFEST_DIR");

/// An example, started by the commands of its README up to the first that asks the gate something.
struct Example {
    folder: PathBuf,
    running: Vec<(String, Program)>,
    questions: Vec<String>,
    _lock: File,
}

impl Example {
    fn start(name: &str) -> Self {
        // The examples have fixed ports: two runs of these tests on one machine take turns.
        let lock = File::create(std::env::temp_dir().join("weirgate-examples.lock")).expect("a lock file");
        // SAFETY: the descriptor is open for as long as `lock`.
        assert_eq!(unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX) }, 0, "the lock");
        let folder = Path::new(TOP).join("conf/examples").join(name);
        let mut example = Self { folder, running: Vec::new(), questions: Vec::new(), _lock: lock };
        for command in example.commands() {
            let gate = env!("CARGO_BIN_EXE_weirgate");
            let command = command.replace("./target/debug/weirgate", gate);
            if command.starts_with("cargo build") {
            } else if let Some(background) = command.strip_suffix(" &") {
                example.run_in_background(background);
            } else if command.contains(" run -c ") {
                example.wait_for_ports("servers", &["servers:", "- 127."]);
                example.run_in_background(&command);
                example.wait_for_ports("address: ", &["address: "]);
            } else if command.contains("curl") {
                example.questions.push(command);
            } else {
                shell(&command);
            }
        }
        example
    }

    /// The lines of the README's `sh` blocks.
    fn commands(&self) -> Vec<String> {
        self.commands_in("sh")
    }

    /// The lines of the README's blocks in this language.
    fn commands_in(&self, language: &str) -> Vec<String> {
        let readme = std::fs::read_to_string(self.folder.join("README.md")).expect("the example's README");
        let fence = format!("```{language}\n");
        let blocks = readme.split(fence.as_str()).skip(1);
        blocks
            .flat_map(|block| block.split("```").next().unwrap_or_default().lines())
            .map(str::to_owned)
            .collect()
    }

    fn run_in_background(&mut self, command: &str) {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("exec {command}")).current_dir(TOP).stdout(Stdio::null());
        self.running.push((command.to_owned(), Program::start(&mut shell)));
    }

    /// Waits until every address that stands in the configuration on a line with one of `marks` is served.
    fn wait_for_ports(&self, what: &str, marks: &[&str]) {
        let config =
            std::fs::read_to_string(self.folder.join("weirgate.yaml")).expect("the example's configuration");
        let address = regex::Regex::new(r"127\.0\.0\.1:\d+").expect("a pattern");
        for line in config.lines().filter(|line| marks.iter().any(|mark| line.contains(mark))) {
            for found in address.find_iter(line) {
                eventually(&format!("{what} at {}", found.as_str()), || {
                    TcpStream::connect(found.as_str()).is_ok()
                });
            }
        }
    }

    /// The process that this command started.
    fn id(&self, command: &str) -> u32 {
        let found = self.running.iter().find(|(started, _)| started.contains(command));
        found.unwrap_or_else(|| panic!("{command} is not running")).1.id()
    }

    /// Kills the program that this command started.
    fn kill(&mut self, command: &str) {
        let found = self.running.iter_mut().find(|(started, _)| started.contains(command));
        found.unwrap_or_else(|| panic!("{command} is not running")).1.kill();
    }
}

/// Runs a command that ends by itself and returns what it printed.
#[track_caller]
fn shell(command: &str) -> String {
    let output = Command::new("sh").arg("-c").arg(command).current_dir(TOP).output().expect("sh");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// The lines that a question of a README prints, in order.
#[track_caller]
fn answers(question: &str) -> Vec<String> {
    let mut lines: Vec<_> = shell(question).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn three_node_servers() {
    if !need_program("node") || !need_program("curl") {
        return;
    }
    let mut example = Example::start("three-node-servers");
    let question = example.questions[0].clone();
    let ask = || answers(&question);
    let from = |port: u16| format!("Hello from port {port}");
    assert_eq!(ask(), [from(3001), from(3001), from(3002), from(3002), from(3003), from(3003)]);
    example.kill("server.js 3002");
    for _ in 0..3 {
        let answers = ask();
        assert_eq!(answers.len(), 6);
        assert!(answers.iter().all(|answer| *answer == from(3001) || *answer == from(3003)), "{answers:?}");
    }
    example.run_in_background("node conf/examples/three-node-servers/server.js 3002");
    eventually("the third server back in turn", || ask().contains(&from(3002)));
}

#[test]
fn dns_discovery() {
    if !need_program("node") || !need_program("curl") {
        return;
    }
    let mut example = Example::start("dns-discovery");
    let question = example.questions[0].clone();
    let ask = || answers(&question);
    let from = |port: u16| format!("Hello from port {port}");
    eventually("both servers", || ask() == [from(3021), from(3021), from(3022), from(3022)]);
    for command in example.commands_in("shell") {
        match command.strip_suffix(" &") {
            Some(background) => example.run_in_background(background),
            None => drop(shell(&command)),
        }
    }
    // four requests of a cycle of three: whoever is named gets one at least, whoever is not gets none
    eventually("the third server and not the first", || {
        let answers = ask();
        answers.contains(&from(3022)) && answers.contains(&from(3023)) && !answers.contains(&from(3021))
    });
    example.kill("dns.js");
    for _ in 0..3 {
        let answers = ask();
        assert!(answers.iter().all(|answer| *answer == from(3022) || *answer == from(3023)), "{answers:?}");
    }
}

#[test]
fn active_passive() {
    if !need_program("node") || !need_program("curl") {
        return;
    }
    let mut example = Example::start("active-passive");
    let question = example.questions[0].clone();
    let ask = || answers(&question);
    let from = |port: u16| format!("Hello from port {port}");
    assert_eq!(ask(), [from(3031), from(3031), from(3032), from(3032)]);
    example.kill("server.js 3031");
    assert_eq!(ask(), [from(3032), from(3032), from(3032), from(3032)]);
    example.kill("server.js 3032");
    assert_eq!(ask(), [from(3033), from(3033), from(3033), from(3033)]);
    example.run_in_background("node conf/examples/three-node-servers/server.js 3031");
    eventually("the first server to have everything again", || {
        ask() == [from(3031), from(3031), from(3031), from(3031)]
    });
}

#[test]
fn tcp() {
    if !need_program("node") || !need_program("curl") {
        return;
    }
    let mut example = Example::start("tcp");
    let question = example.questions[0].clone();
    let from = |port: u16| format!("Hello from port {port}");
    assert_eq!(answers(&question), [from(3061), from(3061), from(3061)]);
    example.kill("server.js 3061");
    assert_eq!(answers(&question), [from(3062), from(3062), from(3062)]);
}

#[test]
fn never_an_error() {
    if !need_program("node") || !need_program("curl") {
        return;
    }
    let mut example = Example::start("never-an-error");
    let question = example.questions[0].clone();
    let ask = || shell(&question).trim().to_owned();
    assert_eq!(ask(), "100 200");
    example.kill("server.js 3051");
    assert_eq!(ask(), "100 200", "while one is dead");
    example.run_in_background("node conf/examples/three-node-servers/server.js 3051");
    eventually("it to listen", || TcpStream::connect("127.0.0.1:3051").is_ok());
    shell(&format!("kill -STOP {}", example.id("server.js 3053")));
    assert_eq!(ask(), "100 200", "while one is frozen");
}

#[test]
fn microservices() {
    if !need_program("node") || !need_program("curl") || !need_program("openssl") {
        return;
    }
    let mut example = Example::start("microservices");
    let answers: Vec<_> = example.questions.iter().map(|question| shell(question)).collect();
    let api: serde_json::Value = serde_json::from_str(&answers[0]).expect("the API answers JSON");
    assert_eq!((&api["service"], &api["path"]), (&"api".into(), &"/api/items".into()), "{api}");
    assert_eq!((&api["client"], &api["proto"]), (&"127.0.0.1".into(), &"https".into()), "{api}");
    assert!(answers[1].contains("<h1>admin</h1>"), "{}", answers[1]);
    assert!(answers[2].starts_with("404 "), "{}", answers[2]);

    let headers = shell(&example.questions[1].replace("curl ", "curl -s -i "));
    assert!(headers.starts_with("HTTP/2 200"), "{headers}");
    assert!(headers.to_lowercase().contains("x-content-type-options: nosniff"), "{headers}");

    example.kill("api.js");
    let status = |question: &str| shell(&question.replace("curl ", "curl -s -i "));
    let down = status(&example.questions[0]);
    assert!(down.lines().next().is_some_and(|line| line.contains("50")), "{down}");
    eventually("503 with Retry-After", || {
        let said = status(&example.questions[0]).to_lowercase();
        said.lines().next().is_some_and(|line| line.contains("503")) && said.contains("retry-after:")
    });
    assert!(status(&example.questions[1]).contains("<h1>admin</h1>"), "the other service goes on");
}

#[test]
fn sticky_sessions() {
    if !need_program("node") || !need_program("curl") || !need_program("openssl") {
        return;
    }
    let mut example = Example::start("sticky-sessions");
    let ask = |example: &Example, question: usize| {
        let said = shell(&example.questions[question]);
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut strangers = ask(&example, 0);
    strangers.sort();
    assert_eq!(strangers, ["port 3201: visit 1", "port 3202: visit 1", "port 3203: visit 1"]);
    for question in [1, 2] {
        let visits = ask(&example, question);
        let port = visits[0].split(':').next().unwrap_or_default().to_owned();
        let counted: Vec<_> = (1..=4).map(|n| format!("{port}: visit {n}")).collect();
        assert_eq!(visits, counted, "{}", example.questions[question]);
    }
    let headers =
        |question: usize| shell(&example.questions[question].replace("-s ", "-s -i ")).to_lowercase();
    assert_eq!(headers(1).matches("set-cookie: weirgate=").count(), 1, "{}", headers(1));
    assert_eq!(headers(2).matches("set-cookie: weirgate=").count(), 0, "{}", headers(2));

    example.kill("server.js 3202");
    for question in [1, 2, 1, 2] {
        let visits = ask(&example, question);
        assert!(visits.len() == 4 && visits[3].ends_with(": visit 4"), "{visits:?}");
    }
}

#[test]
fn grpc() {
    if !need_program("node") || !need_program("curl") {
        return;
    }
    let mut example = Example::start("grpc");
    let questions = example.questions.clone();
    let [native, browser, deadline] = questions.as_slice() else { panic!("{questions:?}") };
    let greets = |said: &str| {
        let both = ["Hello world from port 3301", "Hello world from port 3302"];
        both.iter().any(|greeting| said.contains(greeting))
    };
    for (question, end) in [(native, "grpc-status: 0"), (browser, "grpc-status:0")] {
        let said = shell(question);
        assert!(greets(&said) && said.contains(end), "{said}");
    }
    let late = shell(deadline);
    assert!(late.contains("grpc-status: 4") && late.contains("Deadline Exceeded"), "{late}");
    example.kill("server.js 3301");
    for question in [native, native, browser, browser] {
        assert!(shell(question).contains("Hello world from port 3302"), "{question}");
    }
    example.kill("server.js 3302");
    let nobody = shell(&browser.replace("-s ", "-s -i "));
    assert!(nobody.contains("grpc-status: 14") && nobody.contains("request id: "), "{nobody}");
}
