//! Which images go. Pure: what there is, what is in use and the time are arguments.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use tidegate_config::spec::Digest;

use super::Prune;

/// What was used so recently is about to be used again: its replica may not have been made yet.
const FRESH: Duration = Duration::from_secs(60);

/// An image as far as keeping it is concerned.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Candidate {
    pub id: Digest,
    pub last_used: SystemTime,
    pub layers: Vec<Digest>,
}

/// The images that go, the longest unused first. `sizes` are those of the layers.
pub(super) fn choose(
    images: &[Candidate],
    sizes: &BTreeMap<Digest, u64>,
    in_use: &BTreeSet<Digest>,
    rule: Prune,
    now: SystemTime,
) -> Vec<Digest> {
    // A clock that was set back makes an image used in the future: it counts as used now.
    let unused = |image: &Candidate| now.duration_since(image.last_used).unwrap_or_default();
    let mut kept: Vec<&Candidate> = images.iter().collect();
    kept.sort_by(|a, b| (a.last_used, &a.id).cmp(&(b.last_used, &b.id)));
    let mut gone = Vec::new();
    for image in kept.clone() {
        let old = rule.older_than.is_some_and(|age| unused(image) > age);
        let large = || rule.max_size.is_some_and(|max| total(&kept, sizes) > max.0) && unused(image) > FRESH;
        if !in_use.contains(&image.id) && (rule.all || old || large()) {
            gone.push(image.id.clone());
            kept.retain(|other| other.id != image.id);
        }
    }
    gone
}

/// What images take together: layers that they share count once.
fn total(images: &[&Candidate], sizes: &BTreeMap<Digest, u64>) -> u64 {
    let layers: BTreeSet<&Digest> = images.iter().flat_map(|image| &image.layers).collect();
    layers.into_iter().filter_map(|layer| sizes.get(layer)).sum()
}

#[cfg(test)]
mod tests {
    use tidegate_config::units::Bytes;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn digest(name: &str) -> Digest {
        Digest(name.into())
    }

    /// Images of which each is named, was last used so many hours ago, and has layers of 10 bytes each.
    fn check(images: &[(&str, u32, &str)], in_use: &str, rule: Prune, expected: &str) {
        let now = SystemTime::UNIX_EPOCH + HOUR * 1000;
        let letters = |text: &str| text.chars().map(|c| digest(&c.to_string())).collect::<Vec<_>>();
        let candidates: Vec<_> = images
            .iter()
            .map(|(id, hours, layers)| Candidate {
                id: digest(id),
                last_used: now - HOUR * *hours,
                layers: letters(layers),
            })
            .collect();
        let sizes = candidates.iter().flat_map(|c| c.layers.clone()).map(|layer| (layer, 10)).collect();
        let in_use = letters(in_use).into_iter().collect();
        let gone = choose(&candidates, &sizes, &in_use, rule, now);
        assert_eq!(gone, letters(expected), "{images:?} {in_use:?} {rule:?}");
    }

    #[test]
    fn images_go_by_age_and_size() {
        let age = |hours| Prune { older_than: Some(HOUR * hours), ..Prune::default() };
        let size = |bytes| Prune { max_size: Some(Bytes(bytes)), ..Prune::default() };
        let all = Prune { all: true, ..Prune::default() };
        let both = Prune { max_size: Some(Bytes(10)), ..age(5) };
        let three = [("a", 1, "x"), ("b", 9, "y"), ("c", 4, "z")];
        let shared = [("a", 1, "xy"), ("b", 9, "x"), ("c", 4, "xz")];
        let fresh = [("a", 0, "x"), ("b", 0, "y")];
        for (images, in_use, rule, expected) in [
            (&three[..], "", Prune::default(), ""),
            (&three, "", age(10), ""),
            (&three, "", age(9), ""),
            (&three, "", age(3), "bc"),
            (&three, "b", age(3), "c"),
            (&three, "", all, "bca"),
            (&three, "abc", all, ""),
            (&three, "", size(30), ""),
            (&three, "", size(29), "b"),
            (&three, "", size(10), "bc"),
            (&three, "b", size(20), "c"),
            // What is in use may be too much for the bound: the rest goes, and that is all.
            (&three, "bc", size(5), "a"),
            // Removing b frees nothing, so that c has to go, too.
            (&shared, "", size(20), "bc"),
            (&three, "", both, "bc"),
            // The size cannot take what was used a moment ago; a person who says `all` can.
            (&fresh, "", size(5), ""),
            (&fresh, "", all, "ab"),
            (&[], "", all, ""),
        ] {
            check(images, in_use, rule, expected);
        }
    }

    #[test]
    fn a_clock_that_went_back_makes_nothing_old() {
        let now = SystemTime::UNIX_EPOCH + HOUR;
        let future = Candidate { id: digest("a"), last_used: now + HOUR, layers: Vec::new() };
        let rule = Prune { older_than: Some(Duration::ZERO), ..Prune::default() };
        assert_eq!(choose(&[future], &BTreeMap::new(), &BTreeSet::new(), rule, now), []);
    }
}
