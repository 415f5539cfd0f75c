//! What is advised is worth following, and what contradicts itself is told: as a problem where nothing could come of it,
//! as a note where it could.

use std::{fs, path::Path};

use tidegate_config::{Format, load, model::Compression, notes, parse};

const WEB: &str = "services.web.image = 'a'\n";
const TLS: &str = "gateway.listen = [{ address = '0.0.0.0:443', tls = true }]\n\
                   gateway.tls.certificates = [{ cert = 'a', key = 'b' }]\n";

/// The advice on the only problem of a text: what is allowed, and the help.
fn advice(text: &str, format: Format) -> (String, Option<String>) {
    let problems = parse(text, format).expect_err(text);
    let [only] = problems.list() else { panic!("{text}: {problems}") };
    (only.allowed.clone().unwrap_or_default(), only.help.clone())
}

fn help(line: &str) -> Option<String> {
    advice(&format!("{WEB}{line}"), Format::Toml).1
}

/// Whether a text without its last line is good and with it has one problem, at `key`.
fn contradicts(good: &str, line: &str, key: &str) {
    if let Err(problems) = parse(good, Format::Toml) {
        panic!("{problems}");
    }
    let problems = parse(&format!("{good}{line}"), Format::Toml).expect_err(line);
    let keys: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, [key], "{problems}");
}

fn noted(text: &str, parts: &[&str]) {
    let notes = match parse(text, Format::Toml) {
        Ok(model) => notes(&model),
        Err(problems) => panic!("{problems}"),
    };
    assert_eq!(notes.len(), parts.len(), "{text}: {notes:?}");
    for (note, part) in notes.iter().zip(parts) {
        assert!(note.contains(part), "{text}: {note}");
    }
}

#[test]
fn numbers_get_the_unit_that_makes_sense() {
    for (line, unit) in [
        ("gateway.limits.handshake_rate = 10", "write \"10/s\" if so many per second are meant"),
        ("gateway.limits.handshake_rate = '10'", "write \"10/s\" if so many per second are meant"),
        ("services.web.wake.per_client = 3", "write \"3/s\" if so many per second are meant"),
        ("services.web.middleware.rate_limit.rate = 5", "write \"5/s\" if so many per second are meant"),
        ("gateway.limits.header_bytes = 1024", "write \"1KiB\" if bytes are meant"),
        ("gateway.limits.header_bytes = '65536'", "write \"64KiB\" if bytes are meant"),
        ("gateway.limits.uri_bytes = 900", "write \"900B\" if bytes are meant"),
        ("gateway.limits.send_rate = 500", "write \"500B\" if bytes are meant"),
        ("services.web.middleware.compression.min_size = 860", "write \"860B\" if bytes are meant"),
        ("services.web.middleware.body_limit = 1000000", "write \"1000000B\" if bytes are meant"),
        ("services.web.resources.memory = 512", "write \"512MiB\" if mebibytes are meant"),
        ("gateway.limits.header_bytes = '0'", "write \"0B\" if bytes are meant"),
    ] {
        assert_eq!(help(line).as_deref(), Some(unit), "{line}");
    }
    // A number that no spelling makes a rate or a size gets no advice.
    for line in ["gateway.limits.handshake_rate = 0", "gateway.limits.body_bytes = '99999999999999999999'"] {
        assert_eq!(help(line), None, "{line}");
    }
    assert_eq!(help("gateway.limits.handshake_rate = true").as_deref(), None);
}

#[test]
fn words_for_idle_are_understood() {
    let idle = |text: &str| help(&format!("services.web.scaling.idle = '{text}'"));
    for never in ["never", "Never", "off"] {
        assert_eq!(idle(never).as_deref(), Some("`min = 1` keeps a replica for good"), "{never}");
    }
    assert_eq!(idle("Auto").as_deref(), Some("did you mean \"auto\"?"));
    assert_eq!(idle("KPA").as_deref(), Some("did you mean \"kpa\"?"));
    assert_eq!(idle("60").as_deref(), Some("write \"60s\" if seconds are meant"));
    assert_eq!(idle("soon"), None);
}

#[test]
fn what_can_be_switched_says_so() {
    let keys = "a table with keys from: encodings, types, min_size";
    for (text, wanted) in [("'gzip'", None), ("'yes'", Some("write true")), ("'off'", Some("write false"))] {
        let (allowed, help) =
            advice(&format!("{WEB}services.web.middleware.compression = {text}"), Format::Toml);
        assert_eq!((allowed, help.as_deref()), (format!("true, false or {keys}"), wanted), "{text}");
    }
    let yaml = "services: { web: { image: a, middleware: { compression: yes } } }";
    assert_eq!(advice(yaml, Format::Yaml), (format!("true, false or {keys}"), Some("write true".into())));
    // `true` alone says nothing here, and is not advised.
    let (allowed, _) = advice(&format!("{WEB}services.web.middleware.cors = 'yes'"), Format::Toml);
    assert!(allowed.starts_with("false or a table with keys from: origins"), "{allowed}");
    let (allowed, _) = advice(&format!("{WEB}services.web.middleware.timeout = true"), Format::Toml);
    assert!(allowed.starts_with("false or a duration"), "{allowed}");
}

#[test]
fn tables_that_may_be_empty_are_switched_on_by_being_there() {
    for key in ["hedge", "circuit", "adaptive", "ejection"] {
        let help = help(&format!("services.web.balance.{key} = true"));
        assert_eq!(help.as_deref(), Some("write {} for the defaults"), "{key}");
    }
    assert_eq!(help("gateway.access_log = true").as_deref(), Some("write {} for the defaults"));
    for line in ["services.web.balance.hedge = 5", "services.web.balance.affinity = true"] {
        assert_eq!(help(line), None, "{line}");
    }
}

#[test]
fn variables_switch_on_what_a_file_can() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tidegate.toml");
    fs::write(&file, WEB).expect("a file");
    let set = |file: &Path, text: &str| {
        let name = "TIDEGATE_SERVICES__WEB__MIDDLEWARE__COMPRESSION".to_owned();
        let model = load(file, [(name, text.to_owned())]).map_err(|problems| problems.to_string())?;
        let web = &model.services[&"web".parse().expect("a name")];
        let middleware = web.routes[0].middleware.as_ref();
        Ok::<_, String>(middleware.and_then(|middleware| middleware.compression.clone()))
    };
    assert_eq!(set(&file, "true"), Ok(Some(Compression::default())));
    assert_eq!(set(&file, "false"), Ok(None));
    assert!(set(&file, "yes").is_err_and(|problems| problems.contains("help: write true")));
}

#[test]
fn what_is_for_tcp_is_refused_over_http() {
    contradicts(WEB, "services.web.upstream.proxy_protocol = true", "services.web.upstream.proxy_protocol");
    contradicts(WEB, "services.web.upstream.idle_timeout = '1h'", "services.web.upstream.idle_timeout");
    noted(&format!("{WEB}services.web.upstream.proxy_protocol = false"), &[]);
}

#[test]
fn settings_that_a_scaling_policy_does_not_look_at_are_noted() {
    let scaling = |text: &str| format!("{WEB}services.web.scaling = {{ {text} }}\n");
    noted(&scaling("policy = 'kpa', target = 0.5, max_up_rate = 10"), &[]);
    noted(&scaling("policy = 'hpa', target = 0.5"), &[]);
    let said = "services.web.scaling has `target`, `max_up_rate`, which `policy = \"work\"` does not look at: \
                leave them out, or say `policy = \"kpa\"`";
    for policy in ["", "policy = 'work', "] {
        noted(&scaling(&format!("{policy}target = 0.5, max_up_rate = 10")), &[said]);
    }
    // Also where they say what holds anyway.
    noted(&scaling("target = 0.7"), &["has `target`, which"]);
    noted(&scaling("stable_window = '60s'"), &["has `stable_window`, which"]);
    for signal in ["target_rps = 5", "target_cpu = 0.5", "target_memory = 0.5"] {
        noted(&scaling(&format!("stable_window = '60s', {signal}")), &[]);
    }
}

#[test]
fn an_idle_of_a_service_that_is_never_idle_is_noted() {
    let scaling = |text: &str| format!("{WEB}services.web.scaling = {{ {text} }}\n");
    for policy in ["work", "kpa", "hpa"] {
        let law = format!("policy = '{policy}', ");
        let said = "services.web.scaling has `idle`, which has no effect beside `min = 1`";
        noted(&scaling(&format!("{law}min = 1, idle = '5m'")), &[said]);
        noted(&scaling(&format!("{law}min = 1, idle = 'auto'")), &[said]);
        noted(&scaling(&format!("{law}idle = '5m'")), &[]);
        noted(&scaling(&format!("{law}min = 1")), &[]);
    }
}

#[test]
fn settings_that_have_nothing_to_decide_are_noted() {
    let scaling = |text: &str| format!("{WEB}services.web.scaling = {{ {text} }}\n");
    for (said, text) in [
        ("`goal`, which decides nothing", "min = 2, max = 2, goal = 'p95 wait < 50ms'"),
        ("`late_worth`, which decides nothing", "min = 2, max = 2, late_worth = '1m'"),
        (
            "`target`, `max_up_rate`, which decide nothing",
            "min = 2, max = 2, policy = 'kpa', target = 0.5, max_up_rate = 9",
        ),
    ] {
        let said = format!("services.web.scaling has {said} beside `min` and `max` of 2: leave ");
        noted(&scaling(text), &[&said]);
        noted(&scaling(&text.replace("min = 2", "min = 1")), &[]);
    }
    noted(&scaling("min = 2, max = 2, late_after = '1s', concurrency = 5, queue = 9"), &[]);
    let all = ["has `surge_window`, which `policy", "has `idle`, which has no", "has `goal`, which decides"];
    noted(&scaling("min = 2, max = 2, goal = 'p95 wait < 50ms', idle = '5m', surge_window = 0.2"), &all);
}

#[test]
fn replicas_that_are_there_anyway_are_noted() {
    let warm = |min, replicas| {
        format!(
            "{WEB}services.web.scaling = {{ min = {min}, keep_warm = [{{ cron = '0 8 * * *', replicas = 5 }}, \
             {{ cron = '0 9 * * *', replicas = {replicas} }}] }}\n"
        )
    };
    let said = "services.web.scaling.keep_warm[1] asks for no more replicas than `min = 3` always keeps: leave it out, or \
                ask for more";
    noted(&warm(3, 2), &[said]);
    noted(&warm(3, 3), &[said]);
    noted(&warm(3, 4), &[]);
    noted(&warm(0, 1), &[]);
}

#[test]
fn replicas_by_the_clock_at_all_times_are_noted() {
    let warm = |entry: &str| format!("{WEB}services.web.scaling.keep_warm = [{{ {entry}, replicas = 2 }}]\n");
    let said = "services.web.scaling.keep_warm[0] begins again before it ends, and so holds at all times: say `min = 2` instead";
    for always in [
        "cron = '* * * * *'",
        "cron = '0 * * * *', lasts = '1h'",
        "cron = '0 8,20 * * *', lasts = '12h', zone = 'Europe/Berlin'",
        "cron = '0 8 * * mon-fri', lasts = '3d'",
        "cron = '0 0 * * mon', lasts = '8d'",
    ] {
        noted(&warm(always), &[said]);
    }
    for now_and_then in [
        "cron = '* 0-22 * * *'",
        "cron = '* * * * mon-sat'",
        "cron = '* * * 1-11 *'",
        "cron = '* * 1-30 * *'",
        "cron = '0 * * * *', lasts = '59m'",
        "cron = '0 8 * * mon-fri', lasts = '2d'",
    ] {
        noted(&warm(now_and_then), &[]);
    }
    let both = warm("cron = '* * * * *'")
        .replace("scaling.keep_warm", "scaling.min = 2\nservices.web.scaling.keep_warm");
    noted(&both, &["asks for no more replicas than `min = 2` always keeps"]);
}

#[test]
fn waits_that_nobody_can_have_are_noted() {
    let scaling = |text: &str| format!("{WEB}services.web.scaling = {{ {text} }}\n");
    let said = "services.web.scaling takes a request for late after 10h, but `hold` turns it away after 1m";
    noted(&scaling("goal = 'p99 wait < 10h'"), &[said]);
    noted(&scaling("late_after = '10h'"), &[said]);
    for fine in ["goal = 'p99 wait < 1m'", "goal = 'p99 wait < 10h', hold = '11h'", "hold = '200ms'"] {
        noted(&scaling(fine), &[]);
    }
}

#[test]
fn names_over_tls_need_a_listener_that_speaks_it() {
    let db = "services.db = { image = 'a', protocol = 'tcp', listen = '0.0.0.0:5432', sni = ['db.example.org'] }\n";
    let plain = "gateway.listen = '0.0.0.0:8080'\n";
    noted(&format!("{TLS}{db}"), &[]);
    for (text, key) in [
        (format!("{plain}{db}"), "services.db.sni"),
        (db.to_owned(), "services.db.sni"),
        (db.replace(", listen = '0.0.0.0:5432'", ""), "services.db.sni"),
        // What was meant by a listener that is wrong itself is not known.
        (
            format!("gateway.listen = [{{ address = '0.0.0.0:443', tls = 'yes' }}]\n{db}"),
            "gateway.listen[0].tls",
        ),
        (format!("gateway.listen = 443\n{db}"), "gateway.listen"),
        (format!("gateway = 443\n{db}"), "gateway"),
    ] {
        let problems = parse(&text, Format::Toml).expect_err(&text);
        let found: Vec<_> = problems.list().iter().map(|problem| problem.key.as_str()).collect();
        assert_eq!(found, [key], "{text}: {problems}");
    }
}

#[test]
fn what_the_gateway_bounds_first_is_noted() {
    let limits = "gateway.limits = { request_timeout = '30s', body_bytes = '10MiB' }\n";
    let web = |middleware: &str| format!("{limits}{WEB}services.web.middleware = {{ {middleware} }}\n");
    noted(&web("timeout = '30s', body_limit = '10MiB'"), &[]);
    noted(
        &web("timeout = '31s'"),
        &["`middleware.timeout` of 31s, but gateway.limits.request_timeout ends every request after 30s"],
    );
    noted(
        &web("body_limit = '11MiB'"),
        &["`middleware.body_limit` of 11MiB, but gateway.limits.body_bytes allows 10MiB"],
    );
    noted(&web("body_limit = '11MiB', timeout = '1m'").replace(limits, ""), &[]);
    let route = "services.web.routes = [{ host = 'a', middleware = { timeout = '1m' } }, { host = 'b' }]";
    noted(&format!("{limits}{WEB}{route}"), &["services.web has a `middleware.timeout` of 1m"]);
}

#[test]
fn names_that_a_tcp_service_takes_from_a_route_are_noted() {
    let both = |sni: &str, host: &str| {
        format!(
            "{TLS}services.db = {{ image = 'a', protocol = 'tcp', sni = ['{sni}'] }}\n\
             services.web = {{ image = 'a', routes = [{{ host = '{host}' }}, {{ host = '{host}', path = '/x' }}] }}\n"
        )
    };
    for (sni, host) in [
        ("a.example.org", "a.example.org"),
        ("*.example.org", "a.example.org"),
        ("*.example.org", "*.b.example.org"),
    ] {
        let note = format!(
            "over TLS services.db gets the connections for {sni}, also those for the host {host} of services.web"
        );
        noted(&both(sni, host), &[&note]);
    }
    // A name out of a wildcard's is an exception that somebody wanted.
    let apart = [
        ("a.example.org", "b.example.org"),
        ("*.example.org", "example.org"),
        ("a.example.org", "*.example.org"),
        ("a.example.org", "*"),
    ];
    for (sni, host) in apart {
        noted(&both(sni, host), &[]);
    }
}
