use super::*;
use crate::cli::top::counts;
use crate::cli::top::look::Look;
use crate::cli::top::model::tests::{failure, model, overview, press};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::{Color, Modifier};
use std::time::{Duration, Instant};

const LOOKS: Looks = Looks { colours: true };

fn buffer(model: &Model, (width, height): (u16, u16), looks: Looks) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, looks)).unwrap();
    terminal.backend().buffer().clone()
}

fn lines(buffer: &Buffer) -> Vec<String> {
    let width = usize::from(buffer.area.width);
    let line = |cells: &[ratatui::buffer::Cell]| cells.iter().map(|cell| cell.symbol()).collect::<String>();
    buffer.content.chunks(width).map(|cells| line(cells).trim_end().to_owned()).collect()
}

fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    lines(&buffer(model, (width, height), LOOKS))
}

fn has(screen: &[String], text: &str) -> bool {
    screen.iter().any(|line| line.contains(text))
}

#[test]
fn the_map_shows_everything_from_listeners_to_servers() {
    let mut model = model();
    let start = Instant::now();
    for (second, requests) in [(0, 100), (1, 300), (2, 700)] {
        let page = counts::read(&format!(
            "weirgate_requests_total{{listener=\"web\",code=\"2xx\"}} {requests}
weirgate_server_requests_total{{upstream=\"goods\",server=\"10.0.0.1:80\",code=\"2xx\"}} {requests}
weirgate_server_requests_total{{upstream=\"goods\",server=\"10.0.0.1:80\",code=\"5xx\"}} {}
weirgate_server_first_byte_duration_seconds_bucket{{upstream=\"goods\",server=\"10.0.0.1:80\",le=\"0.01\"}} {requests}
weirgate_server_first_byte_duration_seconds_bucket{{upstream=\"goods\",server=\"10.0.0.1:80\",le=\"+Inf\"}} {requests}
",
            requests / 100
        ));
        let at = start + Duration::from_secs(second);
        model.look(Ok(Look { overview: overview(), page, failures: Vec::new(), at }));
    }
    let screen = screen(&model, 120, 40);
    let expected = [
        " weirgate 0.1.0  ready   process 812 at 127.0.0.1:9901   400/s  0% errors",
        " configuration 0f1e2d3c4b5a6978 since 03:00:00  /etc/weirgate.yaml  reloads 2, refused 1",
        " reload refused at 03:10:00 by SIGHUP: weirgate.yaml:3:5: error[E020]: unknown key  (r)",
        " LISTENERS",
        "   web            0.0.0.0:8080  h1 h2 TLS   7 open",
    ];
    assert_eq!(screen[..5], expected, "{screen:#?}");
    for text in [
        "shop           shop.example / → goods",
        "users          /users method: GET → people",
        "and 3 more",
        "goods          1 of 2 usable  3 in flight  round_robin",
        "       down: connection refused, since 03:05:00",
        "10.0.0.2:80           down        backup 1  0 in flight",
        "people         0 of 0 usable  panic: health is ignored",
        "GET shop.example/second  10.0.0.2:80  12 ms  connection refused",
    ] {
        assert!(has(&screen, text), "no {text:?} in {screen:#?}");
    }
    let server = screen.iter().find(|line| line.contains("10.0.0.1:80")).unwrap();
    assert!(server.contains("up          ×2  3 in flight"), "{server}");
    for text in ["404/s", "1.0%", "5.0 ms", "9.9 ms", "▅█"] {
        assert!(server.contains(text), "no {text} in {server}");
    }
    assert!(screen.last().unwrap().contains(" q  leave"));
}

#[test]
fn small_screens_have_what_is_chosen_and_the_keys() {
    let mut model = model();
    press(&mut model, "↓↓↓↓↓");
    for (width, height) in [(80, 24), (60, 12), (40, 8), (20, 5), (3, 2), (1, 1)] {
        let screen = screen(&model, width, height);
        if width >= 40 {
            assert!(has(&screen, "10.0.0.2:80"), "{width}x{height}: {screen:#?}");
            assert!(has(&screen, "choose"), "{screen:#?}");
        }
    }
    press(&mut model, "⏎");
    for (width, height) in [(80, 24), (40, 8), (3, 2), (1, 1)] {
        screen(&model, width, height);
    }
}

#[test]
fn a_server_has_its_facts_and_what_became_of_a_wish() {
    let mut model = model();
    press(&mut model, "↓↓↓↓↓⏎w12");
    let typing = screen(&model, 100, 30);
    assert!(has(&typing, "goods  10.0.0.2:80") && has(&typing, "weight: 12_"), "{typing:#?}");
    assert!(has(&typing, "down: connection refused, since 03:05:00"), "{typing:#?}");
    press(&mut model, "⎋");
    model.done(Err("its group has no outlier".into()));
    assert!(has(&screen(&model, 100, 30), "its group has no outlier"));
    model.overview.upstreams.clear();
    assert!(has(&screen(&model, 100, 30), "it is no longer there"));
}

#[test]
fn failures_and_the_refused_reload_fill_the_screen_and_scroll() {
    let mut model = model();
    press(&mut model, "f");
    let all = screen(&model, 100, 20);
    assert!(has(&all, "/second") && has(&all, "/first") && !has(&all, "ROUTES"), "{all:#?}");
    press(&mut model, "↓");
    assert!(!has(&screen(&model, 100, 20), "/second"));
    press(&mut model, "⎋r");
    let refused = screen(&model, 100, 20);
    assert!(has(&refused, "weirgate.yaml:3:5: error[E020]: unknown key") && has(&refused, "1 error"));
    model.trouble = Some("nobody answers at 127.0.0.1:9901: connection refused".into());
    assert!(has(&screen(&model, 100, 20), "connection refused; asking again"));
}

/// Names of paths and hosts are what clients say: what a terminal would obey must not get to it.
#[test]
fn what_clients_send_cannot_command_the_terminal() {
    let mut model = model();
    model.failures.push_front(failure(3, "/\x1b]0;title\x07\x1b[2J\u{9b}31m\u{202e}x"));
    for cell in &buffer(&model, (120, 40), LOOKS).content {
        assert!(!cell.symbol().chars().any(char::is_control), "{:?}", cell.symbol());
    }
}

#[test]
fn without_colours_there_are_none() {
    let mut model = model();
    press(&mut model, "↓↓↓↓↓");
    let coloured = buffer(&model, (120, 40), LOOKS);
    assert!(coloured.content.iter().any(|cell| cell.fg == Color::Red));
    let plain = buffer(&model, (120, 40), Looks { colours: false });
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    assert_eq!(lines(&plain), lines(&coloured), "and the words are the same");
    assert!(plain.content.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
}
