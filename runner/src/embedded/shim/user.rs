//! Who a replica's process is, by the image's own lists of users and groups.

use std::{fs::File, io::Read, path::Path};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::failure::{Context, Failure, Result};

/// More than any list of users has.
const LONGEST: u64 = 16 << 20;

/// Who a replica's process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: String,
}

impl User {
    /// By the lists in a root file system. Links in it lead nowhere else.
    pub(super) fn within(rootfs: &Path, text: &str) -> Result<Self> {
        let (users, groups) = (list(rootfs, "etc/passwd")?, list(rootfs, "etc/group")?);
        resolve(text, &users, &groups).map_err(Failure::permanent)
    }
}

fn list(rootfs: &Path, name: &str) -> Result<String> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, rootfs, flags, Mode::empty()).context(|| rootfs.display().to_string())?;
    // A pipe in its place would be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(file) = openat2(&root, name, flags, Mode::empty(), ResolveFlags::IN_ROOT) else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    File::from(file).take(LONGEST).read_to_end(&mut bytes).context(|| format!("{name} in the image"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `name`, `uid`, `name:group`, `uid:gid` and mixtures of them; nothing is root. A name wins over a number.
fn resolve(text: &str, users: &str, groups: &str) -> std::result::Result<User, String> {
    let (who, group) = text.split_once(':').map_or((text, None), |(who, group)| (who, Some(group)));
    let who = if who.is_empty() { "0" } else { who };
    let entry = lines(users).find(|entry| entry[0] == who);
    let entry = entry.or_else(|| lines(users).find(|entry| who.parse().ok() == number(entry, 2)));
    let uid = entry.as_ref().and_then(|entry| number(entry, 2)).or_else(|| who.parse().ok());
    let uid = uid
        .ok_or_else(|| format!("the image has no user `{who}` in its /etc/passwd: set `user` to a number"))?;
    let name = entry.as_ref().map(|entry| entry[0]);
    let home = entry.as_ref().and_then(|entry| entry.get(5).copied()).filter(|home| !home.is_empty());
    let home = home.unwrap_or("/").to_owned();
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        let known = lines(groups).find(|entry| entry[0] == group).and_then(|entry| number(&entry, 2));
        let gid = known.or_else(|| group.parse().ok());
        let gid = gid.ok_or_else(|| {
            format!("the image has no group `{group}` in its /etc/group: set it to a number")
        })?;
        return Ok(User { uid, gid, groups: Vec::new(), home });
    }
    let gid = entry.as_ref().and_then(|entry| number(entry, 3)).unwrap_or(0);
    let member = |entry: &Vec<&str>| {
        entry.get(3).is_some_and(|members| members.split(',').any(|member| Some(member) == name))
    };
    let mut also: Vec<u32> = lines(groups).filter(member).filter_map(|entry| number(&entry, 2)).collect();
    also.sort_unstable();
    also.dedup();
    Ok(User { uid, gid, groups: also, home })
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| line.split(':').collect())
}

fn number(entry: &[&str], field: usize) -> Option<u32> {
    entry.get(field)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\n# no one\n\nwww:x:33:34:www:/var/www:/bin/sh\n7:x:70:70::/seven:\nbroken\n";
    const GROUPS: &str = "root:x:0:\nwww:x:34:\nssl:x:110:root,www\ntape:x:26:www\nlog:x:4:other\n";

    #[test]
    fn users_are_resolved_by_the_images_own_lists() {
        for (text, expected) in [
            ("", Ok((0, 0, vec![110], "/root"))),
            ("root", Ok((0, 0, vec![110], "/root"))),
            ("www", Ok((33, 34, vec![26, 110], "/var/www"))),
            ("33", Ok((33, 34, vec![26, 110], "/var/www"))),
            ("www:ssl", Ok((33, 110, vec![], "/var/www"))),
            ("www:", Ok((33, 34, vec![26, 110], "/var/www"))),
            ("1000", Ok((1000, 0, vec![], "/"))),
            ("1000:1001", Ok((1000, 1001, vec![], "/"))),
            (":ssl", Ok((0, 110, vec![], "/root"))),
            ("7", Ok((70, 70, vec![], "/seven"))),
            ("nobody", Err("no user `nobody`")),
            ("-1", Err("no user `-1`")),
            ("www:nogroup", Err("no group `nogroup`")),
        ] {
            match (resolve(text, USERS, GROUPS), expected) {
                (Ok(user), Ok((uid, gid, groups, home))) => {
                    let home = home.to_owned();
                    assert_eq!(user, User { uid, gid, groups, home }, "{text}");
                }
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (found, expected) => panic!("{text}: expected {expected:?}, got {found:?}"),
            }
        }
    }

    #[test]
    fn an_image_without_lists_knows_numbers() {
        assert_eq!(resolve("5:6", "", ""), Ok(User { uid: 5, gid: 6, groups: vec![], home: "/".to_owned() }));
        assert_eq!(resolve("", "", "").map(|user| user.uid), Ok(0));
    }
}
