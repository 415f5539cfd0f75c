//! Which nodes a pod may run on: a label is a node's, spelled as Kubernetes spells it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};
use tidegate_config::{constraint::Constraint, spec::Target};

/// Labels that have to be one thing.
pub(super) fn selector(target: &Target) -> Option<BTreeMap<String, String>> {
    let one = |(key, wanted): (&String, &Constraint)| match wanted {
        Constraint::AnyOf(values) => match &values[..] {
            [value] => Some((key.clone(), value.clone())),
            _ => None,
        },
        Constraint::NoneOf(_) => None,
    };
    let labels: BTreeMap<_, _> = target.constraints().filter_map(one).collect();
    (!labels.is_empty()).then_some(labels)
}

/// All others.
pub(super) fn affinity(target: &Target) -> Option<Affinity> {
    let other = |(key, wanted): (&String, &Constraint)| {
        let (operator, values) = match wanted {
            Constraint::AnyOf(values) if values.len() == 1 => return None,
            Constraint::AnyOf(values) => ("In", values),
            Constraint::NoneOf(values) => ("NotIn", values),
        };
        let (operator, values) = (operator.to_owned(), Some(values.clone()));
        Some(NodeSelectorRequirement { key: key.clone(), operator, values })
    };
    let asked: Vec<_> = target.constraints().filter_map(other).collect();
    let term = |asked| NodeSelectorTerm { match_expressions: Some(asked), match_fields: None };
    let needed = |asked| NodeSelector { node_selector_terms: vec![term(asked)] };
    (!asked.is_empty()).then(|| Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(needed(asked)),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(constraints: &[(&str, &[&str])]) -> Target {
        let one = |(key, values): &(&str, &[&str])| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            ((*key).to_owned(), Constraint::of(values).expect("not mixed"))
        };
        let host = "k".parse().expect("valid");
        Target::EngineChooses { host, constraints: constraints.iter().map(one).collect() }
    }

    #[test]
    fn one_value_is_a_selector_and_all_else_is_affinity() {
        let asked = target(&[("disk", &["ssd"]), ("rack", &["!9"]), ("zone", &["a", "b"])]);
        assert_eq!(selector(&asked), Some([("disk".to_owned(), "ssd".to_owned())].into()));
        let affinity = affinity(&asked).and_then(|affinity| affinity.node_affinity).expect("there is one");
        let needed = affinity.required_during_scheduling_ignored_during_execution.expect("needed");
        let [term] = &needed.node_selector_terms[..] else { panic!("terms are alternatives: {needed:?}") };
        let words = term.match_expressions.iter().flatten().map(|one| {
            format!(
                "{} {} {}",
                one.key,
                one.operator,
                one.values.iter().flatten().cloned().collect::<Vec<_>>().join(",")
            )
        });
        assert_eq!(words.collect::<Vec<_>>(), ["rack NotIn 9", "zone In a,b"]);
    }

    #[test]
    fn nothing_is_asked_for_by_who_asks_for_nothing() {
        for target in [target(&[]), Target::Host("k".parse().expect("valid"))] {
            assert_eq!((selector(&target), affinity(&target)), (None, None));
        }
        assert_eq!(affinity(&target(&[("disk", &["ssd"])])), None);
    }
}
