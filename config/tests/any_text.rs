//! Whatever is in a file, reading it ends with a model or with problems that can be shown.

use proptest::prelude::*;
use tidegate_config::{Format, TEMPLATE, load, parse};

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
    fn variables_never_panic(name in "(GATEWAY|HOSTS|SERVICES|A)(__(A|ENV|SCALING|LISTEN|ROUTES|_|é|)){0,20}", text in pieces()) {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/config/good/minimal.toml");
        if let Err(problems) = load(file.as_ref(), [(format!("TIDEGATE_{name}"), text)]) {
            assert!(!problems.to_string().is_empty());
        }
    }

    #[test]
    fn a_damaged_file_never_panics(at in 0..TEMPLATE.len(), piece in pieces()) {
        let at = (0..=at).rev().find(|at| TEMPLATE.is_char_boundary(*at)).unwrap_or(0);
        read(&format!("{}{piece}{}", &TEMPLATE[..at], &TEMPLATE[at..]));
    }
}

#[test]
fn depth_and_aliases_are_bounded() {
    let nested = ["[", "{a: ", "- ", "{\"a\":", "a = [", "a = {a = ", "? "];
    for deep in nested.map(|piece| piece.repeat(20_000)) {
        read(&deep);
    }
    let dotted = "a.".repeat(20_000);
    for deep in [format!("a = {}", "[".repeat(20_000)), format!("{dotted}a = 1"), format!("[{dotted}a]")] {
        read(&deep);
    }
    let bomb = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, level| {
        let below = format!("*a{}", level - 1);
        format!("{text}a{level}: &a{level} [{below}, {below}, {below}]\n")
    });
    let problems = parse(&bomb, Format::Yaml).expect_err("too large").to_string();
    assert!(problems.contains("too many values"), "{problems}");
}
