//! Which of an index's images fits a machine. Pure.
//! Registries' indexes and those of files are resolved with the same words.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What an image runs on, as an index says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    /// As Go names it: `amd64`, `arm64`, ...
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v7`, `v8`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// None of the images fits; what there are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no image for {here}, only for {}", list(.offered))]
pub(crate) struct NoneFits {
    here: Platform,
    offered: Vec<Platform>,
}

impl Platform {
    /// This machine's.
    pub(crate) fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        };
        Self { architecture: architecture.into(), os: "linux".into(), variant: None }
    }

    /// Whether what is for `image` runs here. Variants that only some of these machines have are left to who has no other
    /// choice than to name the image by its digest.
    pub(crate) fn runs(&self, image: &Self) -> bool {
        let plain = match image.architecture.as_str() {
            "amd64" => matches!(image.variant.as_deref(), None | Some("" | "v1")),
            "arm64" => matches!(image.variant.as_deref(), None | Some("" | "v8" | "v8.0")),
            _ => true,
        };
        plain && self.os == image.os && self.architecture == image.architecture
    }
}

/// The position of the first offer that runs here. An offer that says nothing counts if it is the only one.
pub(crate) fn choose(offers: &[Option<Platform>], here: &Platform) -> Result<usize, NoneFits> {
    if let [None] = offers {
        return Ok(0);
    }
    let fits = |offer: &Option<Platform>| offer.as_ref().is_some_and(|offer| here.runs(offer));
    offers.iter().position(fits).ok_or_else(|| {
        // Attestations stand in indexes, too, for "unknown/unknown".
        let offered = offers.iter().flatten().filter(|offer| offer.os != "unknown").cloned();
        NoneFits { here: here.clone(), offered: offered.collect() }
    })
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

fn list(platforms: &[Platform]) -> String {
    if platforms.is_empty() {
        return "no platform at all".into();
    }
    let mut shown: Vec<String> = platforms.iter().map(Platform::to_string).collect();
    shown.dedup();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Option<Platform> {
        let mut parts = text.split('/').map(str::to_owned);
        let os = parts.next().filter(|os| !os.is_empty())?;
        Some(Platform { os, architecture: parts.next().unwrap_or_default(), variant: parts.next() })
    }

    #[test]
    fn the_first_that_runs_here_is_taken() {
        for (here, offers, expected) in [
            ("linux/amd64", &["linux/arm64", "linux/amd64"][..], Some(1)),
            ("linux/amd64", &["windows/amd64", "linux/amd64/v1"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3"], None),
            ("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], Some(1)),
            ("linux/arm64", &["linux/arm64"], Some(0)),
            ("linux/arm64", &["linux/arm64/v9"], None),
            ("linux/arm64", &["linux/arm/v7", "unknown/unknown"], None),
            ("linux/amd64", &[""], Some(0)),
            ("linux/amd64", &["", ""], None),
            ("linux/amd64", &["", "linux/amd64"], Some(1)),
            ("linux/amd64", &[], None),
        ] {
            let offers: Vec<_> = offers.iter().map(|offer| platform(offer)).collect();
            let here = platform(here).expect("a platform");
            assert_eq!(choose(&offers, &here).ok(), expected, "{here}: {offers:?}");
        }
    }

    #[test]
    fn what_there_is_is_said() {
        let offers = [platform("linux/arm/v7"), platform("windows/amd64"), platform("unknown/unknown")];
        let error = choose(&offers, &platform("linux/amd64").expect("a platform")).expect_err("none");
        let words = "there is no image for linux/amd64, only for linux/arm/v7, windows/amd64";
        assert_eq!(error.to_string(), words);
    }
}
