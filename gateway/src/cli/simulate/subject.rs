//! The service that settings are tried for: what the file says of it, or what is said instead. Shared by `simulate` and `tune`.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use tidegate_config::{
    model::{Idle, Law, ScalingPolicy},
    units::Concurrency,
};
use tidegate_loadtest::plan::{
    read::recordings,
    recording::{Form, Invalid, Options, Recording},
};

use super::given::{Assumed, Traffic, from_one};
use crate::cli::{config_file::environment, output::Misuse};

/// What a replica of a service without a limit is taken to bear, as the laws do.
const UNLIMITED: u32 = 100;

#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct Subject {
    /// Which service: its requests of an access log, and its settings of the file [default: all of the log]
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) service: Option<String>,
    /// The file whose settings for the service all others begin with
    #[arg(short, long, value_name = "FILE", requires = "service", conflicts_with_all = ["concurrency", "max"])]
    pub(in crate::cli) config: Option<PathBuf>,
    /// What numbers without a header are: counts or times [default: what they look like]
    #[arg(long, value_name = "FORM")]
    form: Option<Form>,
    /// Requests that a replica gets at once, or unlimited
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_once)]
    concurrency: AtOnce,
    /// Replicas at most
    #[arg(long, value_name = "N", default_value = "1000", value_parser = from_one::<NonZeroU32>)]
    max: NonZeroU32,
}

/// Requests that a replica gets at once; `None`: as many as come.
#[derive(Debug, Clone, Copy)]
struct AtOnce(Option<Concurrency>);

fn at_once(text: &str) -> Result<AtOnce, String> {
    match text {
        "unlimited" => Ok(AtOnce(None)),
        _ => text
            .parse()
            .map(|limit| AtOnce(Some(limit)))
            .map_err(|_| "expected a whole number from 1 on, or unlimited".to_owned()),
    }
}

/// What settings begin with.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Base {
    /// As the file has it, or as little as can be said.
    own: ScalingPolicy,
    /// What is simulated.
    pub(in crate::cli) tried: ScalingPolicy,
}

impl Base {
    /// What a simulation asks for is what it measures: nobody gives up, nothing is cut off, and a replica bears what is said.
    fn of(own: ScalingPolicy) -> Self {
        // The longest that a file may say.
        let year = Duration::from_secs(365 * 24 * 3600);
        let concurrency = own.concurrency.or(Concurrency::new(UNLIMITED));
        let tried =
            ScalingPolicy { hold: year, drain: year, queue: 1_000_000_000, concurrency, ..own.clone() };
        Self { own, tried }
    }

    /// What is assumed of the settings that are shown, in a sentence.
    pub(in crate::cli) fn told<'s>(
        &self,
        assumed: &Assumed,
        traffic: &[Traffic],
        shown: impl IntoIterator<Item = &'s ScalingPolicy>,
    ) -> String {
        let limit = self.tried.concurrency.map_or(UNLIMITED, |limit| limit.get());
        let requests = if limit == 1 { "request" } else { "requests" };
        let shown: Vec<_> = shown.into_iter().collect();
        let is_by_clock = shown.iter().any(|one| !one.keep_warm.is_empty());
        let begins = traffic.first().filter(|_| is_by_clock).map(|one| assumed.begins(one));
        let clock =
            begins.map_or_else(String::new, |begins| format!(" The clock shows {begins} at the beginning."));
        let idle = self.told_of_idle(shown);
        format!(
            "Assumed, where settings say nothing else: {}; a replica gets {limit} {requests} at once, there are at most {}, and nobody is turned away or gives up.{idle}{clock}",
            assumed.told(traffic),
            self.tried.max
        )
    }

    /// Where `work` stands in place of another law it learns what the file had fixed.
    fn told_of_idle<'s>(&self, shown: impl IntoIterator<Item = &'s ScalingPolicy>) -> &'static str {
        let ScalingPolicy { law, idle, .. } = self.own;
        if law == Law::Work || idle == Idle::Auto {
            return "";
        }
        let work = shown.into_iter().filter(|one| one.law == Law::Work && one.min == 0);
        let (learned, fixed): (Vec<_>, Vec<_>) = work.partition(|one| one.idle == Idle::Auto);
        match (learned.is_empty(), fixed.is_empty()) {
            (true, _) => "",
            (false, true) => " `work` learns when the last replica goes instead of the file's `idle`.",
            (false, false) => {
                " `work` learns when the last replica goes instead of the file's `idle`, where a setting has none of its own."
            }
        }
    }

    /// Settings that were tried as the file would have them.
    pub(in crate::cli) fn written(&self, tried: &ScalingPolicy) -> ScalingPolicy {
        let ScalingPolicy { hold, drain, queue, concurrency, .. } = self.own;
        ScalingPolicy { hold, drain, queue, concurrency, ..tried.clone() }
    }

    /// What the simulation knows nothing of.
    pub(in crate::cli) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if self.own.concurrency.is_none() {
            notes.push(format!(
                "the service has no `concurrency`: a replica is taken to serve {UNLIMITED} requests at once, none of them slower"
            ));
        }
        if self.own.signals.measure() {
            notes.push(
                "`target_cpu` and `target_memory` are not simulated: what replicas use is not known"
                    .to_owned(),
            );
        }
        notes
    }
}

impl Subject {
    /// What settings begin with.
    pub(in crate::cli) fn base(&self) -> anyhow::Result<Base> {
        let Some(file) = &self.config else {
            let AtOnce(concurrency) = self.concurrency;
            let max = self.max.get();
            return Ok(Base::of(ScalingPolicy { concurrency, max, ..ScalingPolicy::default() }));
        };
        let model =
            tidegate_config::load(file, environment()).map_err(|problems| Misuse(problems.to_string()))?;
        let name = self.service.as_deref().context("clap asks for it")?;
        let service = model.services.values().find(|service| service.name.as_str() == name);
        let service = service.ok_or_else(|| {
            let all: Vec<&str> = model.services.keys().map(|name| name.as_str()).collect();
            Misuse(format!("{} has no service {name:?}; it has {}", file.display(), all.join(", ")))
        })?;
        if service.is_outside() {
            return Err(Misuse(format!(
                "{name} has `upstreams`: it runs elsewhere, and nothing of it is scaled"
            ))
            .into());
        }
        Ok(Base::of(service.scaling.clone()))
    }

    /// What the settings of now are called.
    pub(in crate::cli) fn now(&self) -> String {
        let file = self.config.as_ref().map(|file| format!("as in {}", file.display()));
        file.unwrap_or_else(|| "the defaults".to_owned())
    }

    /// The recordings of a file, each of a service of its own.
    pub(in crate::cli) fn recorded(&self, file: &Path) -> Result<Vec<Recording>, Misuse> {
        // With a file, what names no services is the traffic of the one that is meant.
        let (service, own) = (self.service.clone(), self.config.is_some());
        let options = Options { form: self.form, service, own, ..Options::default() };
        recordings(file, &options).map_err(|error| match (&self.service, error.downcast_ref()) {
            (Some(service), Some(Invalid::NoServices)) => Misuse(format!(
                "--service {service} chooses from a file of services (--config), or from a recording that names services, as an \
                 access log in JSON does; {} names none: add --config FILE, or leave --service out",
                file.display()
            )),
            _ => Misuse(format!("{error:#}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::simulate::settings;

    #[test]
    fn what_a_service_is_chosen_from_is_told() {
        #[derive(clap::Parser)]
        struct Args {
            #[command(flatten)]
            subject: Subject,
        }
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("trace");
        let recorded = |text: &str, more: &[&str]| {
            std::fs::write(&file, text).expect("written");
            let Args { subject } = clap::Parser::parse_from([&["tune", "--service", "api"], more].concat());
            subject.recorded(&file).map_err(|wrong| wrong.0)
        };
        let line = |more: &str| format!(r#"{{"time":"2026-11-25T22:40:01Z"{more}}}"#);
        for none in ["time,took\n1,0.5\n", "1 2 3", "a,1,2\nx,3,4\n", &line("")] {
            assert_eq!(
                recorded(none, &[]).expect_err("no services"),
                format!(
                    "--service api chooses from a file of services (--config), or from a recording that names services, as an access \
                     log in JSON does; {} names none: add --config FILE, or leave --service out",
                    file.display()
                ),
                "{none}"
            );
            assert!(recorded(none, &["--config", "a.toml"]).is_ok(), "{none}");
        }
        let other = recorded(&line(r#","service":"web""#), &[]).expect_err("another");
        assert!(other.ends_with(r#"no request of "api" is in it; it has those of web"#), "{other}");
    }

    #[test]
    fn an_idle_that_work_does_not_take_over_is_told() {
        #[derive(clap::Parser)]
        struct Args {
            #[command(flatten)]
            assumed: Assumed,
        }
        let Args { assumed } = clap::Parser::parse_from(["simulate"]);
        let told = |own, shown: &[&str]| {
            let own = settings::read(&ScalingPolicy::default(), own).expect("good").scaling;
            let shown = shown.iter().map(|text| settings::read(&own, text).expect("good").scaling);
            let shown = shown.collect::<Vec<_>>();
            Base::of(own).told(&assumed, &[], &shown)
        };
        for learned in ["work", "work,idle=auto"] {
            let told = told("kpa,idle=5m", &["kpa", learned, "work,idle=5m"]);
            assert!(
                told.ends_with(" instead of the file's `idle`, where a setting has none of its own."),
                "{told}"
            );
        }
        assert!(told("kpa,idle=5m", &["work"]).ends_with(" instead of the file's `idle`."));
        for (own, shown) in [
            ("kpa", &["work"][..]),
            ("work,idle=5m", &["late_worth=5s", "idle=auto"]),
            ("kpa,idle=5m", &["kpa", "hpa"]),
            ("kpa,idle=5m", &["work,idle=5m", "work,without=keep"]),
            ("kpa,idle=5m", &["work,min=1"]),
        ] {
            let told = told(own, shown);
            assert!(told.ends_with("gives up."), "{shown:?} beside {own}: {told}");
        }
    }

    #[test]
    fn a_service_that_runs_elsewhere_is_not_simulated() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tidegate.toml");
        std::fs::write(&file, "services.api = { upstreams = [\"10.0.0.7:80\"] }\n").expect("written");
        let subject = Subject {
            service: Some("api".to_owned()),
            config: Some(file),
            form: None,
            concurrency: AtOnce(None),
            max: NonZeroU32::MIN,
        };
        let error = subject.base().expect_err("nothing is scaled").to_string();
        assert_eq!(error, "api has `upstreams`: it runs elsewhere, and nothing of it is scaled");
    }
}
