//! `${VAR}` and `${VAR:-default}` in one scalar. Called by the tree builder for every scalar value; keys and
//! raw text are left alone, so that a value can never change the structure of the file.

/// Where a variable's value comes from; injected, so that tests need no process environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What became of a scalar.
#[derive(Debug, PartialEq)]
pub struct Expanded {
    pub text: String,
    /// The values that came from the environment, each with the spelling that stands for it.
    pub values: Vec<(String, String)>,
}

/// What is wrong with a scalar's `${`.
#[derive(Debug, PartialEq)]
pub enum EnvError {
    /// The variable has no value and no default.
    Unset { name: String },
    /// `${` is not followed by a name and a closing brace; `found` is what stands there.
    Syntax { found: String },
}

impl EnvError {
    /// The text that begins at the faulty place, to find it in the source line.
    pub fn needle(&self) -> String {
        match self {
            EnvError::Unset { name } => format!("${{{name}"),
            EnvError::Syntax { found } => found.clone(),
        }
    }
}

/// Expands the variables in `text`; `None` when there is nothing to do. As in a shell, the default also takes
/// the place of an empty value. `$${` stands for `${`. What was expanded is not expanded again.
pub fn expand(text: &str, env: Env<'_>) -> Result<Option<Expanded>, Vec<EnvError>> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut out = Expanded { text: String::with_capacity(text.len()), values: Vec::new() };
    let mut errors = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(kept) = before.strip_suffix('$') {
            out.text.push_str(kept);
            out.text.push_str("${");
            rest = from.get(2..).unwrap_or_default();
            continue;
        }
        out.text.push_str(before);
        let Some(reference) = Reference::read(from) else {
            errors.push(EnvError::Syntax { found: from.chars().take(12).collect() });
            rest = from.get(2..).unwrap_or_default();
            continue;
        };
        rest = from.get(reference.length..).unwrap_or_default();
        let value = env(reference.name).filter(|value| !value.is_empty() || reference.default.is_none());
        match (value, reference.default) {
            (Some(value), _) => {
                out.text.push_str(&value);
                out.values.push((value, format!("${{{}}}", reference.name)));
            }
            (None, Some(default)) => out.text.push_str(default),
            (None, None) => errors.push(EnvError::Unset { name: reference.name.to_owned() }),
        }
    }
    out.text.push_str(rest);
    if errors.is_empty() { Ok(Some(out)) } else { Err(errors) }
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
    /// Bytes from `$` to `}`.
    length: usize,
}

impl<'a> Reference<'a> {
    fn read(from: &'a str) -> Option<Reference<'a>> {
        let body = from.strip_prefix("${")?;
        let end = body.find('}')?;
        let inside = body.get(..end)?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        let runs_well = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let nested = default.is_some_and(|text| text.contains("${"));
        (starts_well && runs_well && !nested).then_some(Reference { name, default, length: end + 3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.com".into()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOST}".into()),
            _ => None,
        }
    }

    fn expanded(text: &str) -> String {
        expand(text, &env).unwrap().map_or_else(|| text.to_owned(), |e| e.text)
    }

    #[test]
    fn variables_defaults_and_escapes() {
        for (text, result) in [
            ("plain $HOME $ } {x}", "plain $HOME $ } {x}"),
            ("https://${HOST}/", "https://example.com/"),
            ("${HOST}${HOST}", "example.comexample.com"),
            ("${NONE:-fallback}", "fallback"),
            ("${NONE:-}", ""),
            ("${EMPTY:-fallback}", "fallback"),
            ("[${EMPTY}]", "[]"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("${TRICK}", "${HOST}"),
            ("é${HOST}é", "éexample.comé"),
        ] {
            assert_eq!(expanded(text), result, "{text}");
        }
    }

    #[test]
    fn every_fault_is_found() {
        let faults = expand("${A} ${B", &env).unwrap_err();
        assert_eq!(faults, [EnvError::Unset { name: "A".into() }, EnvError::Syntax { found: "${B".into() }]);
        for bad in ["${}", "${1A}", "${A B}", "${A:+x}", "${A:-${HOST}}", "${"] {
            let faults = expand(bad, &env).unwrap_err();
            assert!(faults.iter().any(|f| matches!(f, EnvError::Syntax { .. })), "{bad}: {faults:?}");
        }
    }
}
