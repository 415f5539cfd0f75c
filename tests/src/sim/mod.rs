//! Simulation: scenarios from seeds, and what must hold after every event of them.
//! The world itself is the gateway's [`simulate`](tidegate::simulate); everything here only looks.

pub mod checks;
pub mod generate;
pub mod rules;
pub mod shadow;

use std::{collections::VecDeque, time::Duration};

use tidegate::simulate::{
    record::{Note, Outcome, RequestRecord},
    scenario::Scenario,
    world::{Step, World},
};

use self::{checks::Checks, shadow::Check};

/// Steps that a failure shows.
const SHOWN: usize = 25;

/// Runs a scenario to its end with all checks.
///
/// # Errors
/// What did not hold, and the steps that led there.
pub fn run(scenario: Scenario, until: Duration) -> Result<(World, Checks), String> {
    run_with(scenario, until, |_, _| Ok(()))
}

/// The same, with one more check after every step.
///
/// # Errors
/// What did not hold, and the steps that led there.
pub fn run_with(
    scenario: Scenario,
    until: Duration,
    mut also: impl FnMut(&World, &Step) -> Check,
) -> Result<(World, Checks), String> {
    let mut world = World::new(scenario);
    let mut checks = Checks::new(&world);
    let mut last = VecDeque::new();
    let log = std::env::var_os("SIM_SEED").is_some();
    for number in 1_u64.. {
        let step = world.step();
        if log {
            print!("{}", shown(number, &step));
        }
        let found = checks.after(&world, &step).and_then(|()| also(&world, &step));
        if last.len() == SHOWN {
            last.pop_front();
        }
        let at = step.at;
        last.push_back((number, step));
        if let Err(what) = found {
            let steps: String = last.iter().map(|(number, step)| shown(*number, step)).collect();
            return Err(format!("step {number}, {at:?}: {what}\n{steps}"));
        }
        if at > until {
            break;
        }
    }
    Ok((world, checks))
}

/// How many requests ended like this.
#[must_use]
pub fn ended(world: &World, test: impl Fn(&RequestRecord, &Outcome) -> bool) -> usize {
    world
        .requests()
        .filter(|record| record.end.as_ref().is_some_and(|(_, outcome)| test(record, outcome)))
        .count()
}

/// One step in a few lines.
fn shown(number: u64, step: &Step) -> String {
    let mut text = format!("{number} {:?} {}\n", step.at, step.what);
    for note in &step.notes {
        text += &match note {
            Note::Evaluated(looked) => format!(
                "    {} wants {}: {} {}; {} steps {:?}\n",
                looked.seen.service.name,
                looked.decision.want,
                looked.decision.reason,
                looked.decision.refuse.as_ref().map_or("", |refuse| refuse.why.label()),
                looked.plan.steps.len(),
                looked.plan.no_fit.as_ref().map(ToString::to_string),
            ),
            other => format!("    {other:?}\n"),
        };
    }
    text
}
