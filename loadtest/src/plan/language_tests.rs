//! Tests of [`language`](super).

use super::*;

fn no_file(file: &str, _: &Options) -> Result<Arc<Profile>, String> {
    Err(format!("there is no {file}"))
}

fn one_file(file: &str, options: &Options) -> Result<Arc<Profile>, String> {
    assert_eq!((file, options.row), ("my trace.csv", Some(2)));
    Profile::counts(vec![10.0_f32; 120].into(), Duration::from_secs(1))
        .map(Arc::new)
        .map_err(|e| e.to_string())
}

/// The rates at the begin and the end of each phase, and its length in seconds.
fn outline(text: &str) -> Vec<(String, f64, f64, f64)> {
    let shape = parse(text, one_file).and_then(|load| load.open(text)).expect(text);
    let tick = Duration::from_nanos(1);
    let row = |phase: super::super::Phase| {
        let (first, last) = (shape.rate_at(phase.begin), shape.rate_at(phase.end - tick));
        (phase.name, first.round(), last.round(), (phase.end - phase.begin).as_secs_f64())
    };
    shape.phases().into_iter().map(row).collect()
}

#[test]
fn every_segment() {
    for (text, expected) in [
        ("const 50 1m", vec![("const 50", 50.0, 50.0, 60.0)]),
        ("const 120/m 1m30s", vec![("const 120/m", 2.0, 2.0, 90.0)]),
        ("ramp 50..500 2m", vec![("ramp 50..500", 50.0, 500.0, 120.0)]),
        ("step 50,100@30s", vec![("step 50", 50.0, 50.0, 30.0), ("step 100", 100.0, 100.0, 30.0)]),
        (
            "spike 50->1000@10s for 5s",
            vec![
                ("before 50->1000@10s", 50.0, 50.0, 10.0),
                ("spike 1000", 1000.0, 1000.0, 5.0),
                ("after 50->1000@10s", 50.0, 50.0, 10.0),
            ],
        ),
        ("spike 0->10@1s for 2s 3s", vec![("before 0->10@1s", 0.0, 0.0, 1.0), ("spike 10", 10.0, 10.0, 2.0)]),
        ("sine mean=200 amp=150 period=5m 75s", vec![("sine 200±150", 200.0, 350.0, 75.0)]),
        (
            "const 1 1s|pause 90s | const 2/s 1s",
            vec![("const 1", 1.0, 1.0, 1.0), ("pause", 0.0, 0.0, 90.0), ("const 2/s", 2.0, 2.0, 1.0)],
        ),
        ("trace \"my trace.csv\" scale=0.5 speed=60x row=2", vec![("trace my trace.csv", 300.0, 300.0, 2.0)]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|(n, a, b, s)| (n.to_owned(), a, b, s)).collect();
        assert_eq!(outline(text), expected, "{text}");
    }
}

#[test]
fn users() {
    let closed = |text| match parse(text, no_file) {
        Ok(Load::Closed(closed)) => closed,
        other => panic!("{text}: {other:?}"),
    };
    let s = Duration::from_secs;
    assert_eq!(
        closed("users=20 think=exp(1s) 2m"),
        Closed { users: 20, think: Think::Exponential(s(1)), length: s(120) }
    );
    assert_eq!(closed("users=1 10s"), Closed { users: 1, think: Think::Fixed(s(0)), length: s(10) });
    assert_eq!(closed("users=1 think=3s 10s").think, Think::Fixed(s(3)));
    assert!(Load::Closed(closed("users=1 10s")).open("users=1 10s").is_err());
}

#[test]
fn mistakes_are_pointed_at() {
    for (text, column, width, part) in [
        ("", 1, 0, "expected a segment"),
        ("const 50 1m |", 14, 0, "expected a segment"),
        ("const 50", 9, 0, "expected a duration"),
        ("const 50 1m | ramp fiftee..500 2m", 20, 6, "\"fiftee\" is not a rate"),
        ("const -1 1m", 7, 2, "is not a rate"),
        ("const 1e9 1m", 7, 3, "is not a rate"),
        ("const 5 1x", 9, 2, "is not a duration"),
        ("const 5 0s", 9, 2, "is not a duration"),
        ("const 5 1s 2s", 12, 2, "too much"),
        ("konst 5 1s", 1, 5, "is no segment"),
        ("ramp 5 1s", 6, 1, "expected two rates"),
        ("step 5,x@1s", 8, 1, "is not a rate"),
        ("step 5,6", 6, 3, "expected rates and a duration"),
        ("spike 5->6@1s until 2s", 15, 5, "expected a spike"),
        ("spike 5->6@10s for 2s 11s", 23, 3, "ends before the spike"),
        ("sine mean=5 amp=6 period=1m 1m", 17, 1, "at most the mean"),
        ("sine mean=5 period=1m 1m", 23, 2, "amp= is missing"),
        ("sine mittel=5 1m", 6, 6, "is unknown"),
        ("pause", 6, 0, "expected a duration"),
        ("pause 5s", 1, 8, "sends nothing"),
        ("const 5 1s | trace x.csv", 20, 5, "there is no x.csv"),
        ("trace x.csv scale=0", 19, 1, "is not a scale"),
        ("trace x.csv scales=2", 13, 6, "is unknown"),
        ("trace \"x.csv scale=0", 7, 14, "no end"),
        ("users=0 1m", 7, 1, "from 1 to 100000"),
        ("users=5 think=exp(1) 1m", 19, 1, "is not a duration"),
        ("const 5 1s | users=5 1m", 14, 7, "stands alone"),
        ("sine mean=5 amp=6 période=1m 1m", 19, 7, "is unknown"),
    ] {
        let error = parse(text, no_file).expect_err(text);
        assert_eq!((error.column, error.width), (column, width), "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    let shown = parse("const 5 1x", no_file).expect_err("wrong").to_string();
    assert!(shown.ends_with("\n  const 5 1x\n          ^^"), "{shown}");
    let long = format!("{}const 5 1x{}", "const 5 1m | ".repeat(99), " | pause 1h".repeat(99));
    let shown = parse(&long, no_file).expect_err("no unit x").to_string();
    let lines: Vec<_> = shown.lines().skip(1).collect();
    let found = lines[1].find('^').expect("a mark");
    assert_eq!(&lines[0][found..found + 2], "1x", "{shown}");
    assert!(lines[0].len() < 140 && lines[0].starts_with("  ...") && lines[0].ends_with("..."), "{shown}");
}
