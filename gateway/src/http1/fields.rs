//! The fields of a head or of a trailer section, whose values stay where they were read. Pure.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Bad;

/// How many fields a section may have.
pub(crate) const MOST: usize = 128;

/// The fields that were found in `section`, of which each line and the whole end as they must. Each name is shown to `look`.
pub(crate) fn map(
    section: &Bytes,
    found: &[httparse::Header<'_>],
    mut look: impl FnMut(&HeaderName),
) -> Result<HeaderMap, Bad> {
    let mut map = HeaderMap::with_capacity(found.len());
    for field in found {
        if !follows_a_line(section, field.name) {
            return Err(Bad::BareLineFeed);
        }
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Bad::Field)?;
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value)).map_err(|_| Bad::Field)?;
        look(&name);
        map.append(name, value);
    }
    Ok(map)
}

/// Whether what stands before `name`, which is a part of `section`, is a line's end of two characters, or nothing. The parser
/// would be content with one.
fn follows_a_line(section: &[u8], name: &str) -> bool {
    let at = (name.as_ptr() as usize).wrapping_sub(section.as_ptr() as usize);
    section.get(..at).is_some_and(|before| before.is_empty() || before.ends_with(b"\r\n"))
}
