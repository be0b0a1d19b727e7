//! Puts a decoding error into words: which key, what was found, what to write instead. Secrets and values
//! from the environment are taken out before anything is recorded.

use super::at;
use super::error::{Error, Kind, Step};
use crate::config::report::{Code, Report, Span, suggest};
use crate::config::secret::{MASK, is_secret_key};
use crate::config::yaml::{Kind as Type, Node, Scalar};

/// What is told about one error.
struct Words {
    code: Code,
    message: String,
    help: Option<String>,
}

impl Words {
    fn new(code: Code, message: String) -> Words {
        Words { code, message, help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Words {
        self.help = Some(help.into());
        self
    }
}

/// Records an error found in `work`.
pub fn report(work: &Node, error: &Error, report: &mut Report) {
    let path = error.path();
    let place = Place::find(work, &path);
    let words = place.words(error.kind());
    let span = place.span(error.kind());
    let hidden = place.hidden();
    let (message, help) = redact(words.message, words.help, &place, &hidden);
    let diagnostic = report.error(words.code, span, message);
    if let Some(help) = help {
        diagnostic.help(help);
    }
}

/// Where in the tree an error stands.
struct Place<'a> {
    /// The offending node; for an offending key, its value.
    node: Option<&'a Node>,
    /// The nearest key at or above the node, with its place.
    key: Option<(&'a str, Span)>,
    /// The key above the one that is itself at fault.
    outer: Option<&'a str>,
    last: Option<Step>,
    /// Whether a key on the way names a secret.
    secret: bool,
}

impl<'a> Place<'a> {
    fn find(work: &'a Node, path: &[Step]) -> Place<'a> {
        let mut place =
            Place { node: at(work, path), key: None, outer: None, last: path.last().copied(), secret: false };
        let mut node = work;
        for step in path {
            match step {
                Step::Key(index) | Step::Value(index) => {
                    let Some(entry) = node.entries().get(*index) else { break };
                    place.outer = place.key.map(|(name, _)| name);
                    place.key = Some((&entry.key.name, entry.key.span));
                    place.secret |= is_secret_key(&entry.key.name);
                    node = &entry.value;
                }
                Step::Item(index) => {
                    let Some(item) = node.items().get(*index) else { break };
                    node = item;
                }
            }
        }
        place
    }

    fn scalar(&self) -> Option<&'a Scalar> {
        self.node.and_then(Node::as_scalar)
    }

    /// `"servers"`, `an item of "servers"`, or the configuration itself.
    fn subject(&self) -> String {
        match (self.key, self.last) {
            (Some((name, _)), Some(Step::Item(_))) => format!("an item of \"{name}\""),
            (Some((name, _)), Some(Step::Key(_) | Step::Value(_)) | None) => format!("\"{name}\""),
            (None, Some(_)) => "an item".to_owned(),
            (None, None) => "this".to_owned(),
        }
    }

    /// The key itself when it is at fault or when there is no value to point at, else the value.
    fn span(&self, kind: &Kind) -> Span {
        let key = self.key.map(|(_, span)| span).unwrap_or_default();
        let value = self.node.map(|node| match node.entries().first() {
            Some(first) if node.span.line == first.key.span.line => first.key.span,
            Some(_) | None => node.span,
        });
        let value = value.filter(|span| span.is_known()).unwrap_or(key);
        match (self.last, kind) {
            (Some(Step::Key(_)), _) => key,
            (Some(Step::Value(_)), Kind::MissingField(_)) => key,
            (Some(Step::Value(_)), Kind::Custom(text))
                if is_later(text).is_some_and(|rest| rest.is_empty()) =>
            {
                key
            }
            (Some(Step::Value(_)), _) if self.node.is_some_and(Node::is_null) => key,
            (Some(Step::Value(_) | Step::Item(_)) | None, _) => value,
        }
    }

    fn words(&self, kind: &Kind) -> Words {
        match kind {
            Kind::UnknownField { key, known } => self.unknown_key(key, known),
            Kind::UnknownVariant { word, known } => self.unknown_choice(word, known),
            Kind::WrongType { found, expected } => self.wrong_type(found, expected),
            Kind::InvalidValue { found, expected } => Words::new(
                Code::InvalidValue,
                format!("{} expects {expected}, found {found}", self.subject()),
            ),
            Kind::InvalidLength { found, expected } => Words::new(
                Code::InvalidValue,
                format!("{} expects {expected}, found a list of {found}", self.subject()),
            ),
            Kind::MissingField(field) => {
                let message = match self.last {
                    Some(_) => format!("{} lacks the key \"{field}\"", self.subject()),
                    None => format!("the key \"{field}\" is missing"),
                };
                Words::new(Code::MissingKey, message)
            }
            Kind::DuplicateField(field) => {
                Words::new(Code::DuplicateKey, format!("\"{field}\" is written under two names"))
            }
            Kind::SeveralVariants => {
                let message = match self.outer {
                    Some(outer) => {
                        format!("\"{outer}\" takes one choice, and {} is a second", self.subject())
                    }
                    None => format!("one choice is to be made, and {} is a second", self.subject()),
                };
                Words::new(Code::Conflict, message).help("keep one of them")
            }
            Kind::NoSettings(word) => Words::new(Code::WrongType, format!("\"{word}\" takes no settings")),
            Kind::Custom(text) => self.custom(text),
            Kind::Consequence => Words::new(Code::InvalidValue, format!("{} cannot be used", self.subject())),
        }
    }

    fn unknown_key(&self, key: &str, known: &'static [&'static str]) -> Words {
        const MANY: usize = 12;
        let meant = suggest(key, known);
        let inside = self.outer.map(|outer| format!(" in \"{outer}\"")).unwrap_or_default();
        let question = meant.map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default();
        let words = Words::new(Code::UnknownKey, format!("unknown key \"{key}\"{inside}{question}"));
        if known.is_empty() {
            words.help("there are no keys here")
        } else if meant.is_some() && known.len() > MANY {
            words // the suggestion says more than a long list
        } else {
            words.help(list("known keys here", known))
        }
    }

    fn unknown_choice(&self, word: &str, known: &'static [&'static str]) -> Words {
        // a suggestion would tell how near an expanded value is to a known word
        let written = self.scalar().is_none_or(|scalar| scalar.expanded.is_none()) && !self.secret;
        let meant = suggest(word, known).filter(|_| written);
        let meant = meant.map(|meant| format!("; did you mean \"{meant}\"?")).unwrap_or_default();
        let name = match self.last {
            Some(Step::Key(_)) => self.outer,
            Some(Step::Value(_) | Step::Item(_)) | None => self.key.map(|(name, _)| name),
        };
        let subject = name.map(|name| format!(" for \"{name}\"")).unwrap_or_default();
        let message = format!("\"{word}\" is not a choice{subject}{meant}");
        Words::new(Code::UnknownChoice, message).help(list("one of", known))
    }

    fn wrong_type(&self, found: &str, expected: &str) -> Words {
        let words =
            Words::new(Code::WrongType, format!("{} expects {expected}, found {found}", self.subject()));
        let Some(scalar) = self.scalar() else { return words };
        let yes_or_no = ["yes", "no", "on", "off", "y", "n"].contains(&scalar.text.to_lowercase().as_str());
        match scalar.kind() {
            Type::Null => words.help("give it a value, or remove the key"),
            Type::Text(_) if expected == "true or false" && yes_or_no => words.help("write true or false"),
            Type::Text(text)
                if !scalar.plain && Scalar { plain: true, ..scalar.clone() }.kind() != Type::Text(text) =>
            {
                words.help("remove the quotes")
            }
            Type::Bool(_) | Type::Unsigned(_) | Type::Signed(_) | Type::Float(_) | Type::Text(_) => {
                match expected {
                    "a list" => words.help("write a list: [ ... ], or one item on each line after a dash"),
                    "a mapping" | "a mapping of keys" => words.help("write keys and values: { key: value }"),
                    _ => words,
                }
            }
        }
    }

    /// A hand-written message, with its hint after the line break.
    fn custom(&self, text: &str) -> Words {
        let (message, help) = match text.split_once('\n') {
            Some((message, help)) => (message, Some(help)),
            None => (text, None),
        };
        let subject = self.subject();
        let mut words = match is_later(message) {
            Some("") => Words::new(Code::NotSupportedYet, format!("{subject} is not supported yet")),
            Some(_) => Words::new(Code::NotSupportedYet, format!("{subject}: {message}")),
            None => Words::new(Code::InvalidValue, format!("{subject}: {message}")),
        };
        words.help = help.map(str::to_owned);
        words
    }

    /// What must not be told: values from the environment and of secret keys, here and below, each with what
    /// stands for it.
    fn hidden(&self) -> Vec<(String, String)> {
        fn collect(node: &Node, secret: bool, hidden: &mut Vec<(String, String)>) {
            if let Some(scalar) = node.as_scalar() {
                if let Some(expanded) = &scalar.expanded {
                    hidden.push((scalar.text.clone(), expanded.raw.clone()));
                    hidden.extend(expanded.values.iter().cloned());
                } else if secret {
                    hidden.push((scalar.text.clone(), MASK.to_owned()));
                }
            }
            node.items().iter().for_each(|item| collect(item, secret, hidden));
            for entry in node.entries() {
                collect(&entry.value, secret || is_secret_key(&entry.key.name), hidden);
            }
        }
        let mut hidden = Vec::new();
        if let Some(node) = self.node {
            collect(node, self.secret, &mut hidden);
        }
        hidden.retain(|(value, _)| !value.is_empty());
        hidden
    }
}

/// What follows "not supported yet" in a message that begins with it.
fn is_later(message: &str) -> Option<&str> {
    let first = message.split('\n').next().unwrap_or_default();
    first.strip_prefix("not supported yet").map(|rest| rest.trim_start_matches(':').trim())
}

fn list(what: &str, words: &[&str]) -> String {
    format!("{what}: {}", words.join(", "))
}

/// Replaces hidden values. A message that still shares a piece with one, because it quotes a part, is given
/// up for a general one.
fn redact(
    message: String,
    help: Option<String>,
    place: &Place<'_>,
    hidden: &[(String, String)],
) -> (String, Option<String>) {
    if hidden.is_empty() || matches!(place.last, Some(Step::Key(_))) {
        return (message, help);
    }
    let replace =
        |text: String| hidden.iter().fold(text, |text, (value, shown)| text.replace(value.as_str(), shown));
    let (safe, safe_help) = (replace(message), help.map(replace));
    let told = format!("{safe}\n{}", safe_help.as_deref().unwrap_or_default());
    if hidden.iter().any(|(value, shown)| shares_a_piece(&told.replace(shown.as_str(), ""), value)) {
        return (format!("{}: this value cannot be used here", place.subject()), None);
    }
    (safe, safe_help)
}

/// Whether four characters in a row of `value` occur in `told`.
fn shares_a_piece(told: &str, value: &str) -> bool {
    const PIECE: usize = 4;
    let chars: Vec<char> = value.chars().collect();
    chars.windows(PIECE).any(|piece| told.contains(&piece.iter().collect::<String>()))
}
