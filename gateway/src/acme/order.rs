//! One certificate from an authority: an order, the proof that the name is ours, the certificate.

use std::sync::Arc;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use tidegate_config::model::Challenge;

use super::Error;
use crate::tls::Challenges;

/// The certificate with those that lead to the authority, and its key, in PEM.
pub(super) struct Issued {
    pub(super) chain: String,
    pub(super) key: String,
}

/// Orders a certificate for one name.
pub(super) async fn order(
    account: &Account,
    domain: &str,
    challenge: Challenge,
    challenges: &Arc<Challenges>,
) -> Result<Issued, Error> {
    let names = [Identifier::Dns(domain.to_owned())];
    let mut order = account.new_order(&NewOrder::new(&names)).await?;
    let kind = match challenge {
        Challenge::Http01 => ChallengeType::Http01,
        Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    // Shown until the authority has made up its mind.
    let mut shown = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut proof = authorization.challenge(kind.clone()).ok_or(Error::NotOffered)?;
        let answer = proof.key_authorization();
        shown.push(match challenge {
            Challenge::Http01 => challenges.show_text(&proof.token, answer.as_str()),
            Challenge::TlsAlpn01 => challenges.show_certificate(domain, answer.digest().as_ref())?,
        });
        proof.set_ready().await?;
    }
    if order.poll_ready(&RetryPolicy::default()).await? != OrderStatus::Ready {
        return Err(Error::Refused(why(&mut order).await));
    }
    drop(shown);
    let key = order.finalize().await?;
    let chain = order.poll_certificate(&RetryPolicy::default()).await?;
    Ok(Issued { chain, key })
}

/// What the authority has against it.
async fn why(order: &mut Order) -> String {
    let mut said = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        if let Ok(state) = authorization.refresh().await {
            let errors = state.challenges.iter().filter_map(|challenge| challenge.error.as_ref());
            said.extend(errors.map(ToString::to_string));
        }
    }
    if said.is_empty() { "it does not say why".to_owned() } else { said.join("; ") }
}
