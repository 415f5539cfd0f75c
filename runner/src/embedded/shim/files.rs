//! What a replica sees of the machine as files and variables: names and addresses, and its secrets, which are in memory
//! and nowhere else. Holds: no error carries a secret's value.

use std::{
    fs::{self, File, Permissions},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
};

use super::{
    failure::{Context, Failure, Result},
    user::User,
};
use crate::{
    embedded::task::{Folder, Task},
    secrets,
};

/// Where programs are looked for if the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What fits into a secret that is a file.
const LONGEST: u64 = 1 << 20;

/// The environment: the task's, secrets, and what every program expects.
pub(super) fn environment(task: &Task, user: &User) -> Result<Vec<String>> {
    let mut env = task.env.clone();
    for (variable, file) in &task.secrets {
        let value = secrets::value(variable, file).map_err(|error| Failure::permanent(error.message))?;
        env.retain(|pair| pair.split_once('=').is_none_or(|(name, _)| name != variable));
        env.push(format!("{variable}={value}"));
    }
    for (name, value) in [("PATH", PATH), ("HOME", &user.home), ("HOSTNAME", &task.id.to_string())] {
        if !env.iter().any(|pair| pair.split_once('=').is_some_and(|(known, _)| known == name)) {
            env.push(format!("{name}={value}"));
        }
    }
    Ok(env)
}

/// Writes what is bound into the replica.
pub(super) fn write(folder: &Folder, task: &Task, user: &User) -> Result<()> {
    let etc = folder.bundle().join("etc");
    for (name, text) in
        [("resolv.conf", &task.resolv_conf), ("hosts", &task.hosts), ("hostname", &format!("{}\n", task.id))]
    {
        fs::write(etc.join(name), text).context(|| name.to_owned())?;
    }
    let secrets = folder.bundle().join("secrets");
    for (name, from) in &task.secret_files {
        let told = |why: &dyn std::fmt::Display| {
            Failure::permanent(format!("the secret {name} cannot be read from {}: {why}", from.display()))
        };
        if name.is_empty() || name.contains('/') || name == "." || name == ".." {
            return Err(told(&"it is no name of a file"));
        }
        let mut bytes = Vec::new();
        let read = File::open(from).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
        read.map_err(|error| told(&error))?;
        if bytes.len() as u64 > LONGEST {
            return Err(told(&"it is longer than 1 MiB"));
        }
        let to = secrets.join(name);
        let made = File::options().write(true).create_new(true).mode(0o400).open(&to);
        made.and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| chown(&to, Some(user.uid), Some(user.gid)))
            .map_err(|error| told(&error))?;
    }
    fs::set_permissions(&secrets, Permissions::from_mode(0o500))
        .and_then(|()| chown(&secrets, Some(user.uid), Some(user.gid)))
        .context(|| "the secrets' folder".into())
}
