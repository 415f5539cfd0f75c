//! Amounts as Kubernetes writes them. A pure reading of words.

/// The factors of units; what has none is a plain number.
const UNITS: [(&str, f64); 14] = [
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("", 1.0),
];

/// A quantity as a number, as in `3920m`, `2` or `16Gi`.
pub(super) fn amount(text: &str) -> Option<f64> {
    let read = |(unit, factor): &(&str, f64)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor);
    UNITS.iter().find_map(read)
}

#[cfg(test)]
mod tests {
    use super::amount;

    #[test]
    fn quantities_are_numbers() {
        for (text, expected) in [
            ("2", Some(2.0)),
            ("3920m", Some(3.92)),
            ("123456789n", Some(0.123_456_789)),
            ("250000u", Some(0.25)),
            ("16Ki", Some(16384.0)),
            ("12Mi", Some(12_582_912.0)),
            ("1.5Gi", Some(1_610_612_736.0)),
            ("5G", Some(5e9)),
            ("1e3", Some(1000.0)),
            ("x", None),
            ("", None),
        ] {
            let read = amount(text);
            let alike = |(a, b): (f64, f64)| (a - b).abs() <= b * 1e-12;
            assert!(
                read.is_some() == expected.is_some() && read.zip(expected).is_none_or(alike),
                "{text}: {read:?}"
            );
        }
    }
}
