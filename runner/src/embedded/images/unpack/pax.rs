//! PAX extended headers: records of `LENGTH KEY=VALUE\n`. Pure.
//! Holds: attributes that the kernel or overlayfs acts on never come from a tar, except a file's capabilities.

use super::sparse;

/// What one entry's extended headers say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extended {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub user: Option<u64>,
    pub group: Option<u64>,
    /// Seconds and nanoseconds.
    pub modified: Option<(i64, i64)>,
    pub attributes: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: sparse::Stated,
}

/// How long an attribute's name and value may be: the kernel's limits.
const NAME: usize = 255;
const VALUE: usize = 64 << 10;

impl Extended {
    /// Adds what a block of records says; later ones win.
    pub(super) fn add(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        while !records.is_empty() {
            let (key, value, rest) = record(records)?;
            self.note(key, value)?;
            records = rest;
        }
        Ok(())
    }

    fn note(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            return self.attribute(name, value);
        }
        if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
            return self.sparse.note(key, value);
        }
        // An empty value takes back an earlier one.
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = given.then(|| decimal(value)).transpose()?,
            b"uid" => self.user = given.then(|| decimal(value)).transpose()?,
            b"gid" => self.group = given.then(|| decimal(value)).transpose()?,
            b"mtime" => self.modified = given.then(|| time(value)).transpose()?,
            _ => {}
        }
        Ok(())
    }

    fn attribute(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if !kept(name) {
            return Ok(());
        }
        if name.len() > NAME || name.contains(&0) {
            return Err("an extended attribute's name is not valid");
        }
        if value.len() > VALUE {
            return Err("an extended attribute is over 64 KiB");
        }
        self.attributes.retain(|(known, _)| known != name);
        self.attributes.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// Whether an attribute of a tar is kept. `user.overlay.` is what overlayfs reads where it is mounted without privileges.
fn kept(name: &[u8]) -> bool {
    let user =
        name.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty() && !rest.starts_with(b"overlay."));
    user || name == b"security.capability"
}

/// Key, value, and what comes after them.
type Record<'r> = (&'r [u8], &'r [u8], &'r [u8]);

/// The first record.
fn record(records: &[u8]) -> Result<Record<'_>, &'static str> {
    let wrong = "an extended header is not valid";
    let blank = records.iter().take(20).position(|byte| *byte == b' ').ok_or(wrong)?;
    let length = usize::try_from(decimal(&records[..blank])?).map_err(|_| wrong)?;
    if length <= blank + 1 || length > records.len() {
        return Err(wrong);
    }
    let (record, rest) = records.split_at(length);
    let record = record[blank + 1..].strip_suffix(b"\n").ok_or(wrong)?;
    let equals = record.iter().position(|byte| *byte == b'=').ok_or(wrong)?;
    let (key, value) = (&record[..equals], &record[equals + 1..]);
    if key.is_empty() || key.contains(&0) { Err(wrong) } else { Ok((key, value, rest)) }
}

/// A decimal number without a sign.
pub(super) fn decimal(text: &[u8]) -> Result<u64, &'static str> {
    let digit = |sum: u64, digit: &u8| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    };
    let number = text.iter().try_fold(0u64, digit).filter(|_| !text.is_empty());
    number.ok_or("an extended header's number is not valid")
}

/// Seconds, maybe with a fraction. What lies before 1970 counts as 1970.
fn time(text: &[u8]) -> Result<(i64, i64), &'static str> {
    if text.starts_with(b"-") {
        return Ok((0, 0));
    }
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let whole = decimal(parts.next().unwrap_or_default())?;
    let fraction = parts.next().unwrap_or_default();
    let nanoseconds = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = decimal(&nanoseconds.copied().collect::<Vec<u8>>())?;
    let range = "its time is out of range";
    Ok((i64::try_from(whole).map_err(|_| range)?, i64::try_from(nanoseconds).map_err(|_| range)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Extended, &'static str> {
        let mut extended = Extended::default();
        extended.add(text).map(|()| extended)
    }

    #[test]
    fn records_say_what_they_say() {
        let said = read(b"9 path=a\n11 size=12\n18 mtime=1.000005\n9 path=b\n8 gid=7\n").expect("valid");
        assert_eq!(said.path.as_deref(), Some(&b"b"[..]));
        assert_eq!((said.size, said.group, said.modified), (Some(12), Some(7), Some((1, 5000))));
        assert_eq!(read(b"9 path=a\n8 path=\n").expect("valid").path, None);
        assert_eq!(read(b"12 mtime=-1\n").expect("valid").modified, Some((0, 0)));
    }

    #[test]
    fn broken_records_are_refused() {
        for text in [
            &b"9 path=a"[..],
            b"99 path=a\n",
            b"2 path=a\n",
            b"path=a\n",
            b"9 pathna\n",
            b"6 =ab\n",
            b"99999999999999999999999 path=a\n",
            b"11 size=-1\n",
            b"12 size=1x2\n",
            b"9 pat\0=a\n",
            b"0 \n",
        ] {
            assert!(read(text).is_err(), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn attributes_that_the_kernel_acts_on_are_dropped() {
        for (name, kept) in [
            ("user.note", true),
            ("security.capability", true),
            ("trusted.overlay.opaque", false),
            ("trusted.overlay.redirect", false),
            ("user.overlay.opaque", false),
            ("user.", false),
            ("security.selinux", false),
            ("security.capability.x", false),
            ("system.posix_acl_access", false),
        ] {
            assert_eq!(super::kept(name.as_bytes()), kept, "{name}");
        }
    }
}
