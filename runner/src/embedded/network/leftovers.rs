//! What instances have left on this machine, found by its name, and how it is removed. Called by `tidegate doctor`, which
//! knows which instances are alive, and when an instance is removed for good.

use std::{collections::HashMap, fs, io, path::Path};

use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};

use super::{
    bridge::is_bridge,
    messages, names, nat,
    netlink::{self, Netlink, explain},
    pins,
    places::list,
    wiring::{is_pin, remove_cards, unpin},
};
use crate::Result;

/// How often, and in what distance, what cannot be removed is tried again.
const PURGE_TRIES: u32 = 20;
const PURGE_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// What kind of thing was left over, in the order in which they are best removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeftoverKind {
    /// Rules of the packet filter.
    Rules,
    /// A pair of virtual network cards, by its end on this machine.
    Veth,
    /// A pinned network namespace.
    Pin,
    /// A bridge.
    Bridge,
    /// The instance's folder below `/run/tidegate`.
    Folder,
}

/// Something on this machine whose name says that an instance of Tidegate made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leftover {
    /// The first 8 digits of the instance's id; the first 6 where no more is known.
    pub instance: String,
    /// What it is, for people.
    pub what: String,
    /// Its kind.
    pub kind: LeftoverKind,
    name: String,
}

impl Leftover {
    fn new(instance: impl Into<String>, kind: LeftoverKind, name: impl Into<String>) -> Self {
        let name = name.into();
        let what = match kind {
            LeftoverKind::Rules => format!("packet filter rules {name}"),
            LeftoverKind::Veth => format!("network card {name}"),
            LeftoverKind::Pin => format!("network namespace {name}"),
            LeftoverKind::Bridge => format!("network bridge {name}"),
            LeftoverKind::Folder => format!("folder {name}"),
        };
        Self { instance: instance.into(), what, kind, name }
    }

    /// Removes it; fine if it is gone.
    pub(crate) async fn remove(&self) -> Result<()> {
        let this = self.clone();
        match self.kind {
            LeftoverKind::Rules => nat::close(&self.instance).await.map_err(|e| self.explain(e)),
            LeftoverKind::Veth | LeftoverKind::Bridge => {
                super::blocking(move || remove_link(&this.name)).await
            }
            LeftoverKind::Pin => {
                super::blocking(move || unpin(Path::new(&this.name)).map_err(|e| this.explain(e))).await
            }
            LeftoverKind::Folder => super::blocking(move || this.remove_folder()).await,
        }
    }

    fn remove_folder(&self) -> Result<()> {
        match fs::remove_dir_all(&self.name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.explain(error)),
            _ => Ok(()),
        }
    }

    fn explain(&self, error: io::Error) -> crate::Error {
        explain(&format!("remove {}", self.what), error)
    }
}

/// Everything on this machine that is named as ours, of whatever instance.
pub(crate) async fn leftovers(run: &Path) -> Result<Vec<Leftover>> {
    let rules = nat::found().await.map_err(|e| explain("list the packet filter's rules", e))?;
    let mut found: Vec<_> =
        rules.into_iter().map(|short| Leftover::new(short.as_str(), LeftoverKind::Rules, &short)).collect();
    let run = run.to_owned();
    let rest = move || {
        let mut rest = links().map_err(|e| explain("list network cards", e))?;
        rest.extend(folders(&run).map_err(|e| explain(&format!("read {}", run.display()), e))?);
        Ok(rest)
    };
    found.extend(super::blocking(rest).await?);
    Ok(found)
}

/// Removes everything of the instance whose id begins with these 8 digits: rules, cards, namespaces, bridge, folder.
pub(crate) async fn purge(run: &Path, short: &str) -> Result<()> {
    let mut tries = 0..PURGE_TRIES;
    loop {
        match purge_once(run, short).await {
            // A gateway that is just ending may have finished a place meanwhile: the next look finds it.
            Err(error) if error.kind.may_pass() && tries.next().is_some() => {
                tokio::time::sleep(PURGE_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

async fn purge_once(run: &Path, short: &str) -> Result<()> {
    let mut found = leftovers(run).await?;
    found.retain(|thing| thing.instance == short || short.get(..6) == Some(&thing.instance));
    found.sort_by_key(|thing| thing.kind);
    let cards = found.iter().filter(|thing| thing.kind == LeftoverKind::Veth);
    let cards: Vec<_> = cards.map(|thing| thing.name.clone()).collect();
    let group = names::group(short);
    super::blocking(move || remove_cards(&cards, group)).await?;
    for thing in found.iter().filter(|thing| thing.kind != LeftoverKind::Veth) {
        thing.remove().await?;
    }
    Ok(())
}

fn links() -> io::Result<Vec<Leftover>> {
    let links = Netlink::open()?.links()?;
    let by_index: HashMap<u32, &str> =
        links.iter().filter_map(|link| Some((link.header.index, netlink::name(link)?))).collect();
    Ok(links.iter().filter_map(|link| named(link, &by_index)).collect())
}

fn named(link: &LinkMessage, by_index: &HashMap<u32, &str>) -> Option<Leftover> {
    let name = netlink::name(link)?;
    if let Some(short) = names::bridge_owner(name).filter(|_| is_bridge(link)) {
        return Some(Leftover::new(short, LeftoverKind::Bridge, name));
    }
    let (mut alias, mut bridge) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfAlias(text) => alias = Some(text.as_str()),
            LinkAttribute::Controller(index) => bridge = by_index.get(index).copied(),
            _ => {}
        }
    }
    let owner = names::veth_owner(name, alias, bridge)?;
    Some(Leftover::new(owner, LeftoverKind::Veth, name))
}

fn folders(run: &Path) -> io::Result<Vec<Leftover>> {
    let mut found = Vec::new();
    for short in list(run)?.into_iter().filter(|name| names::is_hex(name, 8)) {
        let folder = run.join(&short);
        let pins = pins(&folder);
        for pin in list(&pins)?.iter().map(|k| pins.join(k)).filter(|pin| is_pin(pin)) {
            found.push(Leftover::new(short.as_str(), LeftoverKind::Pin, pin.display().to_string()));
        }
        found.push(Leftover::new(short.as_str(), LeftoverKind::Folder, folder.display().to_string()));
    }
    Ok(found)
}

fn remove_link(name: &str) -> Result<()> {
    let mut outside = Netlink::open().map_err(|e| explain("open a netlink socket", e))?;
    let removed = outside.each(vec![messages::remove(name)]);
    let failed =
        removed.map_err(|e| explain(&format!("remove {name}"), e))?.into_iter().find_map(io::Result::err);
    match failed.filter(|e| e.raw_os_error() != Some(libc::ENODEV)) {
        Some(error) => Err(explain(&format!("remove {name}"), error)),
        None => Ok(()),
    }
}
