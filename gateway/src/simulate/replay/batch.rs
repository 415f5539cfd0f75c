//! Many runs, on as many threads as are allowed; which of them runs where, and which ends first, changes nothing.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
};

use super::{Case, Outcome, run};

/// Runs all cases; each with the number of the sum that its outcome goes into, of so many. `done` is told after each how many
/// have ended. A sum has the course of its first case.
pub fn run_all(
    cases: &[(usize, Case)],
    sums: usize,
    threads: NonZeroUsize,
    done: &dyn Fn(usize),
) -> Vec<Outcome> {
    let mut outcomes = vec![None; sums];
    let next = &AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (tell, ended) = mpsc::channel();
        for _ in 0..threads.get().min(cases.len()) {
            let tell = tell.clone();
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((_, case)) = cases.get(at) else { return };
                    tell.send((at, run(case))).expect("somebody listens until all have ended");
                }
            });
        }
        drop(tell);
        let (mut early, mut added) = (BTreeMap::new(), 0);
        for (count, (at, outcome)) in ended.iter().enumerate() {
            early.insert(at, outcome);
            while let Some(outcome) = early.remove(&added) {
                add(&mut outcomes[cases[added].0], outcome);
                added += 1;
            }
            done(count + 1);
        }
    });
    outcomes.into_iter().map(Option::unwrap_or_default).collect()
}

fn add(sum: &mut Option<Outcome>, outcome: Outcome) {
    match sum {
        Some(sum) => sum.add(&outcome),
        None => *sum = Some(outcome),
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use jiff::Timestamp;
    use tidegate_config::model::Service;
    use tidegate_loadtest::plan::{Plan, Process, Shape};

    use super::*;
    use crate::simulate::replay::Takes;

    /// So many seconds of five requests each.
    fn case(seconds: u64) -> Case {
        let length = Duration::from_secs(seconds);
        Case {
            service: Arc::new(Service::of("a".parse().expect("a valid name"), "a:1")),
            plan: Plan::new(Shape::constant(5.0, length), Process::Poisson, 1).expect("a plan"),
            begins: Timestamp::UNIX_EPOCH,
            took: Arc::default(),
            service_time: Takes::Always(Duration::from_millis(100)),
            start_time: Takes::Always(Duration::from_secs(2)),
            late_after: Duration::from_millis(500),
            seed: 1,
        }
    }

    #[test]
    fn a_sum_has_the_course_of_its_first_case_whichever_ends_first() {
        // The first takes by far the longest.
        let cases = [4000, 20, 20, 20].map(|seconds| (0, case(seconds)));
        let course = |threads: usize| {
            let threads = NonZeroUsize::new(threads).expect("some");
            let whole = run_all(&cases, 1, threads, &|_| ()).swap_remove(0);
            (whole.step, whole.course, whole.replica_seconds.to_bits())
        };
        assert_eq!(course(4), course(1));
    }
}
