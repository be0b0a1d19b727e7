//! Colours and weights of the screen. Without colours (`NO_COLOR`, <https://no-color.org>) words and weights say the same.

use ratatui::style::{Color, Modifier, Style};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looks {
    pub colours: bool,
}

impl Looks {
    pub fn from_environment() -> Looks {
        Looks { colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn paint(self, colour: Color, without: Modifier) -> Style {
        match self.colours {
            true => Style::new().fg(colour),
            false => Style::new().add_modifier(without),
        }
    }

    pub fn good(self) -> Style {
        self.paint(Color::Green, Modifier::empty())
    }

    pub fn warn(self) -> Style {
        self.paint(Color::Yellow, Modifier::BOLD)
    }

    pub fn bad(self) -> Style {
        self.paint(Color::Red, Modifier::BOLD)
    }

    pub fn line(self) -> Style {
        self.paint(Color::Cyan, Modifier::empty())
    }

    pub fn plain(self) -> Style {
        Style::new()
    }

    pub fn quiet(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Of the state of a server.
    pub fn state(self, word: &str) -> Style {
        match word {
            "up" => self.good(),
            "warming" | "draining" => self.warn(),
            _ => self.bad(),
        }
    }

    /// Of a share of errors.
    pub fn share(self, share: Option<f64>) -> Style {
        match share {
            Some(share) if share > 0.0 => self.bad(),
            Some(_) | None => self.quiet(),
        }
    }
}
