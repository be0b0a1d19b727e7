//! A terminal that a program draws on and reads keys from: a pty, with a parser of what is sent to it behind. Only test files
//! that need it include this module.

#![allow(dead_code)]

use super::harness::{PATIENCE, eventually, spawn};
use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use vt100::{Color, Parser};

/// A program on a terminal of its own, which is killed with the test.
pub struct Terminal {
    child: Child,
    ours: File,
    screen: Arc<Mutex<Parser>>,
}

fn size((width, height): (u16, u16)) -> libc::winsize {
    libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 }
}

fn some(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a size")
}

impl Terminal {
    /// Starts it with so many columns and lines.
    #[track_caller]
    pub fn start(command: &mut Command, (width, height): (u16, u16)) -> Self {
        let (mut ours, mut theirs) = (-1, -1);
        let at = size((width, height));
        // SAFETY: the numbers and the size live through the call; neither a name nor settings are asked for.
        let opened = unsafe {
            libc::openpty(
                &raw mut ours,
                &raw mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                &raw const at,
            )
        };
        assert_eq!(opened, 0, "a terminal");
        // SAFETY: both were opened just now, and belong to nobody else. Nobody who is started inherits ours.
        let (ours, theirs) = unsafe {
            libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::fcntl(theirs, libc::F_SETFD, libc::FD_CLOEXEC);
            (File::from(OwnedFd::from_raw_fd(ours)), OwnedFd::from_raw_fd(theirs))
        };
        let copy = || Stdio::from(theirs.try_clone().expect("a copy"));
        command.stdin(copy()).stdout(copy()).stderr(copy()).env("TERM", "xterm-256color");
        // SAFETY: both may be called between fork and exec. A session of its own has this terminal as its own.
        unsafe {
            command.pre_exec(|| match (libc::setsid(), libc::ioctl(0, libc::TIOCSCTTY, 0)) {
                (-1, _) | (_, -1) => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let child = spawn(command).expect("start it");
        let screen = Arc::new(Mutex::new(Parser::new(some(height), some(width), 0)));
        let (mut sent, shown) = (ours.try_clone().expect("a copy"), screen.clone());
        std::thread::spawn(move || {
            let mut room = [0; 65_536];
            // an error: nobody has the other end any more
            while let Ok(length @ 1..) = sent.read(&mut room) {
                shown.lock().unwrap().process(&room[..length]);
            }
        });
        Self { child, ours, screen }
    }

    /// What is on it.
    pub fn text(&self) -> String {
        self.screen.lock().unwrap().screen().contents()
    }

    /// Waits until this is on it.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        self.shows_like(text, |screen| screen.contains(text));
    }

    /// Waits until what is on it is like this.
    #[track_caller]
    pub fn shows_like(&self, what: &str, like: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !like(&self.text()) {
            assert!(Instant::now() < deadline, "never {what:?} in\n{}", self.text());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// The line in which this is, if there is one.
    pub fn line(&self, with: &str) -> Option<String> {
        self.text().lines().find(|line| line.contains(with)).map(str::to_owned)
    }

    /// The line that is marked, but for the last one, where keys are.
    pub fn marked(&self) -> Option<String> {
        let parser = self.screen.lock().unwrap();
        let (height, width) = parser.screen().size();
        let is_marked = |y: &u16| parser.screen().cell(*y, 8).is_some_and(vt100::Cell::inverse);
        let y = (0..height.get().saturating_sub(1)).find(is_marked)?;
        parser.screen().rows(0, width.get()).nth(usize::from(y))
    }

    pub fn press(&self, keys: &str) {
        (&self.ours).write_all(keys.as_bytes()).expect("press keys");
    }

    pub fn resize(&self, (width, height): (u16, u16)) {
        self.screen.lock().unwrap().set_size(some(height), some(width));
        let at = size((width, height));
        // SAFETY: the size lives through the call.
        assert_eq!(unsafe { libc::ioctl(self.ours.as_raw_fd(), libc::TIOCSWINSZ, &raw const at) }, 0);
    }

    pub fn signal(&self, signal: libc::c_int) {
        let id = i32::try_from(self.child.id()).expect("a process id");
        // SAFETY: the child has not been waited for, so its id is still its own.
        unsafe { libc::kill(id, signal) };
    }

    /// Waits for its end.
    #[track_caller]
    pub fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the program to leave", || {
            status = self.child.try_wait().expect("wait for it");
            status.is_some()
        });
        status.expect("it has left")
    }

    /// Waits until it is as it was before: what is typed is shown, by line, and the first screen is there again. What a program
    /// has sent at its end is read a moment later.
    #[track_caller]
    pub fn turns_as_before(&self) {
        eventually("the terminal to be as before", || self.is_as_before());
    }

    fn is_as_before(&self) -> bool {
        let screen = self.screen.lock().unwrap();
        self.is_by_line() && !screen.screen().alternate_screen() && !screen.screen().hide_cursor()
    }

    /// Whether what is typed is shown, and told by line.
    fn is_by_line(&self) -> bool {
        // SAFETY: a structure of numbers, which the call fills.
        let settings = unsafe {
            let mut settings: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.ours.as_raw_fd(), &raw mut settings), 0);
            settings
        };
        let usual = libc::ICANON | libc::ECHO | libc::ISIG;
        settings.c_lflag & usual == usual
    }

    /// Waits, without a pause, until keys are told as they are pressed.
    #[track_caller]
    pub fn is_taken(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.is_by_line() {
            assert!(Instant::now() < deadline, "nobody takes the terminal");
            std::thread::yield_now();
        }
    }

    /// Whether anything on it has a colour.
    pub fn has_colours(&self) -> bool {
        let parser = self.screen.lock().unwrap();
        let (height, width) = parser.screen().size();
        let cells = (0..height.get()).flat_map(|y| (0..width.get()).map(move |x| (y, x)));
        cells.filter_map(|(y, x)| parser.screen().cell(y, x)).any(|cell| cell.fgcolor() != Color::Default)
    }

    /// Kept where `WEIRGATE_SCREENSHOTS` says, as SVG.
    pub fn picture(&self, name: &str) {
        if let Some(dir) = std::env::var_os("WEIRGATE_SCREENSHOTS") {
            std::fs::write(std::path::Path::new(&dir).join(name), self.svg()).expect("a picture");
        }
    }

    /// Text on a dark ground, a run of cells of one look at a time.
    fn svg(&self) -> String {
        let parser = self.screen.lock().unwrap();
        let screen = parser.screen();
        let (height, width) = screen.size();
        let (height, width) = (height.get(), width.get());
        let (across, down) = (f64::from(width) * WIDE + 24.0, height * HIGH + 24);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {across:.0} {down}\" font-family=\"ui-monospace, \
             SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"14\">\n\
             <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#16181d\"/>\n"
        );
        for y in 0..height {
            let mut x = 0;
            while x < width {
                let look = |x| screen.cell(y, x).map(Look::of);
                let first = look(x);
                let end = (x..width).find(|at| look(*at) != first).unwrap_or(width);
                let cell = |x| screen.cell(y, x).map_or(" ", vt100::Cell::contents);
                let text: String =
                    (x..end).map(cell).map(|text| if text.is_empty() { " " } else { text }).collect();
                if let Some(look) = first {
                    svg += &look.run((f64::from(x) * WIDE + 12.0, y * HIGH + 12), &text);
                }
                x = end;
            }
        }
        svg + "</svg>\n"
    }
}

/// Of a cell in a picture.
const WIDE: f64 = 8.4;
const HIGH: u16 = 18;

#[derive(Clone, Copy, PartialEq)]
struct Look {
    colour: Color,
    bold: bool,
    dim: bool,
    inverse: bool,
}

impl Look {
    fn of(cell: &vt100::Cell) -> Look {
        Look { colour: cell.fgcolor(), bold: cell.bold(), dim: cell.dim(), inverse: cell.inverse() }
    }

    /// A text that looks so, from there on.
    fn run(self, (left, top): (f64, u16), text: &str) -> String {
        let long = text.chars().count() as f64 * WIDE;
        let ink = match (self.inverse, self.colour) {
            (true, _) => "#16181d",
            (_, Color::Idx(1 | 9)) => "#ff6b68",
            (_, Color::Idx(2 | 10)) => "#5fd38d",
            (_, Color::Idx(3 | 11)) => "#e5c07b",
            (_, Color::Idx(6 | 14)) => "#56b6c2",
            _ => "#d7dae0",
        };
        let mut run = String::new();
        if self.inverse {
            run += &format!(
                "<rect x=\"{left:.1}\" y=\"{top}\" width=\"{long:.1}\" height=\"{HIGH}\" fill=\"#d7dae0\"/>\n"
            );
        }
        if !text.trim().is_empty() {
            let text = text.replace('&', "&amp;").replace('<', "&lt;");
            let weight = if self.bold { " font-weight=\"bold\"" } else { "" };
            let pale = if self.dim && !self.inverse { " opacity=\"0.6\"" } else { "" };
            run += &format!(
                "<text x=\"{left:.1}\" y=\"{}\" textLength=\"{long:.1}\" xml:space=\"preserve\" \
                 fill=\"{ink}\"{weight}{pale}>{text}</text>\n",
                top + 14
            );
        }
        run
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
