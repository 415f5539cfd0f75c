//! Which installation of Tidegate a replica belongs to.
//! Made once per state directory by the gateway; every runner stamps it on what it makes. Absent: chance, files.

use std::{fmt, str::FromStr};

/// The random 128-bit id of a state directory, as 32 lower-case hex digits.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct InstanceId(String);

/// The text is not an instance id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 hexadecimal digits")]
pub struct InvalidInstance;

impl InstanceId {
    /// The id of these random bits.
    #[must_use]
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// All 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 8 digits: what container and network names carry.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

impl FromStr for InstanceId {
    type Err = InvalidInstance;
    fn from_str(text: &str) -> Result<Self, InvalidInstance> {
        let valid = text.len() == 32 && text.bytes().all(|c| c.is_ascii_hexdigit());
        if valid { Ok(Self(text.to_ascii_lowercase())) } else { Err(InvalidInstance) }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_hex_digits() {
        let id = InstanceId::from_bits(0xAB << 120);
        assert_eq!(id.short(), "ab000000");
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in ["", "ab", "zz000000000000000000000000000000", "ab0000000000000000000000000000000"] {
            assert_eq!(bad.parse::<InstanceId>(), Err(InvalidInstance), "{bad}");
        }
    }
}
