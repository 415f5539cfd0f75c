//! What every [`Runner`] must do, as one check that runs against each implementation.
//! Panics at the first thing that does not hold. Leaves no replica behind when it passes.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::BoxStream};
use tidegate_config::{
    name::{ReplicaId, ServiceName},
    spec::{Launch, Observed, ObservedState, Revision, StartSpec, Target},
};
use tokio::time::timeout;

use crate::{Event, Kind, Prepared, Reached, Runner};

/// Longer than any engine takes for one step.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the check needs to know of the implementation.
pub struct World {
    /// An image and a command that runs until it is stopped.
    pub launch: Launch,
    /// Where replicas run.
    pub target: Target,
    /// The runner that a gateway would have after a restart.
    pub again: Box<dyn Fn() -> BoxFuture<'static, Arc<dyn Runner>> + Send + Sync>,
    /// Ends a replica's process from outside, as SIGKILL does.
    pub kill: Box<dyn Fn(ReplicaId) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// Runs the whole contract.
pub async fn check(runner: Arc<dyn Runner>, world: World) {
    let image = &world.launch.image;
    let pull = world.launch.pull;
    let prepared = runner.prepare(image, pull, Arc::new(|_| ())).await.expect("the image is there");
    runner.ping().await.expect("it answers");
    absent_is_no_error(&*runner, &world).await;
    starts_once(&*runner, &world, &prepared).await;
    tells_exits(&*runner, &world, &prepared).await;
    keeps_and_restarts(&*runner, &world, &prepared).await;
    freezes_and_thaws(&*runner, &world, &prepared).await;
    changes_of_ours_are_not_told(&*runner, &world, &prepared).await;
    sleeps_in_both_ways(&*runner, &world, &prepared).await;
    is_adopted(&*runner, &world, &prepared).await;
    assert_eq!(runner.list().await.expect("it lists"), [], "the check leaves nothing behind");
}

/// Stopping and removing what is gone is no error; using it is, with the right kind.
async fn absent_is_no_error(runner: &dyn Runner, _world: &World) {
    let id = replica(1);
    runner.remove(&id).await.expect("removing what is gone");
    runner.stop(&id, Duration::ZERO, false).await.expect("stopping what is gone");
    for outcome in [runner.freeze(&id).await, runner.thaw(&id).await, runner.restart(&id).await] {
        assert_eq!(outcome.expect_err("it does not exist").kind, Kind::Gone);
    }
}

/// A start tells where the replica is reached; a second start of the same is no error and makes nothing.
async fn starts_once(runner: &dyn Runner, world: &World, prepared: &Prepared) {
    let spec = spec(world, prepared, 2);
    let mut events = runner.events();
    runner.start(&spec).await.expect("it starts");
    let told = until(&mut events, |event| match event {
        Event::Running(observed) if observed.id == spec.id => Some(observed),
        _ => None,
    })
    .await;
    let own = |port| runner.reach() == Reached::Published || port == spec.port;
    assert!(told.address.is_some_and(|a| own(a.port())), "{told:?}");
    runner.start(&spec).await.expect("starting what runs");
    let listed = runner.list().await.expect("it lists");
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (&listed[0].id, &listed[0].revision, &listed[0].digest),
        (&spec.id, &spec.revision, &spec.digest)
    );
    assert_eq!((&listed[0].state, listed[0].address), (&ObservedState::Running, told.address));
    runner.remove(&spec.id).await.expect("it goes");
    until(&mut events, |event| (event == Event::Gone(spec.id.clone())).then_some(())).await;
    runner.remove(&spec.id).await.expect("removing it again");
    assert_eq!(runner.list().await.expect("it lists"), []);
}

/// A process that ends is told of, and what is left of it stays until it is removed.
async fn tells_exits(runner: &dyn Runner, world: &World, prepared: &Prepared) {
    let spec = spec(world, prepared, 3);
    let mut events = runner.events();
    runner.start(&spec).await.expect("it starts");
    (world.kill)(spec.id.clone()).await;
    let exit = until(&mut events, |event| match event {
        Event::Exited { id, exit } if id == spec.id => Some(exit),
        _ => None,
    })
    .await;
    assert_eq!((exit.code, exit.out_of_memory), (137, false), "{exit:?}");
    assert_eq!(state(runner, &spec.id).await, Some(ObservedState::Exited(exit)));
    runner.stop(&spec.id, Duration::ZERO, true).await.expect("stopping what is stopped");
    runner.remove(&spec.id).await.expect("it goes");
}

async fn keeps_and_restarts(runner: &dyn Runner, world: &World, prepared: &Prepared) {
    if !runner.capabilities().keep_stopped {
        return;
    }
    let spec = spec(world, prepared, 4);
    runner.start(&spec).await.expect("it starts");
    runner.stop(&spec.id, Duration::ZERO, true).await.expect("it stops");
    let listed = only(runner).await;
    assert!(matches!(listed.state, ObservedState::Exited(_)) && listed.address.is_none(), "{listed:?}");
    runner.stop(&spec.id, Duration::ZERO, true).await.expect("stopping what is stopped");
    runner.freeze(&spec.id).await.expect_err("what is stopped cannot be frozen");
    for _ in 0..2 {
        let mut events = runner.events();
        runner.restart(&spec.id).await.expect("it starts again; restarting what runs is no error");
        let told = until(&mut events, |event| match event {
            Event::Running(observed) if observed.id == spec.id => observed.address,
            _ => None,
        })
        .await;
        let listed = only(runner).await;
        assert_eq!((listed.state, listed.address), (ObservedState::Running, Some(told)));
    }
    runner.stop(&spec.id, Duration::ZERO, false).await.expect("it stops");
    assert_eq!(state(runner, &spec.id).await, None);
}

async fn freezes_and_thaws(runner: &dyn Runner, world: &World, prepared: &Prepared) {
    if !runner.capabilities().freeze {
        return;
    }
    let spec = spec(world, prepared, 5);
    runner.start(&spec).await.expect("it starts");
    for _ in 0..2 {
        runner.freeze(&spec.id).await.expect("it freezes, also twice");
        assert_eq!(state(runner, &spec.id).await, Some(ObservedState::Frozen));
    }
    for _ in 0..2 {
        runner.thaw(&spec.id).await.expect("it thaws, also twice");
        assert_eq!(state(runner, &spec.id).await, Some(ObservedState::Running));
    }
    runner.freeze(&spec.id).await.expect("it freezes");
    runner.stop(&spec.id, Duration::ZERO, false).await.expect("a frozen one stops");
    assert_eq!(state(runner, &spec.id).await, None);
}

/// What we do to a replica's sleep is told by the call that does it, and by no event.
async fn changes_of_ours_are_not_told(runner: &dyn Runner, world: &World, prepared: &Prepared) {
    if !runner.capabilities().freeze {
        return;
    }
    let spec = spec(world, prepared, 7);
    let mut events = runner.events();
    runner.start(&spec).await.expect("it starts");
    until(&mut events, |event| matches!(event, Event::Running(_)).then_some(())).await;
    runner.freeze(&spec.id).await.expect("it freezes");
    runner.thaw(&spec.id).await.expect("it thaws");
    runner.remove(&spec.id).await.expect("it goes");
    let mut between = Vec::new();
    loop {
        let next = timeout(PATIENCE, events.next()).await.expect("the event is told");
        match next.expect("events end only with the runner") {
            Event::Gone(id) if id == spec.id => break,
            other => between.push(other),
        }
    }
    // An engine may tell the end of what is removed by force.
    between.retain(|event| !matches!(event, Event::Exited { .. }));
    assert_eq!(between, []);
}

/// A frozen replica keeps its address, and can be stopped and kept: then it starts like any other.
async fn sleeps_in_both_ways(runner: &dyn Runner, world: &World, prepared: &Prepared) {
    let can = runner.capabilities();
    if !can.freeze || !can.keep_stopped {
        return;
    }
    let spec = spec(world, prepared, 8);
    runner.start(&spec).await.expect("it starts");
    let before = only(runner).await.address;
    runner.freeze(&spec.id).await.expect("it freezes");
    let frozen = only(runner).await;
    assert_eq!((frozen.state, frozen.address), (ObservedState::Frozen, before));
    runner.stop(&spec.id, Duration::ZERO, true).await.expect("a frozen one stops");
    assert!(matches!(only(runner).await.state, ObservedState::Exited(_)));
    runner.restart(&spec.id).await.expect("it starts again");
    runner.freeze(&spec.id).await.expect("it freezes");
    runner.restart(&spec.id).await.expect("what is frozen is thawed");
    assert_eq!(only(runner).await.state, ObservedState::Running);
    runner.freeze(&spec.id).await.expect("it freezes");
    runner.remove(&spec.id).await.expect("a frozen one goes");
    assert_eq!(state(runner, &spec.id).await, None);
}

/// The next gateway's runner sees all that this one made, and may remove it.
async fn is_adopted(runner: &dyn Runner, world: &World, prepared: &Prepared) {
    let spec = spec(world, prepared, 6);
    runner.start(&spec).await.expect("it starts");
    let before = runner.list().await.expect("it lists");
    let next = (world.again)().await;
    assert_eq!(next.list().await.expect("it lists"), before);
    next.remove(&spec.id).await.expect("it goes");
    assert_eq!(state(runner, &spec.id).await, None);
}

fn replica(number: u64) -> ReplicaId {
    let service: ServiceName = "contract".parse().expect("a valid name");
    ReplicaId::new(service, 1, number)
}

fn spec(world: &World, prepared: &Prepared, number: u64) -> StartSpec {
    StartSpec {
        id: replica(number),
        revision: Revision(format!("r{number}")),
        launch: world.launch.clone(),
        digest: prepared.digest.clone(),
        port: 8080,
        target: world.target.clone(),
    }
}

async fn only(runner: &dyn Runner) -> Observed {
    let listed = runner.list().await.expect("it lists");
    <[Observed; 1]>::try_from(listed).map(|[one]| one).expect("there is one")
}

async fn state(runner: &dyn Runner, id: &ReplicaId) -> Option<ObservedState> {
    let listed = runner.list().await.expect("it lists");
    listed.into_iter().find(|observed| observed.id == *id).map(|observed| observed.state)
}

async fn until<T>(events: &mut BoxStream<'static, Event>, wanted: impl Fn(Event) -> Option<T>) -> T {
    let search = async {
        loop {
            let event = events.next().await.expect("events end only with the runner");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("the event is told")
}
