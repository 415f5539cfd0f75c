//! Brings what is there and what is written down together again, after a crash at any point. Blocking.
//! Holds: what a replica holds stays if it can be saved; what someone works on is left to them.

use std::{collections::BTreeMap, collections::BTreeSet, io};

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use super::{
    names::veth_prefix,
    netlink::{self, Netlink, explain},
    places::{Claim, Places, list},
    wiring::Wiring,
};
use crate::Result;

/// Places that are removed at a time: each takes a file descriptor meanwhile.
const AT_ONCE: usize = 256;

/// Finds places that are half made and has them removed; mends those of replicas. Returns those that someone works on.
pub(super) fn repair(wiring: &Wiring, places: &Places) -> Result<Vec<u32>> {
    let suspects = suspects(wiring, places).map_err(|e| explain("look for places that are half made", e))?;
    treat_all(wiring, places, suspects)
}

/// Treats these, and returns those that someone works on.
pub(super) fn treat_all(wiring: &Wiring, places: &Places, suspects: Vec<u32>) -> Result<Vec<u32>> {
    let mut busy = Vec::new();
    for k in suspects {
        match places.seize(k).map_err(|e| explain("lock a place", e))? {
            Some(claim) => treat(wiring, places, &claim)?,
            None => busy.push(k),
        }
    }
    Ok(busy)
}

/// Places that are neither whole and somebody's nor gone already.
fn suspects(wiring: &Wiring, places: &Places) -> io::Result<Vec<u32>> {
    places.sweep()?;
    places.withdraw_others()?;
    let cards = cards(wiring)?;
    let pins: BTreeSet<u32> = list(&wiring.pins)?.iter().filter_map(|name| name.parse().ok()).collect();
    let mut all = places.claimed()?;
    all.extend(cards.keys().chain(&pins).filter(|k| wiring.names.places().contains(k)));
    // In this order: what is ready may be taken at any moment, and what is used given back.
    let mut settled = places.ready()?;
    settled.extend(places.used()?);
    settled.retain(|k| cards.get(k) == Some(&true) && wiring.is_pinned(*k));
    settled.extend(places.gone()?.into_iter().map(|(_, k)| k));
    Ok(all.difference(&settled).copied().collect())
}

/// What is to be done about one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// Nothing: it is whole, or being removed already.
    Leave,
    /// Connect it again, for the replica that holds it.
    Mend,
    /// Take it from the replica that holds it: nothing of it is left.
    Abandon,
    /// Take it out of the pool.
    Withdraw,
    /// Remove it: it is nobody's.
    Condemn,
}

/// Decides anew, now that the place is locked: since the first look it may have been finished, taken or given back.
pub(super) fn treat(wiring: &Wiring, places: &Places, claim: &Claim) -> Result<()> {
    let (k, address) = (claim.k, wiring.names.address(claim.k));
    let remedy = remedy(wiring, places, k).map_err(|e| explain("look at a place again", e))?;
    if remedy != Remedy::Leave {
        tracing::info!(%address, ?remedy, "a place in the network was half made");
    }
    let outcome = match remedy {
        Remedy::Leave => Ok(()),
        Remedy::Mend => {
            // The replica runs, though nobody reaches it: its probes say the rest.
            wiring.mend(k).unwrap_or_else(|error| tracing::warn!(%address, %error, "cannot mend a place"));
            Ok(())
        }
        Remedy::Abandon => places.abandon(k),
        Remedy::Withdraw => places.withdraw(k),
        Remedy::Condemn => places.condemn(claim),
    };
    outcome.map_err(|e| explain("give up a place", e))
}

fn remedy(wiring: &Wiring, places: &Places, k: u32) -> io::Result<Remedy> {
    // In this order: what is ready may be taken, and what is used given back, at any moment.
    let (ready, used) = (places.ready()?.contains(&k), places.used()?.contains(&k));
    let gone = places.gone()?.iter().any(|(_, gone)| *gone == k);
    let card = Netlink::open()?.link(&wiring.names.veth(k))?;
    let (connected, pinned) = (card.is_some_and(|card| is_home(&card, wiring)), wiring.is_pinned(k));
    Ok(match (used, ready, gone) {
        (_, _, true) => Remedy::Leave,
        (true, ..) | (_, true, _) if pinned && connected => Remedy::Leave,
        (true, ..) if pinned => Remedy::Mend,
        (true, ..) => Remedy::Abandon,
        (false, true, _) => Remedy::Withdraw,
        (false, false, _) => Remedy::Condemn,
    })
}

/// The cards of this instance by place; whether each is on the bridge.
fn cards(wiring: &Wiring) -> io::Result<BTreeMap<u32, bool>> {
    let prefix = veth_prefix(&wiring.names.short);
    let links = Netlink::open()?.links()?;
    let place =
        |link: &LinkMessage| u32::from_str_radix(netlink::name(link)?.strip_prefix(&prefix)?, 16).ok();
    Ok(links.iter().filter_map(|link| Some((place(link)?, is_home(link, wiring)))).collect())
}

fn is_home(card: &LinkMessage, wiring: &Wiring) -> bool {
    card.attributes.contains(&LinkAttribute::Controller(wiring.bridge))
}

/// Removes places that are gone for those who held them. True if someone else is busy with some of them.
pub(super) fn reap(wiring: &Wiring, places: &Places) -> Result<bool> {
    let gone = places.gone().map_err(|e| explain("read which places are gone", e))?;
    let mut busy = false;
    for batch in gone.chunks(AT_ONCE) {
        let mut claims = Vec::with_capacity(batch.len());
        for (name, k) in batch {
            match places.seize(*k).map_err(|e| explain("lock a place", e))? {
                None => busy = true,
                Some(claim) if places.is_gone(name) => claims.push((claim, name)),
                // Someone else was faster: what can be there now is only what was found missing.
                Some(claim) if claim.fresh => {
                    places.forget(claim, None).map_err(|e| explain("forget a place", e))?;
                }
                Some(_) => {}
            }
        }
        let numbers: Vec<_> = claims.iter().map(|(claim, _)| claim.k).collect();
        wiring.unmake(&numbers)?;
        for (claim, name) in claims {
            places.forget(claim, Some(name)).map_err(|e| explain("forget a place", e))?;
        }
    }
    Ok(busy)
}
