//! The text as the YAML parser reads it: character by character, nearly all of them of one byte.

use saphyr_parser::Input;
use saphyr_parser::input::{is_blank, is_blank_or_breakz, is_breakz, is_flow};

/// How many characters the parser looks at in one go. It also makes that much room in each plain scalar at once, beyond
/// the 32 bytes that it begins with: with this many, a short one is not moved.
const AT_ONCE: usize = 31;
/// Not part of a plain scalar (YAML 1.2.2 §5.2).
const BYTE_ORDER_MARK: char = '\u{feff}';

/// What is left of a text. The parser's own `StrInput` finds the same, and asks for 128 characters at once, for which every
/// plain scalar is moved.
pub(super) struct Text<'a> {
    rest: &'a str,
    /// How many characters the parser has asked for.
    looked: usize,
}

impl<'a> Text<'a> {
    pub fn new(text: &'a str) -> Self {
        Text { rest: text, looked: 0 }
    }

    fn byte(&self) -> Option<u8> {
        self.rest.as_bytes().first().copied()
    }

    /// Whether the next character is one of these, all of one byte. The end counts as `\0`.
    fn next_is(&self, wanted: impl Fn(char) -> bool) -> bool {
        wanted(char::from(self.byte().unwrap_or_default()))
    }
}

impl Input for Text<'_> {
    #[inline]
    fn lookahead(&mut self, count: usize) {
        self.looked = self.looked.max(count);
    }

    #[inline]
    fn buflen(&self) -> usize {
        self.looked
    }

    #[inline]
    fn bufmaxlen(&self) -> usize {
        AT_ONCE
    }

    #[inline]
    fn raw_read_ch(&mut self) -> char {
        let next = self.peek();
        self.skip();
        next
    }

    #[inline]
    fn raw_read_non_breakz_ch(&mut self) -> Option<char> {
        let next = self.peek_opt().filter(|next| !is_breakz(*next) && *next != BYTE_ORDER_MARK)?;
        self.skip();
        Some(next)
    }

    #[inline]
    fn skip(&mut self) {
        let width = match self.byte() {
            Some(byte) if byte.is_ascii() => 1,
            _ => self.rest.chars().next().map_or(0, char::len_utf8),
        };
        self.rest = self.rest.get(width..).unwrap_or_default();
    }

    #[inline]
    fn skip_n(&mut self, count: usize) {
        (0..count).for_each(|_| self.skip());
    }

    #[inline]
    fn peek(&self) -> char {
        match self.byte() {
            Some(byte) if byte.is_ascii() => char::from(byte),
            _ => self.rest.chars().next().unwrap_or('\0'),
        }
    }

    #[inline]
    fn peek_nth(&self, n: usize) -> char {
        self.rest.chars().nth(n).unwrap_or('\0')
    }

    #[inline]
    fn peek_opt(&self) -> Option<char> {
        self.rest.chars().next()
    }

    #[inline]
    fn next_can_be_plain_scalar(&self, in_flow: bool) -> bool {
        match self.peek() {
            // indicators end it (YAML 1.2.2 §7.3.3)
            ':' => {
                let after = self.peek_nth(1);
                !(is_blank_or_breakz(after) || in_flow && is_flow(after))
            }
            BYTE_ORDER_MARK => false,
            c => !(in_flow && is_flow(c)),
        }
    }

    #[inline]
    fn next_is_blank_or_breakz(&self) -> bool {
        self.next_is(is_blank_or_breakz)
    }

    #[inline]
    fn next_is_blank(&self) -> bool {
        self.next_is(is_blank)
    }

    #[inline]
    fn next_is_breakz(&self) -> bool {
        self.next_is(is_breakz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use saphyr_parser::Parser;

    /// What the parser makes of it, to the first error.
    fn events<T: Input>(parser: Parser<'_, T>) -> Vec<String> {
        let mut told = Vec::new();
        for next in parser {
            let ended = next.is_err();
            told.push(format!("{next:?}"));
            if ended {
                break;
            }
        }
        told
    }

    #[test]
    fn the_parser_finds_what_it_finds_in_its_own_input() {
        let deep = " ".repeat(140);
        let long = "x".repeat(300);
        let texts = [
            include_str!("../../../../conf/weirgate.yaml").to_owned(),
            "a: 1\nb:\n  - \"x \\u00e9 y\"\n  - { c: é, d: 'it''s', e: [1, -, -x] } # note\n".to_owned(),
            "plain: several words\n  over lines\n\n  and: more\nq: a#b # c\nurl: http://[::1]:80/x?y=z\n"
                .to_owned(),
            "\u{feff}%YAML 1.2\n---\n!!str a: &x !t b\n? k\n: *x\n...\n---\n- - -\n--- |+\n x\n\n...\n"
                .to_owned(),
            "l: |\n  one\n\ttab\n  two\n\nf: >-\n  a\n  b\n\n   c\nk: |2\n   x\n\t\r\nr: a\r\ns: b\r"
                .to_owned(),
            format!(
                "d: |\n{deep}deep\n{deep}{long}\n{deep}  x\nw: {long}é{long} {long}\n'{long}': \"{long}\"\n"
            ),
            "x: \u{feff}y\u{feff}\nz: a\0b\n\u{1f600}: [日本, {日: 本}, 語:x, 語: x]\n- bad\n".to_owned(),
        ];
        for text in texts {
            let cuts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            // of a long text not every beginning, as each is parsed twice
            for cut in cuts.step_by(1 + text.len() / 1000).chain([text.len()]) {
                let begin = &text[..cut];
                let theirs = events(Parser::new_from_str(begin));
                assert_eq!(events(Parser::new(Text::new(begin))), theirs, "{begin:?}");
            }
        }
    }
}
