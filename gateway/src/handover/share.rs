//! What a follower may run on a replica with a hard limit, so that all gateways together never exceed it. Pure.
//! A loan is raised only after this gateway has lowered its own slots, and counted as given back only when the follower
//! has said so with the set in force that took it back. Called by the control loop; absent: sending, slots.

/// One follower's part of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Loan {
    /// The share in the last set that was sent.
    pub(crate) share: u32,
    /// The most that the follower may run there, as far as is known here.
    pub(crate) held: u32,
    /// What it said that it runs.
    pub(crate) in_flight: u32,
}

impl Loan {
    /// The follower told what it runs; `in_force`: the last set that was sent is in force there.
    pub(crate) fn heard(&mut self, in_flight: u32, in_force: bool) {
        self.in_flight = in_flight;
        self.held = if in_force { self.share.max(in_flight) } else { self.held.max(in_flight) };
    }

    /// A set with this share is being sent.
    pub(crate) fn sent(&mut self, share: u32) {
        self.share = share;
        self.held = self.held.max(share);
    }

    /// Whether the follower may still begin something there, or runs something.
    pub(crate) fn is_out(&self) -> bool {
        self.held > 0
    }
}

/// What each follower wants of each replica: what it runs there, and what it has waiting, put where there is room.
/// `waiting` is counted down as it is placed.
pub(crate) fn wanted(limit: u32, in_flight: u32, waiting: &mut u32) -> u32 {
    let running = in_flight.min(limit);
    let more = (limit - running).min(*waiting);
    *waiting -= more;
    running + more
}

/// This gateway's own slots beside what the followers want or still hold.
pub(crate) fn own(limit: u32, wanted_and_loans: &[(u32, Loan)]) -> u32 {
    let out =
        wanted_and_loans.iter().map(|(wanted, loan)| loan.held.max(*wanted)).fold(0, u32::saturating_add);
    limit.saturating_sub(out)
}

/// The share of each follower, once this gateway's own slots are `own` and it runs `in_flight`.
pub(crate) fn shares(limit: u32, own: u32, in_flight: u32, wanted_and_loans: &[(u32, Loan)]) -> Vec<u32> {
    let mut room = limit.saturating_sub(own.max(in_flight));
    let held = |others: &[(u32, Loan)]| others.iter().map(|(_, loan)| loan.held).fold(0, u32::saturating_add);
    let mut shares = Vec::with_capacity(wanted_and_loans.len());
    for (index, (wanted, loan)) in wanted_and_loans.iter().enumerate() {
        let share = (*wanted).min(room.saturating_sub(held(&wanted_and_loans[index + 1..])));
        room = room.saturating_sub(share.max(loan.held));
        shares.push(share);
    }
    shares
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A leader and a follower around one replica; messages are lost to time, never out of order.
    #[derive(Debug, Default)]
    struct Pair {
        loan: Loan,
        own: u32,
        own_running: u32,
        own_waiting: u32,
        /// Sets on their way: number and share.
        down: std::collections::VecDeque<(u64, u32)>,
        /// Demands on their way: set in force, running, waiting.
        up: std::collections::VecDeque<(u64, u32, u32)>,
        sent: u64,
        share: u32,
        in_force: u64,
        running: u32,
        waiting: u32,
        heard_waiting: u32,
    }

    impl Pair {
        fn lead(&mut self, limit: u32) {
            let mut waiting = self.heard_waiting;
            let wanted = wanted(limit, self.loan.in_flight, &mut waiting);
            self.own = own(limit, &[(wanted, self.loan)]);
            let share = shares(limit, self.own, self.own_running, &[(wanted, self.loan)])[0];
            if share != self.loan.share {
                self.sent += 1;
                self.loan.sent(share);
                self.down.push_back((self.sent, share));
            }
        }

        fn grant(&mut self) {
            while self.own_running < self.own && self.own_waiting > 0 {
                (self.own_running, self.own_waiting) = (self.own_running + 1, self.own_waiting - 1);
            }
            while self.running < self.share && self.waiting > 0 {
                (self.running, self.waiting) = (self.running + 1, self.waiting - 1);
            }
        }

        fn step(&mut self, act: u8, limit: u32) {
            match act {
                0 => self.own_waiting += 1,
                1 => self.waiting += 1,
                2 => self.own_running = self.own_running.saturating_sub(1),
                3 => self.running = self.running.saturating_sub(1),
                4 => {
                    if let Some((seq, share)) = self.down.pop_front() {
                        (self.in_force, self.share) = (seq, share);
                        self.grant();
                        self.up.push_back((self.in_force, self.running, self.waiting));
                    }
                }
                5 => self.up.push_back((self.in_force, self.running, self.waiting)),
                _ => {
                    if let Some((seq, running, waiting)) = self.up.pop_front() {
                        self.loan.heard(running, seq == self.sent);
                        self.heard_waiting = waiting;
                    }
                    self.lead(limit);
                }
            }
            self.grant();
        }
    }

    proptest! {
        #[test]
        fn together_they_never_exceed_the_limit(
            limit in 1_u32..5,
            acts in proptest::collection::vec(0_u8..8, 0..400),
        ) {
            let mut pair = Pair { own: limit, ..Pair::default() };
            for act in acts {
                pair.step(act, limit);
                prop_assert!(pair.running + pair.own_running <= limit, "{pair:?}");
            }
            // From here on everything that runs ends, and messages arrive: whoever waits gets its turn.
            for _ in 0..2000 {
                for act in [5, 4, 6, 2, 3] {
                    pair.step(act, limit);
                    prop_assert!(pair.running + pair.own_running <= limit, "{pair:?}");
                }
            }
            prop_assert_eq!((pair.waiting, pair.own_waiting, pair.running, pair.own_running), (0, 0, 0, 0));
        }
    }

    #[test]
    fn what_waits_elsewhere_gets_room_replica_by_replica() {
        let mut waiting = 5;
        assert_eq!(wanted(3, 1, &mut waiting), 3);
        assert_eq!(wanted(3, 3, &mut waiting), 3);
        assert_eq!(wanted(3, 0, &mut waiting), 3);
        assert_eq!(waiting, 0);
    }

    #[test]
    fn a_loan_counts_until_its_end_is_heard() {
        let mut loan = Loan::default();
        loan.sent(2);
        loan.sent(0);
        loan.heard(0, false);
        assert!(loan.is_out(), "the set that takes it back may not have arrived");
        loan.heard(1, true);
        assert_eq!(loan.held, 1);
        loan.heard(0, true);
        assert!(!loan.is_out());
    }
}
