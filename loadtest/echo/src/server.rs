//! Listens, serves connections, and ends gracefully: on `SIGTERM` no connection is accepted, running requests finish,
//! upgraded connections are closed.

use std::{io, net::Ipv4Addr, net::Ipv6Addr, pin::pin, sync::Arc, time::Duration};

use hyper::{rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{routes::App, settings::Settings};

/// Owns every task, so that the end of the process waits for them.
#[derive(Clone)]
pub(crate) struct Tasks(TaskTracker);

impl<F: Future + Send + 'static> Executor<F> for Tasks
where
    F::Output: Send,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// Serves until a signal asks to end.
pub(crate) async fn run(settings: Settings) -> io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let ignore_term = settings.ignore_term;
    let mut stop = pin!(async {
        if ignore_term {
            std::future::pending::<()>().await;
        }
        tokio::select! { _ = term.recv() => (), _ = int.recv() => () }
    });
    if !settings.start_delay.is_zero() {
        tokio::select! {
            () = tokio::time::sleep(settings.start_delay) => (),
            () = &mut stop => return Ok(()),
        }
    }
    let (listener, idle_close) = (listen(settings.port).await?, settings.idle_close);
    let tasks = Tasks(TaskTracker::new());
    let ending = CancellationToken::new();
    let app = Arc::new(App::new(settings, tasks.clone(), ending.clone()));
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => tasks.execute(serve(stream, idle_close, Arc::clone(&app), tasks.clone(), ending.clone())),
                // Out of file descriptors: give connections time to end instead of spinning.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            () = &mut stop => break,
        }
    }
    drop(listener);
    ending.cancel();
    tasks.0.close();
    tasks.0.wait().await;
    Ok(())
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        // No IPv6 in this network namespace.
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

async fn serve(
    stream: TcpStream,
    idle_close: Duration,
    app: Arc<App>,
    tasks: Tasks,
    ending: CancellationToken,
) {
    // Without it small answers wait for the peer's delayed acknowledgement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let app = Arc::clone(&app);
        async move { app.answer(request).await }
    });
    let mut builder = auto::Builder::new(tasks);
    if !idle_close.is_zero() {
        // The time for a head starts when the connection falls idle; when it is over, the connection is closed.
        builder.http1().timer(TokioTimer::new()).header_read_timeout(idle_close);
    }
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // A client that breaks off is its own business.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ending.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
