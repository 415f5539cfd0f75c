//! Compares what a case says with what was seen. Pure.

use std::fmt::Write;

use super::{Act, Case, End, Message, Trait, play::Seen};

/// What differs, in words; nothing if the case holds.
#[must_use]
pub fn differences(case: &Case, seen: &Seen) -> Vec<String> {
    let mut found = Vec::new();
    if seen.stalled {
        found.push("it did not come to its end".into());
    }
    let codes = |answers: &[Message]| answers.iter().map(|answer| answer.line.clone()).collect::<Vec<_>>();
    let wanted: Vec<String> = case.answers.iter().map(|answer| answer.status.to_string()).collect();
    if codes(&seen.answers) != wanted {
        found.push(format!("answers: expected {wanted:?}, seen {:?}", codes(&seen.answers)));
    }
    for (wanted, got) in case.answers.iter().zip(&seen.answers) {
        let what = format!("answer {}", wanted.status);
        if wanted.interim != got.interim {
            found.push(format!("{what}: expected after {:?}, seen after {:?}", wanted.interim, got.interim));
        }
        if let Some(reason) = &wanted.reason {
            let body = String::from_utf8_lossy(&got.body);
            if !body.contains(&format!("\"reason\":\"{reason}\"")) {
                found.push(format!("{what}: expected the reason {reason}, seen {body:?}"));
            }
        }
        found.extend(traits(&wanted.has, got).map(|difference| format!("{what}: {difference}")));
    }
    let ends = seen.end == case.end || (case.end == Some(End::Either) && seen.end.is_some());
    if !case.client.contains(&Act::Reset) && !ends {
        found.push(format!("connection: expected {:?}, seen {:?}", case.end, seen.end));
    }
    if !seen.rest.is_empty() {
        found.push(format!("behind the answers: {:?}", short(&seen.rest)));
    }
    views(case, seen, &mut found);
    found
}

fn views(case: &Case, seen: &Seen, found: &mut Vec<String>) {
    for got in &seen.views {
        if let Some(fault) = &got.fault {
            found.push(format!("the origin was sent what no gateway may send: {fault}"));
        }
    }
    // What breaks off may have broken off before anything of it was passed on.
    let mut left = case.views.iter();
    let pairs: Option<Vec<_>> = seen
        .views
        .iter()
        .map(|got| {
            let next = left.find(|wanted| wanted.line == got.line || !wanted.has.contains(&Trait::Cut))?;
            (next.line == got.line).then_some((next, got))
        })
        .collect();
    match pairs.filter(|_| left.all(|wanted| wanted.has.contains(&Trait::Cut))) {
        Some(pairs) => {
            for (wanted, got) in pairs {
                found.extend(traits(&wanted.has, got).map(|difference| format!("the origin: {difference}")));
            }
        }
        None => {
            let wanted: Vec<&str> = case.views.iter().map(|view| &*view.line).collect();
            let got: Vec<&str> = seen.views.iter().map(|view| &*view.line).collect();
            found.push(format!("the origin: expected {wanted:?}, seen {got:?}"));
        }
    }
}

fn traits<'m>(wanted: &'m [Trait], got: &'m Message) -> impl Iterator<Item = String> + 'm {
    let cut = wanted.contains(&Trait::Cut);
    let tells = got.whole == cut && !wanted.contains(&Trait::CutOrNot);
    let whole = tells.then(|| match cut {
        true => "expected to break off, came to its end".to_owned(),
        false => "broke off before its end".to_owned(),
    });
    let fault = got.fault.as_ref().map(|fault| format!("what no gateway may send: {fault}"));
    wanted.iter().filter_map(|wanted| lacks(wanted, got)).chain(whole).chain(fault)
}

fn lacks(wanted: &Trait, got: &Message) -> Option<String> {
    let said = |what: String, seen: &dyn std::fmt::Debug| Some(format!("expected {what}, seen {seen:?}"));
    match wanted {
        Trait::Field(name, value) if got.all(name) != [value] => {
            said(format!("{name}: {value}"), &got.all(name))
        }
        Trait::NoField(name) if !got.all(name).is_empty() => said(format!("no {name}"), &got.all(name)),
        Trait::Body(body) if *body != got.body => {
            said(format!("the body {:?}", short(body)), &short(&got.body))
        }
        Trait::Length(length) if *length != got.body.len() => {
            said(format!("a body of {length}"), &got.body.len())
        }
        Trait::Trailer(name, value) if !got.trailers.iter().any(|(key, is)| (key, is) == (name, value)) => {
            said(format!("the trailer {name}: {value}"), &got.trailers)
        }
        Trait::Field(..)
        | Trait::NoField(_)
        | Trait::Body(_)
        | Trait::Length(_)
        | Trait::Trailer(..)
        | Trait::Cut
        | Trait::CutOrNot => None,
    }
}

/// A failed case for whoever reads: its place, what was sent, and what differs.
#[must_use]
pub fn report(case: &Case, differences: &[String]) -> String {
    let mut text = format!("FAILED {}: {}", case.at, case.name);
    for act in &case.client {
        // Writing to a string cannot fail.
        let _ = match act {
            Act::Send(bytes) => write!(text, "\n    sent {:?}", short(bytes)),
            other => write!(text, "\n    then {other:?}"),
        };
    }
    for difference in differences {
        let _ = write!(text, "\n  {difference}");
    }
    text
}

/// As text, without the middle of what is long.
fn short(bytes: &[u8]) -> String {
    const ENDS: usize = 300;
    if bytes.len() <= 2 * ENDS {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let text = String::from_utf8_lossy;
    let (first, last) = (&bytes[..ENDS], &bytes[bytes.len() - ENDS..]);
    format!("{} ({} bytes in all) {}", text(first), bytes.len(), text(last))
}
