//! Text with places that differ from request to request: `{{counter}}`, `{{random 1 100}}`, `{{hex 16}}`, `{{pick a b c}}`. `[P]`

use rand::{Rng, RngExt};

/// A text with places to fill in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Vec<u8>),
    /// The request's number, from 0.
    Counter,
    /// A whole number between two, both included.
    Random {
        low: i64,
        high: i64,
    },
    /// So many hexadecimal digits.
    Hex(usize),
    /// One of these.
    Pick(Vec<String>),
}

/// Not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{{{{{found}}}}}: expected {{{{counter}}}}, {{{{random LOW HIGH}}}}, {{{{hex DIGITS}}}} or {{{{pick A B ...}}}}"
)]
pub struct Invalid {
    /// What stands between the braces.
    pub found: String,
}

impl Template {
    /// Reads a text; two braces without an end are themselves.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, (inside, after))) =
            rest.split_once("{{").and_then(|(before, behind)| Some((before, behind.split_once("}}")?)))
        {
            parts.push(Part::Text(before.into()));
            parts.push(Part::parse(inside.trim())?);
            rest = after;
        }
        parts.push(Part::Text(rest.into()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self { parts })
    }

    /// A text without places.
    #[must_use]
    pub fn plain(text: impl Into<Vec<u8>>) -> Self {
        let text = text.into();
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Text(text)] };
        Self { parts }
    }

    /// The text, if it is always the same.
    #[must_use]
    pub fn fixed(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(&[]),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Adds the text of the request with that number.
    pub fn write(&self, number: u64, random: &mut impl Rng, out: &mut Vec<u8>) {
        self.parts.iter().for_each(|part| part.write(number, random, out));
    }

    /// The text of the request with that number.
    pub fn text(&self, number: u64, random: &mut impl Rng) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(number, random, &mut out);
        out
    }
}

impl Part {
    fn parse(inside: &str) -> Result<Self, Invalid> {
        let words: Vec<&str> = inside.split_whitespace().collect();
        let part = match words.as_slice() {
            ["counter"] => Some(Self::Counter),
            ["random", low, high] => match (low.parse(), high.parse()) {
                (Ok(low), Ok(high)) if low <= high => Some(Self::Random { low, high }),
                _ => None,
            },
            ["hex", digits] => {
                digits.parse().ok().filter(|digits| (1..=4096).contains(digits)).map(Self::Hex)
            }
            ["pick", choices @ ..] if !choices.is_empty() => {
                Some(Self::Pick(choices.iter().map(|choice| (*choice).to_owned()).collect()))
            }
            _ => None,
        };
        part.ok_or_else(|| Invalid { found: inside.to_owned() })
    }

    fn write(&self, number: u64, random: &mut impl Rng, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => out.extend_from_slice(text),
            Self::Counter => out.extend_from_slice(number.to_string().as_bytes()),
            Self::Random { low, high } => {
                out.extend_from_slice(random.random_range(*low..=*high).to_string().as_bytes());
            }
            Self::Hex(digits) => {
                out.extend((0..*digits).map(|_| b"0123456789abcdef"[random.random_range(0..16_usize)]));
            }
            Self::Pick(choices) => {
                out.extend_from_slice(choices[random.random_range(0..choices.len())].as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn filled(text: &str, number: u64, seed: u64) -> String {
        let template = Template::parse(text).expect(text);
        String::from_utf8(template.text(number, &mut StdRng::seed_from_u64(seed))).expect("text")
    }

    #[test]
    fn places_are_filled_in() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("/item/{{counter}}?again={{ counter }}", "/item/7?again=7"),
            ("{{random 5 5}}", "5"),
            ("{\"a\":{\"b\":1}}", "{\"a\":{\"b\":1}}"),
            ("{{ no end", "{{ no end"),
            ("{{pick one}}", "one"),
        ] {
            assert_eq!(filled(text, 7, 1), expected, "{text}");
        }
        let hex = filled("{{hex 40}}", 0, 1);
        assert!(hex.len() == 40 && hex.chars().all(|c| c.is_ascii_hexdigit()), "{hex}");
        assert_ne!(hex, filled("{{hex 40}}", 0, 2));
        let numbers: Vec<i64> =
            (0..100).map(|seed| filled("{{random -1 1}}", 0, seed).parse().expect("a number")).collect();
        assert_eq!((numbers.iter().min(), numbers.iter().max()), (Some(&-1), Some(&1)));
    }

    #[test]
    fn what_is_always_the_same_is_known() {
        assert_eq!(Template::parse("abc").expect("text").fixed(), Some(&b"abc"[..]));
        assert_eq!(Template::plain("").fixed(), Some(&b""[..]));
        assert_eq!(Template::parse("{{counter}}").expect("a place").fixed(), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for text in
            ["{{}}", "{{count}}", "{{random 1}}", "{{random 2 1}}", "{{hex x}}", "{{pick}}", "a{{ b }}c"]
        {
            let error = Template::parse(text).expect_err(text).to_string();
            assert!(error.starts_with("{{") && error.contains("}}: expected {{counter}}"), "{error}");
        }
    }
}
