//! Many runs, on as many threads as are allowed; which of them runs where changes nothing.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::{Case, Outcome, run};

/// Runs all cases; each with the number of the sum that its outcome goes into, of so many. `done` is told after each how many
/// have ended. A sum of one case keeps its course.
pub fn run_all(
    cases: &[(usize, Case)],
    sums: usize,
    threads: NonZeroUsize,
    done: &(dyn Fn(usize) + Sync),
) -> Vec<Outcome> {
    let outcomes: Vec<Mutex<Option<Outcome>>> = (0..sums).map(|_| Mutex::new(None)).collect();
    let (next, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..threads.get().min(cases.len()) {
            scope.spawn(|| {
                while let Some((sum, case)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(case);
                    let mut slot = outcomes[*sum].lock().expect("no thread panicked while it held this");
                    match &mut *slot {
                        Some(sum) => sum.add(&outcome),
                        None => *slot = Some(outcome),
                    }
                    drop(slot);
                    done(ended.fetch_add(1, Ordering::Relaxed) + 1);
                }
            });
        }
    });
    let taken = |slot: Mutex<Option<Outcome>>| slot.into_inner().ok().flatten().unwrap_or_default();
    outcomes.into_iter().map(taken).collect()
}
