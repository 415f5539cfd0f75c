//! The access log of `tidegate up` as a recording: each line a request, and the starts that some of them waited for. `[P]`

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::{Invalid, NAMED, Options, Recording, Request, instant, millis, no_time, requests, took};

#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow, default)]
    service: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    replica: Option<Cow<'a, str>>,
    total_ms: Option<f64>,
    start_ms: Option<f64>,
    upstream_ms: Option<f64>,
}

/// All of it, or what is in it of one service.
pub(super) fn read(text: &str, options: &Options) -> Result<Recording, Invalid> {
    let (mut starts, mut named, mut unserved) = (BTreeMap::new(), BTreeSet::new(), 0);
    let found = requests(written(text), 0, options, |number, text| {
        let line: Line<'_> = serde_json::from_str(text).map_err(|_| no_time(number, text))?;
        if let Some(name) = line.service.as_deref().filter(|name| !named.contains(*name)) {
            named.insert(name.to_owned());
        }
        let came = instant(&line.time).ok_or_else(|| no_time(number, text))?;
        let took = line.upstream_ms.map(|ms| took::measured(number, ms)).transpose()?;
        let wanted = is_wanted(&line, options);
        unserved += usize::from(wanted && !is_served(&line));
        let request: Option<Request> = (wanted && is_served(&line)).then_some((came, took));
        if let (Some(_), Some(replica), Some(ms)) = (request, &line.replica, line.start_ms) {
            // Many may have waited for the same one.
            starts.insert(replica.to_string(), millis(ms));
        }
        Ok(request)
    });
    match (found, &options.service) {
        (Ok(recording), _) => {
            let starts = starts.into_values().flatten().collect();
            Ok(Recording { starts, unserved, ..recording })
        }
        (Err(Invalid::Empty), _) if named.is_empty() => {
            options.names_no_services()?;
            Err(Invalid::Empty)
        }
        (Err(Invalid::Empty), Some(asked)) if !named.contains(asked) => Err(Invalid::OtherServices {
            asked: asked.clone(),
            named: named.into_iter().take(NAMED).collect(),
        }),
        (Err(error), _) => Err(error),
    }
}

/// Without a last line that is still being written.
fn written(text: &str) -> &str {
    match text.rsplit_once('\n') {
        Some((whole, last)) if serde_json::from_str::<serde::de::IgnoredAny>(last).is_err() => whole,
        _ => text,
    }
}

/// Whether a replica had it. What the gateway answered itself is work for nobody. Logs of others do not say.
fn is_served(line: &Line<'_>) -> bool {
    line.total_ms.is_none() || line.upstream_ms.is_some()
}

/// Whether it is of the service that is asked for.
fn is_wanted(line: &Line<'_>, options: &Options) -> bool {
    options.service.as_deref().is_none_or(|asked| match line.service.as_deref() {
        Some(named) => named == asked,
        None => options.own,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::{recording::each, trace::Profile};

    fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn times(times: &[f64]) -> Profile {
        Profile::times(times.into()).expect("some")
    }

    #[test]
    fn our_access_log_says_when_requests_came_and_how_long_replicas_took() {
        let line = |time: &str, service: &str, upstream: &str| {
            format!(
                r#"{{"time":"2026-11-25T22:40:{time}Z","status":200,"total_ms":500.0{upstream},"service":"{service}"}}"#
            )
        };
        let took = r#","upstream_ms":250.0"#;
        let log = [
            line("03", "api", r#","upstream_ms":750.0"#),
            line("01.5", "api", took),
            line("02", "web", took),
            line("02", "api", ""),
        ]
        .join("\n");
        let of = |service: Option<&str>, from| Options {
            service: service.map(str::to_owned),
            from: s(from),
            ..Options::default()
        };
        let one = |options| each(&log, &options).expect("some").remove(0);
        let api = one(of(Some("api"), 0));
        assert_eq!(api.profile, times(&[0.0, 1.5]), "as they came, without what was refused");
        assert_eq!((&*api.took, api.mean), (&[Some(ms(250)), Some(ms(750))][..], Some(ms(500))));
        assert_eq!((api.unserved, one(of(Some("web"), 0)).unserved), (1, 0), "which is told");
        assert_eq!(one(of(None, 0)).took.len(), 3);
        let later = one(of(Some("api"), 1));
        assert_eq!((&*later.took, later.profile), (&[Some(ms(750))][..], times(&[0.5])));
        let begins = Duration::from_millis(1_795_646_401_500);
        assert_eq!((api.begins, later.begins), (Some(begins), Some(begins + s(1))));
        let error = each(&log, &of(Some("none"), 0)).expect_err("there is none");
        assert_eq!(error.to_string(), r#"no request of "none" is in it; it has those of api, web"#);
        let pause = Invalid::EmptyPart { from: s(60), length: None, whole: Duration::from_millis(1500) };
        assert_eq!(each(&log, &of(Some("api"), 60)), Err(pause), "it has some, but not then");
        let error = each(&log, &of(Some("none"), 60)).expect_err("there is none");
        assert!(matches!(error, Invalid::OtherServices { .. }), "{error}");
        let half = format!("{log}\n{}", &line("04", "api", took)[..40]);
        assert_eq!(each(&half, &of(None, 0)), each(&log, &of(None, 0)), "the last line is being written");
        assert!(each(&format!("{half}\n{log}"), &of(None, 0)).is_err(), "but not one before it");
    }
}
