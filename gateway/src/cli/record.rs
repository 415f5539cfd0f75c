//! `tidegate record`: when a service's requests came and how long replicas had them, as `tidegate simulate` and `tidegate
//! tune` read it.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Args;
use http::Method;

use super::{Gateway, client::Client, simulate::given};
use crate::admin::requests::{HEADER, MISSED};

#[derive(Debug, Args)]
pub(super) struct Record {
    /// The service
    service: String,
    /// Where to write it [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// For how long [default: until interrupted]
    #[arg(long = "for", value_name = "DURATION", value_parser = given::span)]
    length: Option<Duration>,
    #[command(flatten)]
    gateway: Gateway,
}

pub(super) async fn run(args: Record) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.gateway);
    let length = args.length.map_or_else(String::new, |length| format!("?for={}", length.as_secs_f64()));
    let mut answer = client.open(Method::GET, &args.service, &format!("/requests{length}")).await?;
    let mut output: Box<dyn Write> = match &args.output {
        Some(file) => {
            let made = std::fs::File::create_new(file);
            let why = || match file.exists() {
                true => format!(
                    "{} is there already and is not written over; name another --output",
                    file.display()
                ),
                false => format!("cannot make {}", file.display()),
            };
            Box::new(made.with_context(why)?)
        }
        None => Box::new(std::io::stdout()),
    };
    let mut told = Told::default();
    loop {
        let piece = tokio::select! {
            piece = answer.piece() => piece?,
            _ = tokio::signal::ctrl_c() => break,
        };
        let Some(piece) = piece else { break };
        if let Err(error) = output.write_all(&piece).and_then(|()| output.flush()) {
            match &args.output {
                Some(file) => return Err(error).with_context(|| format!("cannot write {}", file.display())),
                // Whoever reads standard output may have enough.
                None => break,
            }
        }
        told.count(&piece);
    }
    eprintln!("{}", told.text(&args));
    Ok(ExitCode::SUCCESS)
}

/// What has been written.
#[derive(Debug, Default)]
struct Told {
    requests: u64,
    missed: u64,
}

impl Told {
    /// Pieces end with lines.
    fn count(&mut self, piece: &[u8]) {
        for line in String::from_utf8_lossy(piece).lines() {
            match line.strip_prefix(MISSED) {
                Some(missed) => self.missed += missed.parse::<u64>().unwrap_or_default(),
                None if line.starts_with('#') || format!("{line}\n") == HEADER => {}
                None => self.requests += 1,
            }
        }
    }

    fn text(&self, args: &Record) -> String {
        let Self { requests, missed } = self;
        if *requests == 0 && *missed == 0 {
            return format!(
                "nobody called {}: no request is recorded; record again while it is called, or for longer (--for)",
                args.service
            );
        }
        let s = if *requests == 1 { "" } else { "s" };
        let mut text = format!("{requests} request{s} of {} recorded", args.service);
        if *missed > 0 {
            text += &format!("; {missed} more ended faster than they could be written, and are not in it");
        }
        if let Some(file) = args.output.as_ref().filter(|_| *requests > 0) {
            text +=
                &format!("; next: tidegate tune {} --config FILE --service {}", file.display(), args.service);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        record: Record,
    }

    #[test]
    fn a_recording_of_nobody_is_nothing_to_tune_by() {
        let Cli { record } = clap::Parser::parse_from(["record", "api", "--output", "api.csv"]);
        let told = |lines: &str| {
            let mut told = Told::default();
            told.count(lines.as_bytes());
            told.text(&record)
        };
        assert_eq!(
            told("time,took\n# start 1.5\n"),
            "nobody called api: no request is recorded; record again while it is called, or for longer (--for)"
        );
        let one = told("time,took\n1,0.5\n");
        assert!(one.starts_with("1 request of api recorded; next: tidegate tune api.csv"), "{one}");
        assert!(told("# missed 7\n").starts_with("0 requests of api recorded; 7 more"));
    }
}
