//! A thread of its own for the sending loop: nothing else of the process runs on it, and it can be bound to a processor. `[IO]`

use std::{io, thread};

use rustix::thread::{CpuSet, sched_setaffinity};
use tokio::sync::oneshot;

/// Ends the thread with the future that waits for it.
struct Thread {
    /// Dropped, it tells the thread that nobody waits any more.
    _wanted: oneshot::Sender<()>,
}

/// Runs what `make` makes on a thread with a runtime of its own, on the processor `cpu` if one is named. Dropping the
/// returned future ends it.
pub(crate) async fn on_a_thread<T, F>(
    cpu: Option<usize>,
    make: impl FnOnce() -> F + Send + 'static,
) -> io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>>,
{
    let (wanted, unwanted) = oneshot::channel();
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("load".to_owned()).spawn(move || {
        let result = bind(cpu).and_then(|()| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                tokio::select! {
                    result = make() => result,
                    _ = unwanted => Err(io::ErrorKind::Interrupted.into()),
                }
            })
        });
        drop(tell.send(result));
    })?;
    let _thread = Thread { _wanted: wanted };
    told.await.unwrap_or_else(|_| Err(io::Error::other("the sending thread has ended early")))
}

fn bind(cpu: Option<usize>) -> io::Result<()> {
    let Some(cpu) = cpu else { return Ok(()) };
    let known = thread::available_parallelism().map_or(usize::MAX, usize::from);
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::other(format!(
            "there is no processor {cpu}; this machine has {known}, from 0"
        )));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|_| {
        io::Error::other(format!("processor {cpu} is not ours to use; there are {known}, from 0"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_processor_can_be_chosen_and_is_checked() {
        let first = (0..CpuSet::MAX_CPU).find(|cpu| bind_elsewhere(*cpu));
        let here = on_a_thread(first, || async { Ok(rustix::thread::sched_getcpu()) }).await.expect("runs");
        assert_eq!(Some(here), first);
        for none in [100_000, CpuSet::MAX_CPU - 1] {
            assert!(on_a_thread(Some(none), || async { Ok(()) }).await.is_err());
        }
    }

    /// Whether a thread may be bound there.
    fn bind_elsewhere(cpu: usize) -> bool {
        thread::spawn(move || bind(Some(cpu)).is_ok()).join().expect("it ends")
    }

    #[tokio::test]
    async fn giving_up_ends_the_thread() {
        let (alive, gone) = oneshot::channel::<()>();
        let forever = on_a_thread(None, move || async move {
            let _alive = alive;
            std::future::pending::<io::Result<()>>().await
        });
        tokio::select! {
            biased;
            _ = forever => panic!("it never ends"),
            () = tokio::task::yield_now() => {}
        }
        assert!(gone.await.is_err(), "dropped with the thread's runtime");
    }
}
