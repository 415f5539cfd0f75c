//! What is settled before a request comes to a service's gate: whether it counts, whether it may wake the service, and what
//! those get who are answered here. Called by [`handle`](super::handle) once the service is known. One that is awake costs two
//! loads here.

use std::{net::IpAddr, sync::Arc, time::Instant};

use http::{Response, request::Parts};
use tidegate_config::model;

use super::{Door, asker, body::Body, refusal::Refusal, response, waiting};
use crate::fleet::{Service, Standing};

/// What becomes of a request at the door.
pub(crate) enum Outcome {
    /// It goes on to the gate.
    Enters(Standing),
    /// It is answered here.
    Answered(Response<Body>),
}

/// Looks who comes. `client` tells from where, and is asked only where that matters.
pub(crate) fn admit(
    service: &Arc<Service>,
    settings: &model::Service,
    head: &Parts,
    client: impl FnOnce() -> IpAddr,
    arrived: Instant,
    door: &Door,
) -> Result<Outcome, Refusal> {
    // What is not started here does not sleep either.
    let awake = service.awake.is_awake() || settings.is_outside();
    // Who comes right after a caller changes nothing by being one: a busy service is spared the search.
    if awake && service.awake.had_caller_just_before(arrived) {
        return Ok(Outcome::Enters(Standing::Caller));
    }
    let client = client();
    if asker::is_onlooker(&settings.wake.ignore, head.uri.path(), &head.headers, client) {
        return match service.trouble() {
            _ if awake => Ok(Outcome::Enters(Standing::Onlooker)),
            Some(trouble) => Err(trouble),
            None => {
                service.metrics.asleep_answers.increment(1);
                Ok(Outcome::Answered(response::asleep()))
            }
        };
    }
    service.awake.caller_came(arrived);
    if awake {
        return Ok(Outcome::Enters(Standing::Caller));
    }
    let page = settings.wake.waiting_page.as_ref();
    match page.filter(|_| asker::is_visitor(&head.method, &head.headers)) {
        Some(page) => {
            service.knock(arrived, client, &settings.wake, "page")?;
            Ok(Outcome::Answered(waiting::page(service, page, door)))
        }
        None => {
            service.knock(arrived, client, &settings.wake, "call")?;
            Ok(Outcome::Enters(Standing::Caller))
        }
    }
}

/// Tells a waiting page how the start goes.
pub(crate) fn follow(
    service: Arc<Service>,
    settings: &model::Service,
    client: IpAddr,
    arrived: Instant,
    expose: bool,
) -> Result<Response<Body>, Refusal> {
    service.awake.caller_came(arrived);
    if !service.awake.is_awake() {
        service.knock(arrived, client, &settings.wake, "page")?;
    }
    Ok(waiting::follow(service, expose))
}
