//! What is run and how.

use super::{World, environment, image, value, volumes};
use crate::{
    decode::{At, leaf::Text},
    problem::Draft,
    raw,
    spec::{Launch, Profile, Reserve, Resources},
    units::Bytes,
};

/// Docker's own lower end.
const LEAST_MEMORY: Bytes = Bytes::mib(6);
/// Below it not even the folders fit that every container gets.
const LEAST_DISK: Bytes = Bytes::mib(1);

pub(super) fn check(
    name: &At<String>,
    raw: &raw::Service,
    world: &World<'_>,
    allowed: &volumes::Allowed,
    problems: &mut Vec<Draft>,
) -> Launch {
    let said = |key| raw.refused.contains(&key);
    if raw.image.is_none() && raw.upstreams.is_none() && !said("image") && !said("upstreams") {
        let draft = Draft::new(&name.key, &name.at, "has no image");
        problems.push(draft.allowed("image = \"...\", as in \"nginx:1.27\""));
    }
    let image = raw.image.as_ref().map(|image| image::check(image, world, problems));
    let default = Launch::of(image.unwrap_or_default());
    let (env, secrets) = environment::check(raw, world, problems);
    let volumes::Mounts { volumes, tmpfs, disks } =
        volumes::check(raw.volumes.as_ref(), raw.secret_files.as_ref(), world, allowed, problems);
    let profile = value::of(raw.profile.clone(), default.profile);
    check_user(name, raw, profile, problems);
    if let Some(folder) = raw.working_dir.as_ref().filter(|folder| !folder.value.starts_with('/')) {
        problems.push(folder.problem("not absolute").allowed("a path in the container that starts with '/'"));
    }
    Launch {
        pull: value::of(raw.pull.clone(), default.pull),
        command: words(&raw.command),
        args: words(&raw.args),
        env,
        secrets,
        secret_files: environment::secret_files(raw, world, problems),
        working_dir: raw.working_dir.clone().map(|folder| folder.value),
        user: raw.user.clone().map(|user| user.value.0),
        port: raw.port.as_ref().map(|port| port.value.0),
        protocol: value::of(raw.protocol.clone(), default.protocol),
        volumes,
        tmpfs,
        disks,
        resources: resources(value::of(raw.resources.clone(), raw::Resources::default()), problems),
        profile,
        image: default.image,
    }
}

fn words(words: &Option<At<Vec<At<Text>>>>) -> Vec<String> {
    words.iter().flat_map(|words| &words.value).map(|word| word.value.clone()).collect()
}

fn check_user(name: &At<String>, raw: &raw::Service, profile: Profile, problems: &mut Vec<Draft>) {
    const NOT_ROOT: &str = "a user that is not root, as in user = \"1000:1000\"";
    let Some(user) = &raw.user else {
        if profile == Profile::Strict {
            let at = raw.profile.as_ref().map_or(&name.at, |profile| &profile.at);
            let draft = Draft::new(&name.key, at, "profile strict needs a user");
            problems.push(draft.allowed(NOT_ROOT));
        }
        return;
    };
    let word =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let text = &user.value.0;
    if text.split(':').count() > 2 || !text.split(':').all(word) {
        problems.push(user.problem("not a user").allowed("\"user\", \"uid\" or \"uid:gid\""));
    }
    let first = text.split(':').next().unwrap_or("");
    let root = first == "root" || first.parse() == Ok(0_u64);
    if profile == Profile::Strict && root {
        problems.push(user.problem("profile strict does not run as root").allowed(NOT_ROOT));
    }
}

fn resources(raw: raw::Resources, problems: &mut Vec<Draft>) -> Resources {
    let default = Resources::default();
    let limit = raw.memory.clone();
    let memory = value::size(raw.memory, LEAST_MEMORY, default.memory, problems);
    let reserve = value::of(raw.reserve, raw::Reserve::default());
    let reserved = reserve.memory.clone();
    // A small limit alone must not clash with the default reserve.
    let counted = value::size(reserve.memory, Bytes(0), default.reserve.memory.min(memory), problems);
    if let Some(reserved) = reserved.filter(|_| counted > memory) {
        let draft =
            reserved.problem("more than a replica may use").allowed(format!("at most memory, {memory}"));
        problems.push(match &limit {
            Some(limit) => draft.also(&limit.at, "memory"),
            None => draft,
        });
    }
    Resources {
        memory,
        cpu: value::cores(&raw.cpu, 0.01, problems),
        pids: value::positive(raw.pids, default.pids, problems),
        disk: raw.disk.map(|disk| value::size(Some(disk), LEAST_DISK, Bytes(0), problems)),
        scratch: value::of(raw.scratch, default.scratch),
        reserve: Reserve {
            memory: counted,
            cpu: value::cores(&reserve.cpu, 0.0, problems).unwrap_or(default.reserve.cpu),
        },
    }
}
