//! How the command line prints, fails and exits: results on standard output, errors on standard error as
//! `tidegate: what; what to do`. Somebody who closes our output (`| head`) has seen enough, which is no error.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::error::{ContextKind, ContextValue};
use serde::Serialize;

/// Characters of a value that are shown beside what is wrong with it.
const LONGEST: usize = 100;

/// Asked for in a way that cannot be done; exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Misuse(pub(super) String);

/// Nobody reads our output any more.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
struct Closed;

/// Prints a text as it is.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Prints a value as JSON.
pub(super) fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// Tells on standard error what went wrong, and gives the exit code.
pub(super) fn report(result: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) if error.is::<Closed>() => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    complain(&format!("tidegate: {}\n", chain(&error)));
    if error.is::<Misuse>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Prints the parser's words: help and version on standard output, mistakes on standard error in our form.
pub(super) fn usage(mut error: clap::Error) -> ExitCode {
    if error.use_stderr() {
        clip(&mut error);
        let text = error.render().to_string();
        complain(
            &text.strip_prefix("error: ").map_or_else(|| text.clone(), |rest| format!("tidegate: {rest}")),
        );
    } else {
        // Help that nobody reads is no failure.
        let _ = error.print();
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Whoever wrote a value of a thousand characters knows it: what is wrong with it is not to be looked for behind it.
fn clip(error: &mut clap::Error) {
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return };
    let shown = fit(value, LONGEST);
    error.insert(ContextKind::InvalidValue, ContextValue::String(shown));
}

/// A text of so many characters at most; of a longer one the begin.
pub(super) fn fit(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(3)).chain("...".chars()).collect()
}

fn complain(text: &str) {
    // Where standard error is closed there is nobody to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// An error with its causes in one line; a cause that is already in the words before it is not said twice.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |words, cause| match words {
        words if words.is_empty() => cause,
        words if words.contains(&cause) => words,
        words => format!("{words}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let cause = || anyhow::anyhow!("file not found");
        for (error, words) in [
            (cause(), "file not found"),
            (cause().context("load a.toml"), "load a.toml: file not found"),
            (
                cause().context("cannot read a.toml: file not found; make one"),
                "cannot read a.toml: file not found; make one",
            ),
        ] {
            assert_eq!(chain(&error), words);
        }
    }

    #[test]
    fn of_a_long_value_the_begin_is_shown() {
        let shape = format!("{} | cnst 5 1m", ["const 5 1m"; 200].join(" | "));
        let parsed: Result<crate::cli::Cli, _> =
            clap::Parser::try_parse_from(["tidegate", "simulate", "--shape", &shape]);
        let mut error = parsed.map(|_| ()).expect_err("no cnst");
        clip(&mut error);
        let text = error.render().to_string();
        assert!(
            text.len() < 800 && text.contains("no segment") && text.contains("const 5 1m | const"),
            "{text}"
        );
    }

    #[test]
    fn exit_codes() {
        for (result, code) in [
            (Ok(ExitCode::from(3)), ExitCode::from(3)),
            (Err(anyhow::anyhow!("it broke")), ExitCode::FAILURE),
            (Err(Misuse("a, not b".into()).into()), ExitCode::from(2)),
            (Err(Closed.into()), ExitCode::SUCCESS),
        ] {
            assert_eq!(report(result), code);
        }
    }
}
