//! Whatever is in a file, reading it ends with a model or with problems that can be shown.

use proptest::prelude::*;
use tidegate_config::{Format, TEMPLATE, parse};

const FORMATS: [Format; 3] = [Format::Toml, Format::Yaml, Format::Json];

fn read(text: &str) {
    for format in FORMATS {
        if let Err(problems) = parse(text, format) {
            assert!(!problems.to_string().is_empty() && !problems.list().is_empty());
        }
    }
}

/// Pieces that mean something, in any order: gets past the parsers more often than noise does.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "services",
        "gateway",
        "hosts",
        "scaling",
        "api",
        "image",
        "listen",
        "max",
        "env",
        "volumes",
        "routes",
        "=",
        ":",
        ".",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        ",",
        "\n",
        "  ",
        "\"",
        "'",
        "-",
        "0",
        "-1",
        "1e999",
        "nan",
        "true",
        "null",
        "&a",
        "*a",
        "<<",
        "é",
        "\u{0}",
        "\t",
        "\r\n",
        "#",
        "|",
        ">",
        "!!str",
        "\"a\"",
        "9223372036854775808",
        "1979-05-27",
        "%",
        "---",
    ];
    prop::collection::vec(prop::sample::select(words.to_vec()), 0..60).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn noise_never_panics(text in any::<String>()) {
        read(&text);
    }

    #[test]
    fn almost_configurations_never_panic(text in pieces()) {
        read(&text);
    }

    #[test]
    fn a_damaged_file_never_panics(at in 0..TEMPLATE.len(), piece in pieces()) {
        let at = (0..=at).rev().find(|at| TEMPLATE.is_char_boundary(*at)).unwrap_or(0);
        read(&format!("{}{piece}{}", &TEMPLATE[..at], &TEMPLATE[at..]));
    }
}

#[test]
fn depth_and_aliases_are_bounded() {
    for deep in [
        "[".repeat(100_000),
        "{a: ".repeat(100_000),
        "a = ".to_owned() + &"[".repeat(100_000),
        "- ".repeat(5_000),
    ] {
        read(&deep);
    }
    let bomb = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
        let below = format!("*a{}", level - 1);
        format!("{text}a{level}: &a{level} [{below}, {below}, {below}]\n")
    });
    let problems = parse(&bomb, Format::Yaml).expect_err("too large").to_string();
    assert!(problems.contains("too many values"), "{problems}");
}
