//! One service over time, whose file changes from revision `r1` to `r2`.

use super::*;
use crate::{
    fixture::{self, disrupted, exited, of, present, replica, secs, snapshot, version},
    replica::Cause,
    snapshot::Image,
};
use std::sync::Arc;
use tidegate_config::{
    model::{Rollout, ScalingPolicy, Update},
    units::Percent,
};

struct Story {
    seen: Snapshot,
    release: Release,
    trial: Option<Trial>,
}

impl Story {
    /// `r1` is good and one replica of it is ready; the file names `r2` now.
    fn new(steps: &[u8]) -> Self {
        let mut seen = snapshot(ScalingPolicy::default());
        let steps = steps.iter().filter_map(|step| Percent::new(*step)).collect();
        Arc::make_mut(&mut seen.service).rollout = Rollout { steps, ..Rollout::default() };
        seen.replicas = vec![replica(1, Phase::Ready, seen.now)];
        seen.hosts[0].image = present("r2");
        let release = Release { good: Some(version("r1")), ..Release::default() };
        Self { seen, release, trial: None }
    }

    /// What it did, and the versions after that with the trial's share.
    fn expect(&mut self, moved: Option<&str>, good: &str, share: Option<u8>) -> &mut Self {
        let found = advance(&mut self.release, &mut self.trial, &self.seen);
        let mix = mix(&self.release, self.trial.as_ref(), &self.seen);
        let shown = (
            found.as_ref().map(Moved::label),
            mix.main.map_or(String::new(), |v| v.revision.0),
            mix.trial.map(|t| t.1),
        );
        assert_eq!(shown, (moved, good.to_owned(), share), "{found:?}");
        self
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.seen.now += secs(seconds);
        self
    }

    /// Adds a replica of `r2`.
    fn add(&mut self, number: u64, phase: Phase) -> &mut Self {
        self.seen.replicas.push(of("r2", replica(number, phase, self.seen.now)));
        self
    }

    fn fail(&mut self, number: u64) -> &mut Self {
        self.add(number, Phase::Failed(exited()))
    }

    /// Answers and errors of a revision so far.
    fn tally(&mut self, revision: &str, requests: u64, errors: u64) -> &mut Self {
        self.seen.tallies.insert(Revision(revision.into()), Tally { requests, errors });
        self
    }

    fn file(&mut self, revision: &str) -> &mut Self {
        self.seen.hosts[0].image = present(revision);
        self
    }

    fn kept(&self) -> Vec<&str> {
        self.release.kept.iter().map(|version| &*version.revision.0).collect()
    }

    fn why(&self) -> Option<&str> {
        self.release.rejected.as_ref().map(|rejected| &*rejected.why)
    }
}

#[test]
fn the_first_version_is_good_at_once() {
    let mut story = Story::new(&[10, 100]);
    story.release = Release::default();
    story.expect(Some("first"), "r2", None).expect(None, "r2", None);
    // Nothing is known yet.
    story.release = Release::default();
    story.seen.hosts[0].image = Image::Pulling;
    story.expect(None, "", None);
}

#[test]
fn steps_count_from_the_first_ready_replica() {
    let mut story = Story::new(&[10, 50, 100]);
    story.expect(Some("tries"), "r1", Some(10)).after(1000).expect(None, "r1", Some(10));
    story.add(2, Phase::Ready).expect(None, "r1", Some(10));
    story.after(29).expect(None, "r1", Some(10));
    story.after(1).expect(Some("step"), "r1", Some(50)).after(29).expect(None, "r1", Some(50));
    story.after(1).expect(Some("step"), "r1", Some(100)).after(29).expect(None, "r1", Some(100));
    story.after(1).expect(Some("good"), "r2", None).expect(None, "r2", None);
    assert_eq!((story.kept(), story.why()), (vec!["r1"], None));
}

#[test]
fn a_word_for_people() {
    let mut story = Story::new(&[10, 50, 100]);
    let note = |story: &Story| note(&story.release, story.trial.as_ref(), &story.seen);
    assert_eq!(note(&story), None);
    story.expect(Some("tries"), "r1", Some(10));
    let text = "trying revision r2 with 10 % of requests, step 1 of 3, none of it is ready yet";
    assert_eq!(note(&story).as_deref(), Some(text));
    story.add(2, Phase::Ready).expect(None, "r1", Some(10));
    assert_eq!(note(&story).as_deref(), Some("trying revision r2 with 10 % of requests, step 1 of 3"));
    story.fail(3).fail(4).expect(Some("taken_back"), "r1", None);
    let text = "revision r2 was taken back: 2 replicas of it failed, last: its process ended: exit code 1";
    assert_eq!(note(&story).as_deref(), Some(text));
}

#[test]
fn failed_replicas_take_it_back_each_counted_once() {
    let mut story = Story::new(&[100]);
    story.expect(Some("tries"), "r1", Some(100)).fail(2).expect(None, "r1", Some(100));
    story.after(1).expect(None, "r1", Some(100)).fail(3).expect(Some("taken_back"), "r1", None);
    assert_eq!(story.why(), Some("2 replicas of it failed, last: its process ended: exit code 1"));
    // It is not tried again by itself, but when somebody forgives it, and then old failures do not count.
    story.after(1000).expect(None, "r1", None);
    story.release.forgive();
    story.expect(Some("tries"), "r1", Some(100)).expect(None, "r1", Some(100));
    // Failures of the good one are not its own.
    story.seen.replicas.push(replica(9, Phase::Failed(exited()), story.seen.now));
    story.fail(5).expect(None, "r1", Some(100));
}

#[test]
fn what_a_cluster_takes_away_is_held_against_no_version() {
    let mut story = Story::new(&[100]);
    story.expect(Some("tries"), "r1", Some(100));
    for cause in [disrupted(), Cause::Vanished, Cause::NoPlace("no node has the label".into())] {
        for number in [2, 3, 4] {
            story.after(1).add(number, Phase::Failed(cause.clone())).expect(None, "r1", Some(100));
        }
        story.seen.replicas.retain(|replica| !matches!(replica.phase, Phase::Failed(_)));
    }
}

#[test]
fn one_refusal_for_good_is_enough() {
    for (retryable, moved) in [(true, None), (false, Some("taken_back"))] {
        let mut story = Story::new(&[100]);
        let cause = Cause::StartRefused { message: "no such command".into(), retryable };
        story.expect(Some("tries"), "r1", Some(100)).add(2, Phase::Failed(cause));
        story.expect(moved, "r1", moved.is_none().then_some(100));
    }
}

#[test]
fn its_share_of_errors_is_compared_with_the_good_ones() {
    // Steps; what r1 and r2 had answered before; what they have answered since; whether it is taken back.
    type Row = (&'static [u8], [(u64, u64); 2], [(u64, u64); 2], Option<&'static str>);
    let rows: [Row; 8] = [
        (
            &[10, 100],
            [(0, 0), (0, 0)],
            [(900, 2), (140, 10)],
            Some("7.1 % of 140 requests failed, 0.2 % of the earlier version's"),
        ),
        // Within the margin of 5 %, and no worse than the other.
        (&[10, 100], [(0, 0), (0, 0)], [(900, 0), (140, 7)], None),
        (&[10, 100], [(0, 0), (0, 0)], [(900, 90), (140, 14)], None),
        // Too few answers, too few errors.
        (&[10, 100], [(0, 0), (0, 0)], [(900, 0), (19, 19)], None),
        (&[10, 100], [(0, 0), (0, 0)], [(900, 0), (20, 2)], None),
        (
            &[10, 100],
            [(0, 0), (0, 0)],
            [(900, 0), (20, 3)],
            Some("15.0 % of 20 requests failed, 0.0 % of the earlier version's"),
        ),
        // What was before the step does not count.
        (&[10, 100], [(1000, 0), (500, 500)], [(1900, 90), (640, 514)], None),
        // With all requests, it is compared with what was before the trial.
        (&[100], [(1000, 100), (0, 0)], [(1000, 100), (140, 20)], None),
    ];
    for (n, (steps, before, now, why)) in rows.into_iter().enumerate() {
        let mut story = Story::new(steps);
        story.tally("r1", before[0].0, before[0].1).tally("r2", before[1].0, before[1].1);
        story.add(2, Phase::Ready).expect(Some("tries"), "r1", Some(steps[0]));
        story.tally("r1", now[0].0, now[0].1).tally("r2", now[1].0, now[1].1);
        let share = why.is_none().then_some(steps[0]);
        story.expect(why.map(|_| "taken_back"), "r1", share);
        assert_eq!(story.why(), why, "row {n}");
    }
}

#[test]
fn a_third_version_starts_again_and_the_good_one_ends_it() {
    let mut story = Story::new(&[10, 100]);
    story.expect(Some("tries"), "r1", Some(10)).add(2, Phase::Ready).expect(None, "r1", Some(10));
    story.after(30).expect(Some("step"), "r1", Some(100));
    story.file("r3").expect(Some("tries"), "r1", Some(10));
    assert_eq!(story.trial.as_ref().map(|t| &*t.revision().0), Some("r3"));
    // While the image is looked up again the trial goes on.
    story.seen.hosts[0].image = Image::Pulling;
    story.expect(None, "r1", Some(10));
    story.file("r1").expect(Some("dropped"), "r1", None).expect(None, "r1", None);
    // What was taken back may be tried again once the file has named another one.
    story.release.rejected = Some(Rejected::by_hand(Revision("r2".into())));
    story.file("r2").expect(None, "r1", None);
    story.file("r1").expect(None, "r1", None).file("r2").expect(Some("tries"), "r1", Some(10));
}

#[test]
fn asleep_it_is_tried_with_all_requests_at_once() {
    let mut story = Story::new(&[10, 50, 100]);
    story.seen.replicas.clear();
    story.expect(Some("tries"), "r1", Some(10)).expect(Some("step"), "r1", Some(100));
    // And can still be taken back, or prove itself and sleep on.
    let mut bad =
        Story { seen: story.seen.clone(), release: story.release.clone(), trial: story.trial.clone() };
    bad.fail(2).fail(3).expect(Some("taken_back"), "r1", None);
    story.add(2, Phase::Ready).expect(None, "r1", Some(100));
    story.seen.replicas.clear();
    story.after(30).expect(Some("good"), "r2", None);
    // A draining one can be had back: not asleep.
    let mut story = Story::new(&[10, 100]);
    story.seen.replicas[0].phase = Phase::Draining;
    story.expect(Some("tries"), "r1", Some(10)).expect(None, "r1", Some(10));
}

#[test]
fn who_may_be_there_once_only_has_no_steps() {
    let mut story = Story::new(&[10, 100]);
    Arc::make_mut(&mut story.seen.service).update = Update::Recreate;
    story.expect(Some("tries"), "r1", Some(100));
}

#[test]
fn so_many_are_kept() {
    let mut story = Story::new(&[100]);
    for revision in ["r2", "r3", "r4", "r5"] {
        story.file(revision);
        advance(&mut story.release, &mut story.trial, &story.seen);
        story.seen.replicas = vec![of(revision, replica(2, Phase::Ready, story.seen.now))];
        advance(&mut story.release, &mut story.trial, &story.seen);
        story.after(30);
        advance(&mut story.release, &mut story.trial, &story.seen);
    }
    assert_eq!(story.kept(), ["r4", "r3"]);
    Arc::make_mut(&mut story.seen.service).rollout.keep = 1;
    story.expect(None, "r5", None);
    assert_eq!(story.kept(), ["r4"]);
}

#[test]
fn it_struggles_when_it_fails_or_keeps_requests_waiting() {
    let mut story = Story::new(&[100]);
    let struggles = |story: &Story| story.trial.as_ref().map(|trial| trial.struggles(&story.seen));
    story.expect(Some("tries"), "r1", Some(100)).add(2, Phase::Starting).after(10);
    assert_eq!(struggles(&story), Some(false), "nobody waits");
    fixture::load(&mut story.seen, 1, 0);
    assert_eq!(struggles(&story), Some(true), "slow");
    story.seen.replicas.clear();
    story.fail(3).expect(None, "r1", Some(100));
    assert_eq!(struggles(&story), Some(true), "failed");
    story.add(4, Phase::Ready);
    assert_eq!(struggles(&story), Some(false), "ready");
}

#[test]
fn going_back_by_hand_ends_a_trial() {
    let memory = |release: &Release, trial: &Option<Trial>| crate::Memory {
        trial: trial.clone(),
        ..crate::Memory::restored(release.clone(), None)
    };
    let mut story = Story::new(&[10, 100]);
    story.release.kept = vec![version("r0")];
    story.expect(Some("tries"), "r1", Some(10));
    let rows = [(None, Ok("r1")), (Some("r1"), Ok("r1")), (Some("r0"), Ok("r0")), (Some("r9"), Err(()))];
    for (to, expected) in rows {
        let mut memory = memory(&story.release, &story.trial);
        let to = to.map(|to| Revision(to.into()));
        let found = memory.roll_back(to.as_ref()).map(|revision| revision.0).map_err(|_| ());
        assert_eq!(found, expected.map(str::to_owned), "{to:?}");
        assert_eq!(memory.trial.is_none(), expected.is_ok(), "{to:?}");
        let rejected = memory.release().rejected.as_ref().map(|rejected| &*rejected.revision.0);
        assert_eq!(rejected, expected.ok().map(|_| "r2"), "{to:?}");
    }
}
