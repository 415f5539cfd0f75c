//! The command line: what can be asked, and which file answers. One file per subcommand; [`output`] is how they print
//! and fail, [`client`] how they ask a running gateway.
//! Exit codes: 0 fine, 1 failed, 2 usage or configuration, 3 the measurement is invalid.

mod ask;
mod check;
mod client;
mod config_file;
mod doctor;
mod engines;
mod explain;
mod hash;
mod host;
mod images;
mod init;
mod load;
mod logging;
mod logs;
mod output;
mod plan;
mod ps;
mod record;
mod remote;
mod replicas;
mod rollback;
mod schema;
mod simulate;
mod tune;
mod up;
mod welcome;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use self::engines::SHIM;
use self::{
    config_file::{config_file, environment},
    output::{report, usage},
};

/// Tidegate starts containers when requests come, scales them with the load, and lets them go when idle.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write a first configuration file, with comments
    Init(init::Init),
    /// Run the gateway
    Up(Up),
    /// Say everything that is wrong with a configuration file
    Check(check::Check),
    /// Say what a configuration file would change in the running gateway
    Plan(plan::Plan),
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// List services and their replicas
    Ps(ps::Ps),
    /// Say why a service is as it is
    Explain(explain::Explain),
    /// Show what a service's replicas print
    Logs(logs::Logs),
    /// Start a service and wait until it is ready
    Wake(ask::Ask),
    /// Stop a service as if it had been idle, and wait until it has; the next request wakes it
    Sleep(ask::Ask),
    /// Replace a service's replicas and wait for the new ones
    Restart(ask::Ask),
    /// Go back to an earlier version of a service and wait until it serves
    Rollback(rollback::Rollback),
    /// List hosts, and tell them to take no more replicas or to give up those that they have
    Host(host::Host),
    /// List the images that the embedded engine has, and remove what nothing uses
    Images(images::Images),
    /// Say whether this machine has what the embedded engine needs, and find what crashes left behind
    Doctor(doctor::Doctor),
    /// Print the hash of a password or token that is read from standard input, for the configuration
    Hash(hash::Hash),
    /// Send HTTP requests at a fixed rate and measure the answers
    Load(Box<load::Load>),
    /// Say what a service's traffic would have felt and cost under other scaling settings
    Simulate(simulate::Simulate),
    /// Write down when a service's requests come and how long they take, for `simulate` and `tune`
    Record(record::Record),
    /// Find the scaling settings that suit a service's own recorded traffic
    Tune(tune::Tune),
}

/// What `tidegate up` is told.
#[derive(Debug, Clone, Args)]
pub struct Up {
    /// The same as --config
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The configuration file [default: tidegate.toml, or else .yaml, .yml or .json, in the current folder]
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// The state directory [default: /var/lib/tidegate as root, else ~/.local/state/tidegate]
    #[arg(long, value_name = "DIR", env = "TIDEGATE_STATE")]
    pub state: Option<PathBuf>,
    /// Do not wait for the services' images before saying ready
    #[arg(long)]
    pub no_prepull: bool,
    /// Take over from the gateway that runs on the state directory, without a gap: it passes its listening sockets and
    /// finishes its requests beside the new one
    #[arg(long)]
    pub take_over: bool,
    /// How to write the log, which goes to standard error; TIDEGATE_LOG says how much (error, warn, info, debug)
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// A JSON object per line.
    Json,
}

/// Which gateway is asked.
#[derive(Debug, Clone, Args)]
struct Gateway {
    /// The state directory of the gateway to ask [default: that of `tidegate up`]
    #[arg(long, value_name = "DIR", env = "TIDEGATE_STATE")]
    state: Option<PathBuf>,
    /// The admin socket of the gateway to ask [default: admin.sock in the state directory]
    #[arg(long, value_name = "PATH", env = "TIDEGATE_SOCKET")]
    socket: Option<PathBuf>,
    /// Ask a gateway over TCP instead, as in https://gateway:9902 (see gateway.admin)
    #[arg(
        long,
        value_name = "URL",
        env = "TIDEGATE_ADMIN",
        conflicts_with = "socket",
        requires = "token_file"
    )]
    admin: Option<http::Uri>,
    /// A file with the token for that
    #[arg(long, value_name = "FILE", env = "TIDEGATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// A PEM file: who signs that gateway's certificate [default: whom this machine trusts]
    #[arg(long, value_name = "FILE", env = "TIDEGATE_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
}

impl Gateway {
    fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| crate::state_dir::socket(&self.state()))
    }

    fn state(&self) -> PathBuf {
        self.state.clone().unwrap_or_else(default_state)
    }
}

/// Reads the command line, does what it says and tells how it went.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => report(cli.run()),
        Err(error) => usage(error),
    }
}

impl Cli {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Init(args) => init::run(&args),
            Command::Up(args) => {
                logging::set_up(args.log_format)?;
                up::run(&args)
            }
            Command::Check(args) => check::run(&args),
            Command::Plan(args) => client::block_on(plan::run(args)),
            Command::Schema => schema::run(),
            Command::Ps(args) => client::block_on(ps::run(args)),
            Command::Explain(args) => client::block_on(explain::run(args)),
            Command::Logs(args) => client::block_on(logs::run(args)),
            Command::Wake(args) => client::block_on(ask::run(ask::Wish::Wake, args)),
            Command::Sleep(args) => client::block_on(ask::run(ask::Wish::Sleep, args)),
            Command::Restart(args) => client::block_on(ask::run(ask::Wish::Restart, args)),
            Command::Rollback(args) => client::block_on(rollback::run(args)),
            Command::Host(args) => client::block_on(host::run(args)),
            Command::Images(args) => client::block_on(images::run(args)),
            Command::Doctor(args) => client::block_on(doctor::run(args)),
            Command::Hash(args) => hash::run(&args),
            Command::Simulate(args) => simulate::run(&args),
            Command::Record(args) => client::block_on(record::run(args)),
            Command::Tune(args) => tune::run(&args),
            Command::Load(args) => load::run(&args),
        }
    }
}

/// The state directory when none is named.
fn default_state() -> PathBuf {
    crate::state_dir::default_path(nix::unistd::geteuid().is_root(), |name| std::env::var(name).ok())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(format!("tidegate {line}").split_whitespace()).map_err(|error| error.kind())
    }

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_can_be_asked() {
        for line in [
            "init",
            "init other.toml --force",
            "up",
            "up -c a.toml --state /tmp/s --no-prepull --take-over --log-format json",
            "check",
            "check a.yaml --json",
            "plan",
            "plan b.toml --json --state /tmp/s",
            "schema",
            "ps",
            "ps --json --state /tmp/s",
            "ps --watch --socket /tmp/s.sock",
            "ps --admin https://gateway:9902 --token-file t",
            "explain api --json",
            "logs api -f --tail 5 --json",
            "wake api",
            "sleep api --json --timeout 10s",
            "restart api",
            "rollback api",
            "rollback api 0123abcd4567 --timeout 1m",
            "host list --json",
            "host drain a --timeout 1m",
            "host cordon a",
            "host uncordon a",
            "images",
            "images --json --state /tmp/s",
            "images prune",
            "images prune --all --dry-run --json",
            "images prune --older-than 7d --state /tmp/s --socket /tmp/s.sock",
            "doctor",
            "doctor --fix --json --state /tmp/s",
            "doctor --purge --images --volumes",
            "hash",
            "hash --sha256",
            "load http://a/ --rate 200 --duration 30s",
            "load http://a/ --rate 0.5 --duration 2m --connections 8 --timeout 1s --method PUT --header a:b --header c:d",
            "load http://a/ --rate 9 --duration 1s --process gamma(2) --seed 7",
            "load http://a/ --rate 9 --duration 1s --poisson --seed 7 --h2c --json --host b --body x",
            "load http://a/ --rate 9 --duration 1s --assert p99<50ms error_rate<0.1% --assert rate>8",
            "load https://a/ --rate 9 --duration 1s --h2 --h2-connections 2 --ca a.pem --cert b.pem --key c.pem --cpu 1",
            "load http://a/ --rate 9 --duration 1s --ws-hold 10s --requests-per-connection 1 --out a.json --out b.csv",
            "load burst.toml --to http://127.0.0.1:8080 --service demo --socket /tmp/s --out r.html --slo 200ms --plain",
            "load compare a.json b.json",
            "load merge a.json b.json c.json --out d.html",
            "load find-knee http://a/ --slo 100ms --share 95% --from 5 --step 3s --service demo",
            "load http://a/ --rate 9 --duration 1s --grpc --body @call --baseline a.json --tolerance 5%",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).map(drop));
        }
    }

    #[test]
    fn what_is_refused() {
        use ErrorKind::{
            ArgumentConflict, DisplayHelpOnMissingArgumentOrSubcommand, InvalidSubcommand, InvalidValue,
            MissingRequiredArgument, TooFewValues, UnknownArgument, ValueValidation,
        };
        for (line, kind) in [
            ("", DisplayHelpOnMissingArgumentOrSubcommand),
            ("pss", InvalidSubcommand),
            ("up --nope", UnknownArgument),
            ("up --log-format xml", InvalidValue),
            ("ps --watch --json", ArgumentConflict),
            ("explain", MissingRequiredArgument),
            ("logs api --tail many", ValueValidation),
            ("sleep api --timeout 10", ValueValidation),
            ("images prune --all --older-than 7d", ArgumentConflict),
            ("images prune --older-than 7", ValueValidation),
            ("images --json prune", ArgumentConflict),
            ("doctor --fix --purge", ArgumentConflict),
            ("doctor --volumes", MissingRequiredArgument),
            ("hash s3cret", UnknownArgument),
            ("load http://a/ --rate 5", MissingRequiredArgument),
            ("load http://a/ --rate 0 --duration 1s", ValueValidation),
            ("load http://a/ --rate inf --duration 1s", ValueValidation),
            ("load http://a/ --rate 5 --duration 1", ValueValidation),
            ("load http://a/ --rate 5 --duration 1s --connections 0", ValueValidation),
            ("load", MissingRequiredArgument),
            ("load http://a/ --rate 5 --duration 1s --cert a.pem", MissingRequiredArgument),
            ("load http://a/ --rate 5 --duration 1s --ws --grpc", ArgumentConflict),
            ("load http://a/ --rate 5 --duration 1s --out a.txt", ValueValidation),
            ("load http://a/ --rate 5 --duration 1s --tolerance 5%", MissingRequiredArgument),
            ("load http://a/ --rate 5 --duration 1s --process normal", ValueValidation),
            ("load http://a/ --rate 5 --duration 1s --process uniform --poisson", ArgumentConflict),
            ("load http://a/ --rate 5 --duration 1s --shape pause", ValueValidation),
            ("load http://a/ --rate 5 --duration 1s --header nocolon", ValueValidation),
            ("load http://a/ --rate 5 --duration 1s --assert p99", ValueValidation),
            ("load compare a.json", MissingRequiredArgument),
            ("load merge a.json", TooFewValues),
            ("load find-knee", MissingRequiredArgument),
            ("load find-knee http://a/ --service b --replicas 2", ArgumentConflict),
        ] {
            let error = Cli::try_parse_from(format!("tidegate {line}").split_whitespace()).expect_err(line);
            assert_eq!((line, error.kind(), error.exit_code()), (line, kind, 2));
        }
    }

    #[test]
    fn several_promises_follow_one_flag() {
        let line = "load http://a/ --rate 9 --duration 1s --assert p99<50ms errors<1 --assert rate>8 --json";
        let Ok(Cli { command: Command::Load(load) }) = parse(line) else { panic!("{line} is not parsed") };
        assert_eq!(load.promises(), 3);
    }
}
