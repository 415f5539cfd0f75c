//! Which replica gets a request, and which gets none for a while.

use super::{Settings, list, or_none, settings, time};
use crate::model::{Adaptive, Affinity, After, Balance, Circuit, Common, Ejection, Hedge};

pub(super) fn describe_balance(balance: &Balance) -> Settings {
    let Balance { slow_start, ejection, affinity, adaptive, circuit, hedge } = balance;
    let affinity = affinity.as_ref().map(|Affinity { by, bound }| match by {
        Common::Cookie(name) => format!("cookie {name}, at most {bound} times the average"),
        Common::Header(name) => format!("header {name}, at most {bound} times the average"),
    });
    let adaptive =
        adaptive.as_ref().map(|Adaptive { initial, min, max }| format!("{min} to {max}, first {initial}"));
    let circuit = circuit.as_ref().map(|Circuit { failures, least, window, base, longest }| {
        let (window, base, longest) = (time(*window), time(*base), time(*longest));
        format!("{failures} of {least} or more within {window}; for {base}, at most {longest}")
    });
    let hedge = hedge.as_ref().map(|Hedge { after, max }| match after {
        After::Fixed(delay) => format!("after {}, at most {max}", time(*delay)),
        After::Share(share) => format!("after p{}, at most {max}", share.whole()),
    });
    let mut all = settings([
        ("slow_start", time(*slow_start)),
        ("affinity", or_none(affinity)),
        ("adaptive", or_none(adaptive)),
        ("circuit", or_none(circuit)),
        ("hedge", or_none(hedge)),
    ]);
    let Some(Ejection { failures, statuses, base, longest, max_ejected }) = ejection else {
        all.insert("ejection".into(), "off".into());
        return all;
    };
    all.extend(settings([
        ("ejection.failures", failures.to_string()),
        ("ejection.statuses", list(statuses)),
        ("ejection.base", time(*base)),
        ("ejection.longest", time(*longest)),
        ("ejection.max_ejected", max_ejected.to_string()),
    ]));
    all
}
