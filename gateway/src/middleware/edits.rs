//! Changes of a head's fields: removed, then set, then added to. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_config::model;

/// Changes that are ready to be made.
#[derive(Debug)]
pub(crate) struct Edits {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

impl Edits {
    /// From what `check` has let through: names and values are such.
    pub(crate) fn new(edits: &model::Edits) -> Self {
        let pair = |(name, value): (&String, &String)| {
            Some((name.parse().ok()?, HeaderValue::try_from(value).ok()?))
        };
        Self {
            remove: edits.remove.iter().filter_map(|name| name.parse().ok()).collect(),
            set: edits.set.iter().filter_map(pair).collect(),
            add: edits.add.iter().filter_map(pair).collect(),
        }
    }

    /// Makes them.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_removed_then_set_then_added_to() {
        let pairs = |list: &[(&str, &str)]| list.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let edits = model::Edits {
            set: pairs(&[("x-env", "prod"), ("x-both", "set")]),
            add: pairs(&[("x-both", "added"), ("x-more", "2")]),
            remove: vec!["x-gone".into(), "x-env".into()],
        };
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-env", "a"), ("x-env", "b"), ("x-gone", "1"), ("x-more", "1"), ("x-kept", "1")]
        {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        Edits::new(&edits).apply(&mut headers);
        let all = |name: &str| {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",")
        };
        for (name, want) in
            [("x-env", "prod"), ("x-both", "set,added"), ("x-gone", ""), ("x-more", "1,2"), ("x-kept", "1")]
        {
            assert_eq!(all(name), want, "{name}");
        }
    }
}
