//! The rules of ARCHITECTURE.md that a compiler does not hold: which crate may use which, what stays pure, where the
//! clock is, how long a file may be, that documents name what exists. Reads sources; runs nothing.
//! Every failure lists `file:line: what is wrong`, all of them at once.

#[path = "architecture/manifest.rs"]
mod manifest;
#[path = "architecture/pure.rs"]
mod pure;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use manifest::{dependencies, toml};
use pure::PURE;

/// The only Cargo edges between our crates; a lower row never imports a higher one.
const EDGES: &[(&str, &[&str])] = &[
    (
        "tests",
        &["tidegate", "tidegate-autoscaler", "tidegate-config", "tidegate-loadtest", "tidegate-runner"],
    ),
    ("gateway", &["tidegate-autoscaler", "tidegate-config", "tidegate-loadtest", "tidegate-runner"]),
    ("loadtest", &[]),
    ("autoscaler", &["tidegate-config"]),
    ("runner", &["tidegate-config"]),
    ("config", &[]),
];

/// What a pure file has no business with: waiting, clocks, chance, the world, logs and metrics.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "tokio",
    "Instant::now",
    "SystemTime::now",
    "clock::now",
    "rand::rng",
    "rand::random",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::net::Tcp",
    "std::net::Udp",
    "TcpStream",
    "metrics::",
    "tracing::",
    "log::",
    "println",
    "eprintln",
];

/// What the other plane is called; they meet in `fleet` only. Control hands new routes in at the door, and refusals are
/// words that both use.
const PLANES: &[(&str, &str, &[&str])] = &[
    ("gateway/src/request", "control::", &[]),
    ("gateway/src/fleet", "control::", &[]),
    ("gateway/src/tcp", "control::", &[]),
    ("gateway/src/control", "request::", &["request::Door", "request::refusal", "request::Refusal"]),
];

const BANNED: &[&str] = &["native-tls", "openssl", "openssl-sys", "pingora-openssl", "pingora-proxy"];

/// Lines before tests.
const LONGEST: usize = 500;

const COMMANDS: &[&str] = &[
    "init", "up", "check", "schema", "simulate", "tune", "ps", "record", "explain", "logs", "wake", "sleep",
    "restart", "load", "host", "plan", "rollback", "images", "doctor", "hash",
];

const INVARIANTS: usize = 9;

#[test]
fn crates_depend_downwards_only() {
    let mut findings = Vec::new();
    for (folder, allowed) in EDGES {
        let file = root().join(folder).join("Cargo.toml");
        for (name, line) in dependencies(&file) {
            if name.starts_with("tidegate") && !allowed.contains(&&*name) {
                findings.push(at(&file, line, format!("{folder} must not depend on {name}")));
            }
        }
    }
    let manifest = root().join("Cargo.toml");
    let known: BTreeSet<String> = EDGES.iter().map(|(folder, _)| (*folder).to_owned()).collect();
    let members: BTreeSet<String> = toml(&manifest)["workspace"]["members"]
        .as_array()
        .expect("members is a list")
        .iter()
        .filter_map(|member| member.as_str().map(str::to_owned))
        .collect();
    for stray in members.symmetric_difference(&known) {
        findings.push(at(&manifest, 1, format!("{stray} is either no member or has no row in EDGES")));
    }
    report(&findings);
}

#[test]
fn banned_crates_stay_out() {
    let file = root().join("Cargo.lock");
    let findings = lines(&file)
        .filter(|(_, line)| BANNED.iter().any(|name| *line == format!("name = \"{name}\"")))
        .map(|(number, line)| at(&file, number, format!("{line} is banned; see deny.toml")))
        .collect::<Vec<_>>();
    report(&findings);
}

#[test]
fn there_is_one_binary() {
    let mut findings = Vec::new();
    for (folder, _) in EDGES {
        let main = root().join(folder).join("src/main.rs");
        if *folder != "gateway" && main.exists() {
            findings.push(at(&main, 1, "only the gateway is a program"));
        }
        let manifest = root().join(folder).join("Cargo.toml");
        let all = toml(&manifest);
        let programs = all.get("bin").and_then(|bins| bins.as_array_of_tables()).into_iter().flatten();
        for program in programs {
            // One that a crate's own tests need is built for nobody else.
            let for_tests =
                program.get("required-features").is_some_and(|f| f.to_string().contains("test-util"));
            if !for_tests {
                findings.push(at(&manifest, 1, "[[bin]] makes another program"));
            }
        }
    }
    report(&findings);
}

#[test]
fn pure_files_are_pure() {
    let mut findings = Vec::new();
    for listed in PURE {
        let sources = rust_files(&root().join(listed));
        if sources.is_empty() {
            findings.push(format!("{listed}:1: is listed as pure and does not exist"));
        }
        for file in sources {
            for (number, line) in code(&file) {
                for word in IMPURE.iter().filter(|word| mentions(&line, word)) {
                    findings.push(at(&file, number, format!("`{word}` in a pure file")));
                }
            }
        }
    }
    report(&findings);
}

#[test]
fn time_is_asked_in_one_place() {
    let clock = root().join("gateway/src/clock.rs");
    let mut findings = Vec::new();
    for file in ["gateway/src", "config/src"].iter().flat_map(|folder| rust_files(&root().join(folder))) {
        // An exception is annotated where it stands, with its reason; clippy checks that the annotation is needed.
        let mut excepted = 0;
        for (number, line) in code(&file) {
            if line.contains("expect(clippy::disallowed_methods") {
                excepted = number;
            }
            let near = excepted > 0 && number - excepted <= 12;
            if mentions(&line, "Instant::now") && file != clock && !near {
                findings.push(at(&file, number, "asks for the time; gateway/src/clock.rs does"));
            }
        }
    }
    assert!(clock.exists(), "gateway/src/clock.rs:1: does not exist");
    report(&findings);
}

#[test]
fn planes_meet_in_the_fleet_only() {
    let mut findings = Vec::new();
    for (folder, other, allowed) in PLANES {
        for file in rust_files(&root().join(folder)) {
            for (number, line) in code(&file) {
                let rest = allowed.iter().fold(line, |line, word| line.replace(word, ""));
                if mentions(&rest, other) {
                    findings.push(at(&file, number, format!("`{other}` is the other plane's")));
                }
            }
        }
    }
    report(&findings);
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    for file in all_rust_files() {
        let length = before_tests(&file).len();
        if length > LONGEST {
            findings.push(at(&file, length, format!("{length} lines before tests; at most {LONGEST}")));
        }
    }
    report(&findings);
}

#[test]
fn documents_name_tests_that_exist() {
    let tests = test_names();
    let mut findings = Vec::new();
    for file in documents() {
        let (mut named, decision) = (0, file.starts_with(root().join("docs/adr")));
        for (number, line) in lines(&file) {
            for name in line.split("`fn ").skip(1).filter_map(|rest| rest.split('`').next()) {
                named += 1;
                if !tests.contains(name) {
                    findings.push(at(&file, number, format!("there is no test `fn {name}`")));
                }
            }
        }
        if decision && named == 0 {
            findings.push(at(&file, 1, "names no test: end it with \"Held by `fn ...`\""));
        }
    }
    let page = root().join("ARCHITECTURE.md");
    for invariant in 1..=INVARIANTS {
        if !lines(&page).any(|(_, line)| line.starts_with(&format!("| {invariant} | "))) {
            findings.push(at(&page, 1, format!("has no row for invariant {invariant}")));
        }
    }
    report(&findings);
}

#[test]
fn documents_point_at_what_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).expect("there is a Makefile");
    let targets: BTreeSet<&str> =
        makefile.lines().filter_map(|line| line.split_once(": ## ")).map(|t| t.0).collect();
    let mut findings = Vec::new();
    for file in documents() {
        for (number, line) in lines(&file) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                let target = file.parent().expect("a file has a folder").join(link);
                if !link.is_empty() && !link.contains("://") && !target.exists() {
                    findings.push(at(&file, number, format!("links to {link}, which does not exist")));
                }
            }
            for path in line.split('`').skip(1).step_by(2).filter(|span| is_path(span)) {
                if !root().join(path).exists() {
                    findings.push(at(&file, number, format!("names {path}, which does not exist")));
                }
            }
            for target in commands_after(&line, "make").filter(|word| !targets.contains(word)) {
                findings.push(at(&file, number, format!("the Makefile has no target {target}")));
            }
            for command in commands_after(&line, "tidegate").filter(|word| !COMMANDS.contains(word)) {
                findings.push(at(&file, number, format!("there is no command `tidegate {command}`")));
            }
        }
    }
    report(&findings);
}

#[test]
fn make_targets_have_their_scripts() {
    let file = root().join("Makefile");
    let findings = lines(&file)
        .filter(|(_, line)| line.starts_with('\t'))
        .flat_map(|(number, line)| {
            let words = line.split([' ', '@', '\t', '"']).map(str::to_owned).collect::<Vec<_>>();
            words.into_iter().filter(|word| word.starts_with("scripts/")).map(move |word| (number, word))
        })
        .filter(|(_, script)| !root().join(script).exists())
        .map(|(number, script)| at(&file, number, format!("{script} does not exist")))
        .collect::<Vec<_>>();
    report(&findings);
}

#[test]
fn refusals_are_documented() {
    let source = root().join("gateway/src/request/refusal.rs");
    let reasons: BTreeMap<String, usize> = code(&source)
        .into_iter()
        .filter_map(|(number, line)| {
            let word = line.split_once("=> \"")?.1.strip_suffix("\",")?;
            Some((word.to_owned(), number))
        })
        .collect();
    assert!(reasons.len() > 5, "{}: no reasons found; has it moved?", source.display());
    let (operations, page) = (root().join("docs/operations.md"), root().join("ARCHITECTURE.md"));
    let contract = fs::read_to_string(&page).expect("ARCHITECTURE.md is there");
    let rows: BTreeMap<String, usize> = lines(&operations)
        .skip_while(|(_, line)| line != "## Refusals")
        .skip(1)
        .take_while(|(_, line)| !line.starts_with("## "))
        .filter_map(|(number, line)| Some((line.strip_prefix("| `")?.split('`').next()?.to_owned(), number)))
        .collect();
    let mut findings = Vec::new();
    for (reason, number) in &reasons {
        if !rows.contains_key(reason) {
            findings.push(at(&source, *number, format!("`{reason}` has no row in docs/operations.md")));
        }
        if !contract.contains(&format!("`{reason}`")) {
            findings.push(at(&source, *number, format!("`{reason}` is not in the list of ARCHITECTURE.md")));
        }
    }
    for (row, number) in rows.iter().filter(|(row, _)| !reasons.contains_key(*row)) {
        findings.push(at(&operations, *number, format!("`{row}` is no reason of the code's")));
    }
    report(&findings);
}

fn report(findings: &[String]) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_path_buf()
}

fn at(file: &Path, line: usize, what: impl std::fmt::Display) -> String {
    format!("{}:{line}: {what}", file.strip_prefix(root()).unwrap_or(file).display())
}

/// A file's lines with their numbers; none if it does not exist.
fn lines(file: &Path) -> impl Iterator<Item = (usize, String)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().enumerate().map(|(index, line)| (index + 1, line.to_owned())).collect::<Vec<_>>().into_iter()
}

/// Whether the file is a module that its parent declares for tests only.
fn is_for_tests(file: &Path) -> bool {
    let (folder, stem) = (file.parent().expect("a file has a folder"), file.file_stem().unwrap_or_default());
    let declaration = format!("mod {};", stem.to_string_lossy());
    ["lib.rs", "main.rs", "mod.rs"]
        .iter()
        .map(|name| folder.join(name))
        .chain([folder.with_extension("rs")])
        .any(|parent| {
            let lines: Vec<_> = lines(&parent).map(|(_, line)| line).collect();
            lines.windows(2).any(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with(&declaration))
        })
}

/// A Rust file's lines up to its unit tests; none of a file that is for tests only.
fn before_tests(file: &Path) -> Vec<(usize, String)> {
    if is_for_tests(file) {
        return Vec::new();
    }
    let lines: Vec<_> = lines(file).collect();
    let tests = lines.windows(2).position(|pair| {
        pair[0].1.starts_with("#[cfg(test)]") && pair[1].1.starts_with("mod ") && pair[1].1.ends_with('{')
    });
    lines.into_iter().take(tests.unwrap_or(usize::MAX)).collect()
}

/// The same without comments.
fn code(file: &Path) -> Vec<(usize, String)> {
    let strip = |line: String| match line.find("//") {
        Some(start) if line[..start].trim().is_empty() || line[..start].ends_with(' ') => {
            line[..start].to_owned()
        }
        _ => line,
    };
    before_tests(file).into_iter().map(|(number, line)| (number, strip(line))).collect()
}

/// Whether `word` stands in `line` as a word of its own, not as a part of a longer name.
fn mentions(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(start, _)| {
        let open = word.ends_with(':') || word.ends_with("Tcp") || word.ends_with("Udp");
        !line[..start].ends_with(is_name) && (open || !line[start + word.len()..].starts_with(is_name))
    })
}

/// The word behind each `program ` that starts a line of an example or a code span.
fn commands_after<'a>(line: &'a str, program: &str) -> impl Iterator<Item = &'a str> {
    let spans = line.split('`').skip(1).step_by(2).chain(line.strip_prefix("    "));
    spans
        .filter_map(move |span| {
            span.strip_prefix("$ ").unwrap_or(span).strip_prefix(program)?.strip_prefix(' ')
        })
        .filter_map(|rest| rest.split_whitespace().next())
        .map(|word| word.trim_end_matches([',', '.', ';']))
        .filter(|word| word.starts_with(|c: char| c.is_ascii_lowercase()))
}

/// Whether a code span is a path in this repository and not a pattern or an address.
fn is_path(span: &str) -> bool {
    let folders = EDGES.iter().map(|(folder, _)| *folder).chain(["docs", "scripts", "examples"]);
    let plain = span.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    plain
        && folders
            .into_iter()
            .any(|folder| span.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
}

fn documents() -> Vec<PathBuf> {
    files(&root(), false, "md").into_iter().chain(files(&root().join("docs"), true, "md")).collect()
}

fn all_rust_files() -> Vec<PathBuf> {
    EDGES.iter().map(|(folder, _)| root().join(folder)).flat_map(|folder| rust_files(&folder)).collect()
}

fn rust_files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() { vec![path.to_path_buf()] } else { files(path, true, "rs") }
}

/// Files with this ending, sorted; what builds leave behind is not looked at.
fn files(folder: &Path, deep: bool, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut paths: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| !path.ends_with("target")).collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() && deep {
            found.extend(files(&path, deep, ending));
        } else if path.extension().is_some_and(|is| is == ending) {
            found.push(path);
        }
    }
    found
}

/// The names of all functions that are tests: `fn` below `#[test]`, `#[tokio::test]` or inside `proptest!`.
fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in all_rust_files() {
        let mut marked = false;
        for (_, line) in lines(&file) {
            let line = line.trim();
            marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let body = line.trim_start_matches("async ");
            if let Some(name) = body.strip_prefix("fn ").filter(|_| marked) {
                names.extend(name.split(['(', '<']).next().map(str::to_owned));
                marked = false;
            }
        }
    }
    names
}
