//! The flaws of averaged concurrency, each met by the law and most shown by Knative's beside it; and what the law learns.

use std::time::Duration;

use tidegate_config::model::{Law, ScalingPolicy};

use super::*;
use crate::{
    fixture::{self, secs},
    keepalive::StartTime,
    policy::Policy,
    replica::Phase,
    snapshot::{Flow, PARTS, Snapshot},
    window::Window,
};

/// One service with replicas of one slot, second by second.
struct Story {
    seen: Snapshot,
    policy: Policy,
    window: Window,
    next: u64,
}

impl Story {
    fn of(law: Law, change: impl FnOnce(&mut ScalingPolicy)) -> Self {
        let mut settings = ScalingPolicy {
            law,
            max: 1000,
            concurrency: std::num::NonZeroU32::new(1),
            ..ScalingPolicy::default()
        };
        change(&mut settings);
        let seen = fixture::snapshot(settings);
        let policy = Policy::start(law, seen.now, 0, None);
        Self { seen, policy, window: Window::default(), next: 1 }
    }

    /// So many replicas are ready, and have been for a minute.
    fn with(mut self, replicas: u64) -> Self {
        let at = self.seen.now - secs(60);
        self.seen.replicas = (1..=replicas).map(|n| fixture::replica(n, Phase::Ready, at)).collect();
        self.next = replicas + 1;
        self
    }

    /// A second in which requests came and ended, `running` ran and `queued` waits.
    fn second(&mut self, arrived: u32, ended: u32, running: u32, queued: u32) -> Answer {
        // As many pairs as there are by chance.
        let pairs = PARTS.map(|parts| arrived * arrived.saturating_sub(1) / 2 / parts);
        let second = Flow { arrived, pairs, ended, ..Flow::default() };
        self.flow(Flow { running: f64::from(running), ..second }, running, queued)
    }

    fn flow(&mut self, flow: Flow, running: u32, queued: u32) -> Answer {
        self.seen.now += secs(1);
        self.window.record(flow.running + f64::from(queued), secs(60));
        fixture::load(&mut self.seen, queued, running);
        self.seen.demand[0].flow = vec![flow];
        let answer = self.ask();
        self.seen.demand[0].flow.clear();
        answer
    }

    fn ask(&mut self) -> Answer {
        let question = Question {
            now: self.seen.now,
            settings: &self.seen.service.scaling,
            ready: self.ready(),
            learned: None,
            window: &self.window,
            seen: &self.seen,
        };
        let (answer, policy) = self.policy.clone().ask(question);
        self.policy = policy;
        answer
    }

    fn ready(&self) -> Count {
        let ready = self.seen.replicas.iter().filter(|replica| replica.phase == Phase::Ready).count();
        Count::try_from(ready).expect("a few")
    }

    /// Starts what is missing of the answer.
    fn obey(&mut self, want: Count) {
        while self.seen.replicas.len() < want as usize {
            self.seen.replicas.push(fixture::replica(self.next, Phase::Starting, self.seen.now));
            self.next += 1;
        }
    }

    /// Nothing runs or comes any more: for how many seconds the last one is kept.
    fn kept(&mut self) -> u32 {
        self.seen.demand[0].idle_since = Some(self.seen.now);
        (1..20_000).find(|_| self.second(0, 0, 0, 0).want == 0).expect("it goes")
    }

    /// As many seconds of steady traffic on replicas that suffice: so many come and end, and as many run as take a second.
    fn steady(&mut self, seconds: u32, rate: u32) -> Answer {
        (0..seconds).map(|_| self.second(rate, rate, rate, 0)).last().expect("some seconds")
    }
}

/// Three requests of 100 ms behind a start of 10 s: demand for Knative, next to nothing in work.
fn cold_start(law: Law) -> Count {
    let mut story = Story::of(law, |_| ());
    // Known from before: 100 ms each, and how long a start takes.
    if let Policy::Work(work) = &mut story.policy {
        work.learned.know(0.1, 10.0);
    }
    let mut most = 0;
    for second in 0..10 {
        let want = story.second(if second == 0 { 3 } else { 0 }, 0, 0, 3).want.max(1);
        story.obey(want);
        most = most.max(want);
    }
    most
}

#[test]
fn f1_who_waits_behind_a_start_is_no_demand() {
    assert_eq!(cold_start(Law::Work), 1);
    assert!(cold_start(Law::Kpa) >= 5, "the flaw: {}", cold_start(Law::Kpa));
}

#[test]
fn f2_a_long_start_is_waited_for_before_more_is_started() {
    let mut story = Story::of(Law::Work, |_| ()).with(4);
    if let Policy::Work(work) = &mut story.policy {
        work.learned.know(0.5, 25.0);
    }
    let calm = story.steady(120, 4).want;
    // A burst of 30 requests, 15 s of work, is through on four replicas and what starts before anything new is ready.
    story.obey(calm);
    let answer = story.second(30, 4, 4, 26);
    let next = story.second(4, 4, 4, 26);
    assert!(next.want <= answer.want && answer.want < 34, "{} and {}", answer.want, next.want);
}

#[test]
fn f3_no_cliff_behind_a_burst() {
    let (mut wants, mut story) = (Vec::new(), Story::of(Law::Work, |_| ()).with(64));
    story.steady(120, 60);
    for _ in 0..120 {
        wants.push(story.second(20, 20, 20, 0).want);
    }
    let steepest = wants.windows(2).map(|pair| f64::from(pair[1]) / f64::from(pair[0].max(1)));
    assert!(steepest.fold(1.0, f64::min) >= 0.89, "{wants:?}");
    assert!(wants.last().is_some_and(|last| *last < 40), "and yet it goes: {wants:?}");
}

#[test]
fn f4_a_little_more_than_one_replica_is_no_surge() {
    let mut story = Story::of(Law::Work, |scaling| scaling.work.aim = Aim::Worth(secs(20))).with(2);
    // One per second on average, as chance will have it.
    let usual = |second: usize| {
        let arrived = [0, 1, 2, 1, 0, 3, 0, 1][second % 8];
        Flow { arrived, ended: arrived, running: f64::from(arrived) / 2.0, ..Flow::default() }
    };
    let before = (0..600).map(|second| story.flow(usual(second), 1, 0).want).last().expect("some seconds");
    let more = Flow { arrived: 2, ended: 1, running: 0.75, ..Flow::default() };
    assert_eq!(story.flow(more, 2, 0).want, before, "a single request more changes nothing");
}

/// Seconds from a threefold load to an answer with room for it.
fn reaction(law: Law) -> usize {
    let mut story = Story::of(law, |_| ()).with(15);
    story.steady(120, 10);
    let reacts = |story: &mut Story, second: u32| {
        let queued = (second * 15).min(100);
        story.second(30, 15, 15, queued).want >= 30
    };
    (1..60).position(|second| reacts(&mut story, second)).map_or(60, |at| at + 1)
}

#[test]
fn f5_a_step_is_met_within_seconds() {
    assert!(reaction(Law::Work) <= 3, "{} s", reaction(Law::Work));
    assert!(reaction(Law::Work) <= reaction(Law::Kpa));
}

#[test]
fn who_begins_to_wait_tells_of_a_step_within_the_second() {
    let mut story = Story::of(Law::Work, |_| ()).with(15);
    let calm = story.steady(120, 10).want;
    let ask = |story: &mut Story, millis, arriving| {
        story.seen.now += Duration::from_millis(millis);
        story.seen.demand[0].arriving = arriving;
        fixture::load(&mut story.seen, 1, 15);
        story.ask().want
    };
    // Ten a second until then, fifty a second from then on.
    assert!(ask(&mut story, 500, 5) <= calm + 1, "a single one that waits is no step");
    assert!(ask(&mut story, 400, 25) >= calm + 10, "{}", story.ask().want);
}

#[test]
fn a_page_that_asks_for_many_things_at_once_is_no_step() {
    let mut story = Story::of(Law::Work, |_| ()).with(4);
    if let Policy::Work(work) = &mut story.policy {
        work.learned.know(0.2, 2.0);
    }
    story.steady(120, 3);
    let mut wants = Vec::new();
    // Fifty within fifty milliseconds, then nobody.
    for tenth in 1..=10 {
        let (came, queued) = if tenth == 1 { (25, 21) } else { (50, 46_u32.saturating_sub(2 * tenth)) };
        story.seen.now += Duration::from_millis(if tenth <= 2 { 25 } else { 100 });
        story.seen.demand[0].arriving = came;
        fixture::load(&mut story.seen, queued, 4);
        wants.push(story.ask().want);
    }
    assert!(wants.iter().all(|want| *want <= 50), "{wants:?}");
}

#[test]
fn a_step_soon_after_somebody_waited_by_chance_shows_as_soon() {
    let mut story = Story::of(Law::Work, |_| ()).with(15);
    story.steady(120, 10);
    let mut ask = |millis, arriving, queued| {
        story.seen.now += Duration::from_millis(millis);
        story.seen.demand[0].arriving = arriving;
        fixture::load(&mut story.seen, queued, 15);
        story.ask().want
    };
    for (millis, arriving, queued) in [(50, 1, 1), (50, 1, 0), (500, 7, 1)] {
        ask(millis, arriving, queued);
    }
    let want = ask(300, 27, 5);
    assert!(want >= 35, "{want}");
}

#[test]
fn f6_room_follows_the_square_root() {
    let want = |load: f64| {
        let seen = Story::of(Law::Work, |scaling| {
            scaling.work.late_after = Duration::ZERO;
        });
        let question = Question {
            now: seen.seen.now,
            settings: &seen.seen.service.scaling,
            ready: 1,
            learned: None,
            window: &seen.window,
            seen: &seen.seen,
        };
        let load = Load { mean: load, peakedness: 1.0, rate: load, service: 1.0 };
        let outlook = Outlook::steady(load);
        room::for_load(&question, &outlook, 1.0 / room::spared(&question, &outlook, 0.1))
    };
    // What Knative has at 70 %: 2, 3, 8, 15, 29, 72, 143, 286.
    let rows = [(1.0, 3), (2.0, 5), (5.0, 9), (10.0, 16), (20.0, 28), (50.0, 63), (100.0, 118), (200.0, 225)];
    assert_eq!(rows.map(|(load, _)| want(load)), rows.map(|(_, replicas)| replicas));
}

/// What is wanted in the end where five requests of 100 ms come each second, so many pairs of them in the same quarter.
fn wanted_for(pairs: u32) -> Count {
    let mut story = Story::of(Law::Work, |scaling| scaling.work.late_after = Duration::from_millis(50));
    let second = Flow { arrived: 5, pairs: [0, 0, pairs], ended: 5, running: 0.5, ..Flow::default() };
    (0..600).map(|_| story.flow(second, 0, 0).want).last().expect("some seconds")
}

#[test]
fn who_comes_at_once_needs_more_than_who_comes_by_chance() {
    let (at_once, by_chance) = (wanted_for(10), wanted_for(2));
    assert!(at_once >= by_chance + 2, "{at_once} and {by_chance}");
}

#[test]
fn what_was_learned_is_known_again_after_a_restart() {
    let mut story = Story::of(Law::Work, |_| ()).with(4);
    for _ in 0..5 {
        story.steady(20, 4);
        story.seen.demand[0].idle_since = Some(story.seen.now);
        story.ask();
        story.seen.now += secs(90);
    }
    let Policy::Work(before) = &story.policy else { panic!("another law") };
    let kept = serde_json::to_string(&before.habits()).expect("values only");
    let after = Work::restored(serde_json::from_str(&kept).expect("as it was kept"));
    assert!(after.learned.knows_service());
    assert_eq!(after.habits(), serde_json::from_str(&kept).expect("as it was kept"));
    let start = StartTime { mean: 2.0, deviation: 0.0 };
    let schedule = |work: &Work| work.learned.gaps.schedule(60.0, start);
    assert_eq!(schedule(&after), schedule(before));
    assert_ne!(schedule(&after), schedule(&Work::default()), "and that is more than nothing");
    for wrong in [-500.0, 1e300] {
        let mut spoilt: serde_json::Value = serde_json::from_str(&kept).expect("as it was kept");
        spoilt["start"] = serde_json::json!([wrong, 1.0]);
        let spoilt = Work::restored(serde_json::from_value(spoilt).expect("numbers"));
        assert_eq!(spoilt, Work::default(), "what cannot be right is forgotten");
    }
    for wrong in [r#"[-1.0]"#.to_owned(), format!("{:?}", [1.0; 99])] {
        assert!(serde_json::from_str::<crate::keepalive::Gaps>(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn after_busy_traffic_the_last_one_is_kept_for_no_longer_than_after_little() {
    let kept = |rate| {
        let mut story = Story::of(Law::Work, |_| ()).with(10);
        if let Policy::Work(work) = &mut story.policy {
            work.learned.know(0.02, 10.0);
        }
        story.steady(600, rate);
        story.kept()
    };
    let (busy, little) = (kept(100), kept(1));
    assert!(busy <= 300 && busy <= 2 * little, "{busy} s and {little} s");
}

#[test]
fn the_last_one_is_kept_for_less_where_nobody_is_late_for_a_start() {
    let kept = |late_after| {
        let mut story = Story::of(Law::Work, |scaling| scaling.work.late_after = late_after).with(1);
        if let Policy::Work(work) = &mut story.policy {
            work.learned.know(0.1, 1.0);
        }
        story.steady(60, 1);
        story.kept()
    };
    let (late, in_time) = (kept(Duration::from_millis(500)), kept(secs(10)));
    assert!(in_time < late / 2, "{in_time} s, and {late} s where all are late");
}

#[test]
fn after_the_first_wake_it_is_known_how_many_were_late_for_it() {
    let kept = |handful| {
        let mut story = Story::of(Law::Work, |scaling| scaling.concurrency = std::num::NonZeroU32::new(100));
        story.seen.demand[0].idle_since = Some(story.seen.now);
        story.second(0, 0, 0, 0);
        fixture::load(&mut story.seen, handful, 0);
        story.ask();
        story.second(handful, 0, 0, handful);
        story.obey(1);
        (0..10).for_each(|_| drop(story.second(0, 0, 0, handful)));
        (story.seen.replicas[0].phase, story.seen.replicas[0].since) = (Phase::Ready, story.seen.now);
        story.second(0, handful, 0, 0);
        story.kept()
    };
    let (one, many) = (kept(1), kept(20));
    assert!(2 * many > 3 * one, "{many} s for twenty, {one} s for one");
}

#[test]
fn what_is_started_ahead_says_so() {
    let mut story = Story::of(Law::Work, |_| ()).with(1);
    let mut labels = Vec::new();
    for _ in 0..20 {
        labels.clear();
        story.steady(1, 1);
        story.seen.demand[0].idle_since = Some(story.seen.now);
        for _ in 1..300 {
            let answer = story.second(0, 0, 0, 0);
            story.seen.replicas.truncate(answer.want as usize);
            story.obey(answer.want);
            labels.push((answer.reason.label(), answer.want));
        }
    }
    labels.dedup();
    assert_eq!(labels, [("kept_warm", 1), ("idle", 0), ("asleep", 0), ("expected", 1)]);
}

#[test]
fn where_it_has_been_quiet_for_minutes_one_is_enough() {
    let mut story = Story::of(Law::Work, |scaling| {
        (scaling.work.parts.surges, scaling.work.aim) = (false, Aim::Worth(secs(3600)));
    })
    .with(10);
    for second in 0..1200 {
        let arrived = if second % 40 == 0 { 20 } else { 0 };
        story.flow(
            Flow { arrived, ended: arrived, running: f64::from(arrived) / 5.0, ..Flow::default() },
            0,
            0,
        );
    }
    story.seen.demand[0].idle_since = Some(story.seen.now);
    let mut quiet = |seconds| {
        (0..seconds).for_each(|_| drop(story.second(0, 0, 0, 0)));
        story.ask().want
    };
    assert!(quiet(20) > 1, "the next clump is expected");
    assert!(quiet(160) > 1, "and where a late request is worth an hour, for minutes");
    assert!(quiet(120) <= 1);
}

#[test]
fn between_known_bursts_gaps_are_believed_and_not_averages() {
    let mut story = Story::of(Law::Work, |_| ()).with(10);
    let mut burst = || {
        story.seen.demand[0].idle_since = None;
        (0..3).for_each(|_| drop(story.second(20, 20, 4, 0)));
        story.seen.demand[0].idle_since = Some(story.seen.now);
        let wants: Vec<_> = (0..296).map(|_| story.second(0, 0, 0, 0).want).collect();
        (wants[10], wants[100], wants[295])
    };
    let (just_after, later, before_next) = (0..6).map(|_| burst()).last().expect("some bursts");
    assert!(just_after > 1 && later == 0 && before_next > 1, "{just_after}, {later}, {before_next}");
}

#[test]
fn where_gaps_end_soon_one_is_made_ready_and_not_what_averages_ask_for() {
    let mut story = Story::of(Law::Work, |scaling| scaling.work.parts.surges = false).with(10);
    let mut gap = || {
        story.seen.demand[0].idle_since = None;
        (0..3).for_each(|_| drop(story.second(20, 20, 4, 0)));
        story.seen.demand[0].idle_since = Some(story.seen.now);
        (0..97).map(|_| story.second(0, 0, 0, 0).want).collect::<Vec<_>>()
    };
    let wants = (0..30).map(|_| gap()).last().expect("some gaps");
    assert!(wants[90..].iter().all(|want| *want == 1), "{wants:?}");
}

#[test]
fn requests_that_take_longer_than_a_late_one_is_worth_have_room_all_the_same() {
    for (service, rate, worth) in [(60, 1, 60), (10, 4, 10), (2, 20, 1)] {
        let busy = service * rate;
        let aim = |scaling: &mut ScalingPolicy| scaling.work.aim = Aim::Worth(secs(worth));
        let mut story = Story::of(Law::Work, aim).with(u64::from(busy));
        if let Policy::Work(work) = &mut story.policy {
            work.learned.know(f64::from(service), 2.0);
        }
        let answer = (0..300).map(|_| story.second(rate, rate, busy, 0)).last().expect("some seconds");
        assert!(answer.want >= busy, "{} where {busy} run", answer.want);
    }
}

#[test]
fn nothing_goes_before_it_has_been_calm_for_as_long_as_is_said() {
    for (calm, then) in [(30, 2), (300, 2), (1200, 2), (1200, 0)] {
        // Little is lost when one has to be started again.
        let mut story = Story::of(Law::Work, |scaling| scaling.work.calm = secs(calm)).with(10);
        if let Policy::Work(work) = &mut story.policy {
            work.learned.know(20.0, 0.2);
        }
        let before = (0..120).map(|_| story.second(1, 1, 10, 0).want).last().expect("some seconds");
        story.seen.demand[0].idle_since = (then == 0).then_some(story.seen.now);
        let goes = (1..2000).find(|_| story.second(0, 0, then, 0).want < before).expect("it goes");
        assert!((calm..calm + 60).contains(&goes), "after {goes} s of {then}, not {calm}");
    }
}

#[test]
fn every_part_can_be_switched_off() {
    let run = |part: Option<&str>| {
        let change = |scaling: &mut ScalingPolicy| {
            assert!(part.is_none_or(|part| scaling.switch_off(part)), "{part:?} is a part");
        };
        let mut story = Story::of(Law::Work, change).with(10);
        let mut wants: Vec<Count> = Vec::new();
        for second in 0..700_u32 {
            // A ramp, a burst that waits, a surge each minute, silence.
            let rate = match second {
                0..200 => second / 4,
                200..600 if second % 60 < 5 => 60,
                200..600 => 1,
                _ => 0,
            };
            let queued = if (100..110).contains(&second) { 20 } else { 0 };
            wants.push(story.second(rate, rate, rate, queued).want);
        }
        story.seen.demand[0].idle_since = Some(story.seen.now);
        for _ in 0..300 {
            story.seen.now += secs(1);
            story.seen.demand[0].flow = vec![Flow::default()];
            wants.push(story.ask().want);
        }
        wants
    };
    let all = run(None);
    // When it is asked is not up to the law.
    for part in ScalingPolicy::PARTS.into_iter().filter(|part| *part != "events") {
        assert!(run(Some(part)) != all, "without {part} nothing changes");
    }
}

#[test]
fn whom_nobody_has_called_is_left_alone() {
    let fresh = |mut story: Story| {
        story.seen.demand[0].idle_since = Some(story.seen.now);
        story
    };
    let mut story = fresh(Story::of(Law::Work, |_| ()));
    assert!((0..60).all(|_| story.second(0, 0, 0, 0).want == 0), "nothing is started");
    let mut story = fresh(Story::of(Law::Work, |_| ()).with(1));
    assert_eq!(story.second(0, 0, 0, 0).want, 1, "what another gateway started is not stopped at once");
}

#[test]
fn a_handful_at_once_gets_no_more_replicas_than_it_has_requests() {
    for handful in [1, 5, 10, 20] {
        let mut story = Story::of(Law::Work, |_| ());
        fixture::load(&mut story.seen, handful, 0);
        story.seen.demand[0].arriving = handful;
        story.seen.now += Duration::from_millis(handful.into());
        assert!(story.ask().want <= handful, "{handful}");
        story.seen.demand[0].arriving = 0;
        let wants =
            (0..5).map(|second| story.second(if second == 0 { handful } else { 0 }, 0, 0, handful).want);
        let wants: Vec<_> = wants.collect();
        assert!(wants.iter().all(|want| *want <= handful), "{handful}: {wants:?}");
    }
}

/// The most that is wanted within five seconds of so many at once, of replicas that take ten.
fn woken_by(handful: u32, worth: Duration) -> Count {
    let mut story = Story::of(Law::Work, |scaling| scaling.work.aim = Aim::Worth(worth));
    std::sync::Arc::make_mut(&mut story.seen.service).scaling.concurrency = std::num::NonZeroU32::new(10);
    fixture::load(&mut story.seen, handful, 0);
    story.seen.demand[0].arriving = handful;
    story.seen.now += Duration::from_millis(handful.into());
    let first = story.ask().want;
    story.seen.demand[0].arriving = 0;
    let later = (0..5).map(|second| story.second(if second == 0 { handful } else { 0 }, 0, 0, handful).want);
    later.fold(first, Count::max)
}

#[test]
fn replicas_of_a_wake_are_half_full_or_full_where_little_is_lost() {
    assert!((1..=4).contains(&woken_by(19, secs(60))), "{}", woken_by(19, secs(60)));
    assert!((1..=2).contains(&woken_by(19, Duration::from_millis(10))));
    assert!((20..=40).contains(&woken_by(200, secs(60))), "{}", woken_by(200, secs(60)));
}

#[test]
fn what_an_earlier_gateway_started_teaches_nothing_of_starts() {
    let mut story = Story::of(Law::Work, |_| ());
    if let Policy::Work(work) = &mut story.policy {
        work.learned.know(0.1, 10.0);
    }
    for number in 1..=9 {
        let mut adopted = fixture::replica(number, Phase::Starting, story.seen.now);
        adopted.id = tidegate_config::name::ReplicaId::new("api".parse().expect("a name"), 1, number);
        story.seen.replicas.push(adopted);
    }
    story.second(0, 0, 0, 0);
    for replica in &mut story.seen.replicas {
        (replica.phase, replica.since) = (Phase::Ready, story.seen.now);
    }
    story.second(0, 0, 0, 0);
    let Policy::Work(work) = &story.policy else { panic!("another law") };
    assert_eq!(work.findings(Aim::Share(0.1)).start, Some(10.0));
}

#[test]
fn what_runs_for_long_keeps_its_replicas() {
    let mut story = Story::of(Law::Work, |_| ()).with(10);
    story.steady(300, 10);
    for busy in [10, 4] {
        for (replica, at) in story.seen.replicas.iter_mut().zip(0..) {
            replica.in_flight = u32::from(at < busy);
        }
        let wanted = (0..300).map(|_| story.second(0, 0, busy, 0).want).last();
        assert_eq!(wanted, Some(busy));
    }
}
