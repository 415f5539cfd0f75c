//! Certificates from an authority that speaks ACME (RFC 8555): asked for when a name has none, renewed in time, kept in the
//! state directory. One order at a time; nothing waits for it, and what is served is served on until there is better.
//! Started by [`app`](crate::app). Absent: when to ask, which is [`schedule`]'s.

mod order;
mod schedule;
mod store;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use instant_acme::{Account, NewAccount};
use metrics::counter;
use tidegate_config::model;
use tokio_util::sync::CancellationToken;

use self::{schedule::Tries, store::Store};
use crate::{
    clock, telemetry,
    tls::{Certificate, Flaw, Tls, Unprovable, Wanted},
};

/// The longest sleep: the clock on the wall may jump meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// How long an order may take in all.
const ORDER_WITHIN: Duration = Duration::from_secs(180);

/// A certificate that was not issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The authority does not answer, or not as it should.
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    /// It wants another proof.
    #[error("the authority does not offer the challenge that gateway.tls.acme.challenge names")]
    NotOffered,
    /// It does not believe the proof.
    #[error("the authority does not believe that this name is ours: {0}")]
    Refused(String),
    /// We cannot make the proof.
    #[error("cannot make the proof: {0}")]
    Proof(#[from] Unprovable),
    /// What it issued is of no use.
    #[error("what was issued {0}")]
    Useless(#[from] Flaw),
    /// It cannot be kept.
    #[error("cannot keep it in the state directory: {0}")]
    Kept(#[from] io::Error),
    /// It took too long.
    #[error("no certificate within {ORDER_WITHIN:?}")]
    Late,
}

/// Serves the certificates that an earlier run was issued.
pub(crate) fn restore(tls: &Tls, state: &Path) {
    restore_wanted(tls, state, &tls.wanted().borrow());
}

fn restore_wanted(tls: &Tls, state: &Path, wanted: &Wanted) {
    let Some(acme) = &wanted.acme else { return };
    let store = Store::new(state, &acme.directory);
    for domain in wanted.domains.iter().filter(|domain| tls.issued(domain).is_none()) {
        if let Some(certificate) = store.certificate(domain) {
            tls.issue(domain, certificate);
        }
    }
}

/// Sees to it that every wanted name has a certificate, until `stop`.
pub(crate) async fn run(tls: Arc<Tls>, state: PathBuf, stop: CancellationToken) {
    let (mut changes, mut tries) = (tls.wanted(), BTreeMap::<String, Tries>::new());
    loop {
        let wanted = changes.borrow_and_update().clone();
        restore_wanted(&tls, &state, &wanted);
        let pause = match next(&tls, &wanted, &tries) {
            Some((domain, due)) if due <= clock::wall() => {
                let Some(acme) = &wanted.acme else { continue };
                let issued = tokio::select! {
                    issued = obtain(&tls, &state, acme, &domain) => issued,
                    () = stop.cancelled() => return,
                };
                record(&domain, issued, &mut tries);
                continue;
            }
            Some((_, due)) => due.duration_since(clock::wall()).unwrap_or_default().min(LOOK_AGAIN),
            None => LOOK_AGAIN,
        };
        // Cancel-safe: a change that is not seen here is seen at the top.
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Whoever changed something, or asked for a reload, wants it tried again.
            changed = changes.changed() => match changed {
                Ok(()) => tries.clear(),
                Err(_) => return,
            },
            () = stop.cancelled() => return,
        }
    }
}

/// The name whose turn is next, and when.
fn next(tls: &Tls, wanted: &Wanted, tries: &BTreeMap<String, Tries>) -> Option<(String, SystemTime)> {
    let due = |domain: &String| {
        let good = tls.issued(domain).map(|certificate| (certificate.not_before, certificate.not_after));
        schedule::due(good, tries.get(domain).copied().unwrap_or_default())
    };
    wanted.domains.iter().map(|domain| (domain.clone(), due(domain))).min_by_key(|(_, due)| *due)
}

fn record(domain: &str, issued: Result<(), Error>, tries: &mut BTreeMap<String, Tries>) {
    let outcome = match issued {
        Ok(()) => {
            tries.remove(domain);
            tracing::info!(%domain, "certificate issued");
            "ok"
        }
        Err(error) => {
            let failed = tries.get(domain).copied().unwrap_or_default().failed(clock::wall());
            tracing::error!(%domain, %error, "no certificate was issued; asked for again later, or at SIGHUP");
            tries.insert(domain.to_owned(), failed);
            "failed"
        }
    };
    counter!(telemetry::ACME_ORDERS, "outcome" => outcome).increment(1);
}

async fn obtain(tls: &Tls, state: &Path, acme: &model::Acme, domain: &str) -> Result<(), Error> {
    let store = Store::new(state, &acme.directory);
    let ordered = async {
        let account = account(acme, &store).await?;
        order::order(&account, domain, acme.challenge, tls.challenges()).await
    };
    let issued = tokio::time::timeout(ORDER_WITHIN, ordered).await.map_err(|_| Error::Late)??;
    let certificate = Certificate::of(issued.chain.as_bytes(), issued.key.as_bytes(), domain.to_owned())?;
    store.keep_certificate(domain, &issued.chain, &issued.key)?;
    tls.issue(domain, certificate);
    Ok(())
}

/// Our account with the authority, made at the first order.
async fn account(acme: &model::Acme, store: &Store) -> Result<Account, Error> {
    // The client library asks for the process's one; that it is there already is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = match &acme.ca {
        Some(file) => Account::builder_with_root(file)?,
        None => Account::builder()?,
    };
    if let Some(known) = store.account()? {
        return Ok(builder.from_credentials(known).await?);
    }
    let contact: Vec<String> = acme.email.iter().map(|email| format!("mailto:{email}")).collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let (account, credentials) = builder.create(&new, acme.directory.clone(), None).await?;
    store.keep_account(&credentials)?;
    Ok(account)
}
