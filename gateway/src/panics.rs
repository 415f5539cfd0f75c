//! A layer that makes a panic cost the one request that met it. tower-http's does the same, but boxes every body for it.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::{CatchUnwind, FutureExt};
use http::Response;

use crate::request::{self, Refusal, body::Body};

/// Answers for an inner service that panics.
#[derive(Debug, Clone)]
pub(crate) struct CatchPanic<S>(S);

impl<S> CatchPanic<S> {
    pub(crate) fn new(inner: S) -> Self {
        Self(inner)
    }

    pub(crate) fn inner(&self) -> &S {
        &self.0
    }
}

impl<S, R> tower::Service<R> for CatchPanic<S>
where
    S: tower::Service<R, Response = Response<Body>, Error = Infallible>,
    S::Future: Unpin,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        // What a request shares with others is behind locks that survive a panic, and guards give the rest back.
        Answer(AssertUnwindSafe(self.0.call(request)).catch_unwind())
    }
}

/// The inner service's answer, or ours in its place.
pub(crate) struct Answer<F>(CatchUnwind<AssertUnwindSafe<F>>);

impl<F> Future for Answer<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Unpin,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(cx)).unwrap_or_else(|_| {
            tracing::error!("a request met a panic; see the message above");
            Ok(request::refuse(&Refusal::Internal, None, false, request::Form::Document))
        }))
    }
}

#[cfg(test)]
mod tests {
    use tower::{Service, service_fn};

    use super::*;

    #[test]
    fn a_panic_becomes_an_answer() {
        let inner = service_fn(|()| Box::pin(async { panic!("of the test's own") }));
        let answer = CatchPanic::new(inner).call(()).now_or_never().expect("nothing to wait for");
        let Ok(answer) = answer;
        assert_eq!(answer.status(), 500);
    }
}
