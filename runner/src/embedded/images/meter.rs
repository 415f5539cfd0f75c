//! How far a download is, summed over its layers, told neither for each packet nor twice.

use parking_lot::Mutex;
use tidegate_config::units::Bytes;

use crate::{Progress, PullProgress};

/// As many bytes more are worth telling.
const STEP: u64 = 256 << 10;

/// How far a download is.
pub(super) struct Meter {
    progress: Progress,
    total: u64,
    state: Mutex<State>,
}

struct State {
    done: Vec<u64>,
    told: u64,
}

impl Meter {
    /// For layers of these sizes.
    pub(super) fn new(progress: Progress, sizes: &[u64]) -> Self {
        let state = Mutex::new(State { done: vec![0; sizes.len()], told: 0 });
        Self { progress, total: sizes.iter().sum(), state }
    }

    /// So much of a layer is here.
    pub(super) fn set(&self, layer: usize, done: u64) {
        let told = {
            let mut state = self.state.lock();
            if let Some(slot) = state.done.get_mut(layer) {
                *slot = done;
            }
            let sum: u64 = state.done.iter().sum();
            let worth = sum.abs_diff(state.told) >= STEP || (sum == self.total && sum != state.told);
            worth.then(|| {
                state.told = sum;
                PullProgress { done: Bytes(sum), total: Bytes(self.total) }
            })
        };
        if let Some(progress) = told {
            (self.progress)(progress);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn layers_are_summed_and_small_steps_left_out() {
        let told: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
        let seen = Arc::clone(&told);
        let meter = Meter::new(Arc::new(move |p| seen.lock().push((p.done.0, p.total.0))), &[STEP * 4, 10]);
        for (layer, done) in
            [(0, STEP), (0, STEP + 1), (1, 5), (0, 0), (0, STEP * 4), (1, 10), (1, 10), (7, 1)]
        {
            meter.set(layer, done);
        }
        let total = STEP * 4 + 10;
        assert_eq!(*told.lock(), [(STEP, total), (STEP * 4 + 5, total), (total, total)]);
    }
}
