//! `weirgate top`: what the dashboard shows, in a terminal, asked of the admin address of a running process. 0 left, 1 nobody
//! answers, 64 wrong usage or configuration.
//!
//! Three threads: one reads keys, one asks the process, and this one takes in what they tell and draws. `model` and `draw` are
//! pure.

mod answers;
mod counts;
mod draw;
mod look;
mod looks;
mod model;
mod rows;
mod way;
mod words;

use super::{FAILED, OK, USAGE, err};
use crate::Gate;
use crossterm::event::{self, KeyEventKind};
use look::{Ends, Event, Look, Looker, Teller, Wish};
use looks::Looks;
use model::{Deed, Model};
use ratatui::DefaultTerminal;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use way::Way;

#[derive(clap::Args)]
pub(super) struct Top {
    /// The configuration of the process, which has the admin address and its token.
    #[arg(short = 'c', long = "config", value_name = "FILE", default_value = "conf/weirgate.yaml")]
    file: PathBuf,
    /// The admin address, whatever the file says: HOST:PORT, https://HOST:PORT or unix:PATH.
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<String>,
    /// A file that has the token of the admin address in it.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    certificates: way::Certificates,
}

pub(super) fn top(arguments: &Top) -> u8 {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        err(
            "weirgate: top needs a terminal; GET /v1/overview at the admin address has the same as JSON, and `weirgate status` \
             a summary",
        );
        return USAGE;
    }
    let way = match arguments.way() {
        Ok(way) => way,
        Err(why) => {
            err(&format!("weirgate: {why}"));
            return USAGE;
        }
    };
    let runtime = match Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            err(&format!("weirgate: {error}"));
            return FAILED;
        }
    };
    let shown = show(&runtime, way);
    // whatever is being asked is not waited for
    runtime.shutdown_background();
    match shown {
        Ok(()) => OK,
        Err(why) => {
            err(&format!("weirgate: {why}"));
            FAILED
        }
    }
}

impl Top {
    /// Where the process is asked.
    fn way(&self) -> Result<Way, String> {
        let token = self.token_file.as_deref().map(token_in).transpose()?;
        if let Some(address) = &self.admin {
            return Way::to(address, token, &self.certificates);
        }
        let checked = Gate::from_file(&self.file).check();
        let Some(plan) = &checked.plan else {
            return Err(format!(
                "the admin address is looked up in `{}`, which has mistakes; name it with --admin HOST:PORT\n{}",
                self.file.display(),
                checked.report.render_text(&checked.sources).trim_end()
            ));
        };
        let admin = plan.admin.as_ref().ok_or_else(|| {
            format!(
                "`{}` has no admin address\nadd `admin: {{ address: 127.0.0.1:9901 }}`, or give --admin HOST:PORT",
                self.file.display()
            )
        })?;
        Way::of(admin, token, &self.certificates)
    }
}

fn token_in(file: &Path) -> Result<String, String> {
    let read = std::fs::read_to_string(file);
    let text = read.map_err(|error| format!("`{}` cannot be read: {error}", file.display()))?;
    Ok(text.trim().to_owned())
}

/// A name as a segment of a path (RFC 3986 §2.1).
fn encoded(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

/// Until a key or a signal ends it. The terminal is as it was afterwards, also after a panic, of whichever thread: the first
/// thing that a panic does is to make it so (`ratatui::try_init`).
fn show(runtime: &Runtime, way: Way) -> Result<(), String> {
    let mut model = Model::new(way.name());
    let mut looker = Looker::new(way);
    // who cannot be asked is told in words that stay
    let first: Look = runtime.block_on(looker.look())?;
    model.look(Ok(first));
    let (events, happening) = mpsc::channel();
    let (wishes, wished) = unbounded_channel();
    let drawn = |error: io::Error| format!("the terminal cannot be drawn on: {error}");
    // a signal before there is anybody to hear it would leave the terminal as it is drawn on
    let ends = runtime.block_on(async { Ends::new() }).map_err(|error| format!("no signals: {error}"))?;
    let mut terminal = ratatui::try_init().map_err(drawn)?;
    let events = Teller::new(events);
    runtime.spawn(ends.watch(events.clone()));
    runtime.spawn(looker.watch(wished, events.clone()));
    std::thread::spawn(move || read_keys(&events));
    let shown = draw_until_left(&mut terminal, &mut model, &happening, &wishes);
    ratatui::restore();
    shown.map_err(drawn)
}

fn draw_until_left(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    happening: &Receiver<Event>,
    wishes: &UnboundedSender<Wish>,
) -> io::Result<()> {
    let looks = Looks::from_environment();
    loop {
        terminal.draw(|frame| draw::draw(frame, model, looks))?;
        match happening.recv() {
            Err(_) | Ok(Event::Over) => return Ok(()),
            Ok(Event::Broken) => return Err(io::Error::other("it broke off")),
            Ok(Event::Resized) => {}
            Ok(Event::Look(look)) => model.look(*look),
            Ok(Event::Done(done)) => model.done(done),
            Ok(Event::Key(key)) => match model.key(key) {
                None => {}
                Some(Deed::Leave) => return Ok(()),
                Some(Deed::Wish(wish)) => {
                    wishes.send(wish).ok();
                }
            },
        }
    }
}

/// Tells what is pressed, until nobody listens or the terminal is gone.
fn read_keys(events: &Teller) {
    loop {
        let event = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Event::Key(key),
            Ok(event::Event::Resize(..)) => Event::Resized,
            Ok(_) => continue,
            Err(_) => Event::Over,
        };
        let over = matches!(event, Event::Over);
        if !events.tell(event) || over {
            return;
        }
    }
}
