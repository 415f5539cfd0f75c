//! Ranges and defaults of single settings.

use std::{fmt::Display, net::IpAddr, num::NonZeroU32, str::FromStr, time::Duration};

use ipnet::IpNet;

use crate::{
    decode::{
        At,
        leaf::{Often, Size, Span, Text},
    },
    problem::Draft,
    units::{Bytes, Rate},
};

/// The setting, or its default.
pub(super) fn of<T>(setting: Option<At<T>>, default: T) -> T {
    setting.map_or(default, |setting| setting.value)
}

/// A text that must be something else's spelling.
pub(super) fn parsed<T: FromStr<Err: Display>>(text: &At<Text>, problems: &mut Vec<Draft>) -> Option<T> {
    match text.value.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            let said = error.to_string();
            let allowed = said.strip_prefix("expected ").unwrap_or(&said).to_owned();
            problems.push(text.problem("not valid").allowed(allowed));
            None
        }
    }
}

/// A number that must not be 0.
pub(super) fn positive(setting: Option<At<u32>>, default: u32, problems: &mut Vec<Draft>) -> u32 {
    at_least(setting, 1, default, problems)
}

/// A number of which 0 means none.
pub(super) fn some(setting: Option<At<u32>>, default: Option<NonZeroU32>) -> Option<NonZeroU32> {
    setting.map_or(default, |setting| NonZeroU32::new(setting.value))
}

/// A number with a lower end.
pub(super) fn at_least(setting: Option<At<u32>>, least: u32, default: u32, problems: &mut Vec<Draft>) -> u32 {
    if let Some(setting) = setting.as_ref().filter(|setting| setting.value < least) {
        problems.push(setting.problem("too small").allowed(format!("{least} or more")));
    }
    of(setting, default)
}

/// A duration that must not be 0.
pub(super) fn lasting(setting: Option<At<Span>>, default: Duration, problems: &mut Vec<Draft>) -> Duration {
    if let Some(setting) = setting.as_ref().filter(|setting| setting.value.0.is_zero()) {
        problems.push(setting.problem("too short").allowed("more than 0s"));
    }
    span(setting, default)
}

/// A duration that may be 0.
pub(super) fn span(setting: Option<At<Span>>, default: Duration) -> Duration {
    of(setting, Span(default)).0
}

/// A size with a lower end.
pub(super) fn size(
    setting: Option<At<Size>>,
    least: Bytes,
    default: Bytes,
    problems: &mut Vec<Draft>,
) -> Bytes {
    if let Some(setting) = setting.as_ref().filter(|setting| setting.value.0 < least) {
        problems.push(setting.problem("too small").allowed(format!("{least} or more")));
    }
    of(setting, Size(default)).0
}

/// A number of cores.
pub(super) fn cores(setting: &Option<At<f64>>, least: f64, problems: &mut Vec<Draft>) -> Option<f64> {
    let setting = setting.as_ref()?;
    if setting.value < least || setting.value > 4096.0 {
        problems
            .push(setting.problem("not a number of cores").allowed(format!("{least} to 4096, as in 0.5")));
    }
    Some(setting.value)
}

/// A share that may be nothing at all.
pub(super) fn share(setting: Option<At<f64>>, default: f64, problems: &mut Vec<Draft>) -> f64 {
    if let Some(setting) = setting.as_ref().filter(|setting| !(0.0..=1.0).contains(&setting.value)) {
        problems.push(setting.problem("not a share").allowed("0 to 1, as in 0.1 for a tenth"));
    }
    of(setting, default)
}

/// A rate that may be switched off.
pub(super) fn rate(
    raw: Option<&At<Often>>,
    default: Option<Rate>,
    problems: &mut Vec<Draft>,
) -> Option<Rate> {
    match raw {
        None => default,
        Some(text) if text.value.0 == "off" => None,
        Some(text) => {
            let rate = text.value.0.parse();
            if rate.is_err() {
                let draft = text.problem("not a rate").allowed("as in \"10/m\" (s, m or h), or \"off\"");
                problems.push(draft.help(per_second(text)));
            }
            rate.ok()
        }
    }
}

/// What was probably meant by a number that should be a rate.
pub(super) fn per_second(text: &At<Often>) -> Option<String> {
    let number: NonZeroU32 = text.value.0.parse().ok()?;
    Some(format!("write \"{number}/s\" if so many per second are meant"))
}

/// Addresses and networks.
pub(super) fn networks(raw: Option<At<Vec<At<Text>>>>, problems: &mut Vec<Draft>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for text in of(raw, Vec::new()) {
        let network = text.value.parse().or_else(|_| text.value.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => networks.push(network),
            Err(_) => problems.push(
                text.problem("not an address or network").allowed("as in \"10.0.0.1\" or \"10.0.0.0/8\""),
            ),
        }
    }
    networks
}
