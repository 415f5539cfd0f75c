//! What images say, in the words that every engine passes on.

/// The TCP ports among what is exposed, as in `8080/tcp`, `53/udp` or `80`; sorted.
pub(crate) fn exposed(ports: &[String]) -> Vec<u16> {
    let tcp = |port: &String| port.strip_suffix("/tcp").unwrap_or(port).parse().ok();
    let mut ports: Vec<u16> = ports.iter().filter_map(tcp).collect();
    ports.sort_unstable();
    ports
}

/// A HEALTHCHECK as an argument list.
pub(crate) fn argv(test: &[String]) -> Option<Vec<String>> {
    match test.split_first() {
        Some((kind, rest)) if kind == "CMD" && !rest.is_empty() => Some(rest.to_vec()),
        Some((kind, [line])) if kind == "CMD-SHELL" => {
            Some(vec!["/bin/sh".into(), "-c".into(), line.clone()])
        }
        _ => None,
    }
}

/// The number of the signal that asks a container to end, from a STOPSIGNAL as in `SIGQUIT`, `QUIT`, `3` or `SIGRTMIN+3`.
pub(crate) fn stop_signal(text: &str) -> Option<i32> {
    /// As the C library counts: it keeps the first two for itself.
    const RTMIN: i32 = 34;
    let text = text.trim().to_ascii_uppercase();
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    if let Some(above) = name.strip_prefix("RTMIN") {
        let above = if above.is_empty() { 0 } else { above.strip_prefix('+')?.parse::<i32>().ok()? };
        return (0..=30).contains(&above).then_some(RTMIN + above);
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn healthchecks_become_arguments() {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        for (test, expected) in [
            (list(&["CMD", "/check", "-q"]), Some(list(&["/check", "-q"]))),
            (list(&["CMD-SHELL", "curl -f x"]), Some(list(&["/bin/sh", "-c", "curl -f x"]))),
            (list(&["NONE"]), None),
            (list(&["CMD"]), None),
            (list(&[]), None),
        ] {
            assert_eq!(argv(&test), expected, "{test:?}");
        }
    }

    #[test]
    fn only_tcp_ports_count() {
        let ports = ["8080/tcp", "53/udp", "80"].map(String::from);
        assert_eq!(exposed(&ports), [80, 8080]);
    }

    #[test]
    fn stop_signals_have_names_and_numbers() {
        for (text, expected) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("SIGWINCH", Some(28)),
            ("37", Some(37)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN-1", None),
            ("SIGNOTHING", None),
            ("0", None),
            ("65", None),
        ] {
            assert_eq!(stop_signal(text), expected, "{text}");
        }
    }
}
