//! What can be asked, and who may: the one table of the admin API. An endpoint without a role does not compile; the
//! [Unix socket](super::socket) serves them all to whoever may open it, [TCP](super::remote) to those whose token has the role.

use axum::{Router, handler::Handler, http::Method, routing};
use tidegate_config::model::Role;

use super::{Admin, hosts, logs, requests, socket, tcp};

/// A question, and who may ask it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `GET` sees, `POST` changes.
    pub method: Method,
    /// With parameters in braces.
    pub path: &'static str,
    /// The least role that may.
    pub role: Role,
    route: routing::MethodRouter<Admin>,
}

/// Every endpoint.
#[must_use]
pub fn all() -> Vec<Endpoint> {
    use Role::{Operate, Read};
    vec![
        see("/v1/configuration", Read, socket::configuration),
        see("/v1/services", Read, socket::services),
        see("/v1/services/{name}", Read, socket::explain),
        see("/v1/services/{name}/logs", Operate, logs::stream),
        see("/v1/services/{name}/requests", Read, requests::stream),
        change("/v1/services/{name}/wake", Operate, socket::wake),
        change("/v1/services/{name}/sleep", Operate, socket::sleep),
        change("/v1/services/{name}/restart", Operate, socket::restart),
        change("/v1/services/{name}/rollback", Role::Admin, socket::roll_back),
        see("/v1/hosts", Read, hosts::list),
        change("/v1/hosts/{name}/{order}", Role::Admin, hosts::order),
        see("/metrics", Read, tcp::metrics),
        see("/livez", Read, tcp::live),
        see("/readyz", Read, tcp::ready),
    ]
}

/// All of them as routes, each through `guard`.
pub(super) fn routes(
    guard: impl Fn(Role, routing::MethodRouter<Admin>) -> routing::MethodRouter<Admin>,
) -> Router<Admin> {
    all().into_iter().fold(Router::new(), |router, endpoint| {
        router.route(endpoint.path, guard(endpoint.role, endpoint.route))
    })
}

fn see<H: Handler<T, Admin>, T: 'static>(path: &'static str, role: Role, handler: H) -> Endpoint {
    Endpoint { method: Method::GET, path, role, route: routing::get(handler) }
}

fn change<H: Handler<T, Admin>, T: 'static>(path: &'static str, role: Role, handler: H) -> Endpoint {
    Endpoint { method: Method::POST, path, role, route: routing::post(handler) }
}
