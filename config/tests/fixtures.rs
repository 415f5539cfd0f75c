//! Real files: every bad one with the exact text that a user sees, every good one and every example loaded.
//! `UPDATE=1 cargo test -p tidegate-config --test fixtures` writes the expected texts anew; read the difference.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tidegate_config::{
    Format, Place, json_schema, load,
    model::{Engine, Idle, Kubernetes, Listener, Reach, Update},
    name::Authority,
    parse,
    spec::{Disk, Scratch, Source, Tmpfs, Volume},
    units::Bytes,
};

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the workspace's folder")
}

fn files(folder: &str) -> Vec<PathBuf> {
    let configuration = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| matches!(extension, "toml" | "yaml" | "json"))
    };
    let entries = fs::read_dir(root().join(folder)).expect("the fixtures' folder");
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("an entry").path()).filter(configuration).collect();
    files.sort();
    files
}

/// The variables of `NAME.vars`, one on each line.
fn variables(file: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(file.with_extension("vars")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

#[test]
fn bad_files_say_what_is_wrong() {
    let files = files("tests/fixtures/config/bad");
    assert!(files.len() > 20);
    let mut wrong = Vec::new();
    for file in files {
        let problems = load(&file, variables(&file)).expect_err(&format!("{} is bad", file.display()));
        let folder = format!("{}/", file.parent().expect("a folder").display());
        let shown = format!("{}\n", problems.to_string().replace(&folder, ""));
        let expected = PathBuf::from(format!("{}.expected", file.display()));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &shown).expect("the expected text can be written");
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if shown != wanted {
            wrong.push(format!("{}:\n{shown}\ninstead of\n{wanted}", file.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn good_files_and_examples_load() {
    let all = [files("tests/fixtures/config/good"), files("examples")];
    assert!(all[1].len() >= 4);
    for file in all.concat() {
        if let Err(problems) = load(&file, []) {
            panic!("{problems}");
        }
    }
}

#[test]
fn the_sample_in_the_readme_loads() {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let sample =
        readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a sample");
    if let Err(problems) = parse(sample, Format::Toml) {
        panic!("{problems}");
    }
}

/// The names of all keys below a schema.
fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        found.extend(properties.keys().cloned());
    }
    match schema {
        serde_json::Value::Object(table) => table.values().for_each(|value| keys(value, found)),
        serde_json::Value::Array(items) => items.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn the_full_example_has_every_key() {
    let full = fs::read_to_string(root().join("examples/full.toml")).expect("the full example");
    let mut all = Vec::new();
    keys(&json_schema(), &mut all);
    assert!(all.len() > 70);
    for key in all {
        let written = [format!("{key} ="), format!("{key}]"), format!("{key}.")];
        assert!(written.iter().any(|text| full.contains(text)), "examples/full.toml lacks {key}");
    }
}

#[test]
fn formats_mean_the_same() {
    let folder = root().join("tests/fixtures/config/good");
    let model = |name: &str| load(&folder.join(name), []).expect("a good file");
    assert_eq!(model("same.toml"), model("same.yaml"));
    assert_eq!(model("same.toml"), model("same.json"));
    let api = model("same.toml").services["api".parse().as_ref().expect("a name")].clone();
    assert_eq!((api.launch.env["A"].as_str(), api.launch.env["QUOTED"].as_str()), ("1", "\"kept\""));
    assert_eq!(api.launch.secrets["TOKEN"].file, folder.join("token.txt"));
    assert_eq!(api.scaling.idle, Idle::Kpa);
    assert_eq!(model("anchors.yaml").services.values().map(|service| service.scaling.max).sum::<u32>(), 6);
}

#[test]
fn services_without_routes_have_their_name_and_an_only_one_everything() {
    let hosts = |text: &str| {
        let model = parse(text, Format::Toml).expect("a good text");
        let routes = model.services.values().flat_map(|service| service.routes.clone());
        routes.map(|route| route.host).collect::<Vec<_>>()
    };
    let name = |name: &str| Authority::Exact(format!("{name}.localhost"));
    assert_eq!(hosts("services.a.image = 'a'"), [name("a"), Authority::Any]);
    assert_eq!(hosts("services.a.image = 'a'\nservices.b.image = 'b'"), [name("a"), name("b")]);
    assert_eq!(hosts("[services.a]\nimage = 'a'\nroutes = [{ host = 'x' }]"), [Authority::Exact("x".into())]);
}

#[test]
fn variables_win_over_the_file() {
    let file = root().join("tests/fixtures/config/good/minimal.toml");
    let set = [
        ("TIDEGATE_GATEWAY__LISTEN", "127.0.0.1:1"),
        ("TIDEGATE_GATEWAY__EXPOSE_ERRORS", "true"),
        ("TIDEGATE_SERVICES__API__IMAGE", "api:2"),
        ("TIDEGATE_SERVICES__API__COMMAND", "['a', 'b']"),
        ("TIDEGATE_SERVICES__API__ENV__Version", "1.10"),
        ("TIDEGATE_SERVICES__API__ROUTES", "[{ path = '/x' }]"),
        ("TIDEGATE_SERVICES__API__SCALING__MAX", "3"),
        ("TIDEGATE_SERVICES__API__SCALING__TARGET", "0.5"),
        ("TIDEGATE_SERVICES__NEW_ONE__IMAGE", "new"),
        ("TIDEGATE_STATE", "/nowhere"),
        ("HOME", "/root"),
    ];
    let model = load(&file, set.map(|(name, text)| (name.into(), text.into()))).expect("good variables");
    let api = &model.services[&"api".parse().expect("a name")];
    assert_eq!(model.gateway.listen, [Listener::plain("127.0.0.1:1".parse().expect("an address"))]);
    assert!(model.gateway.expose_errors && model.gateway.state.is_none());
    assert_eq!((&*api.launch.image, &*api.launch.env["Version"]), ("api:2", "1.10"));
    assert_eq!((&api.launch.command[..], api.routes.len()), (&["a".to_owned(), "b".to_owned()][..], 1));
    assert_eq!((api.scaling.max, api.scaling.target.to_string()), (3, "50%".to_owned()));
    assert!(model.services.contains_key(&"new-one".parse().expect("a name")));
}

#[test]
fn a_missing_file_is_said_to_be_missing() {
    let problems = load(Path::new("/nowhere/tidegate.toml"), []).expect_err("there is no such file");
    assert_eq!(problems.list()[0].place, Place::Whole { file: "/nowhere/tidegate.toml".into() });
    assert!(problems.to_string().contains("tidegate init"), "{problems}");
}

#[test]
fn problems_are_data_too() {
    let problems =
        parse("services.api.scaling.min = 'x'", Format::Toml).expect_err("no image, and no number");
    let json = serde_json::to_value(&problems).expect("plain values");
    assert_eq!(json[1]["key"], "services.api.scaling.min");
    assert_eq!(json[1]["place"], serde_json::json!({ "file": "tidegate.toml", "line": 1, "column": 28 }));
    assert_eq!(json[1]["excerpt"]["text"], "services.api.scaling.min = 'x'");
}

#[test]
fn a_link_does_not_lead_out_of_what_may_be_mounted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (allowed, text) = (folder.path().join("allowed"), |source: &Path| {
        let parent = folder.path().join("allowed");
        format!(
            "gateway.allow_mounts = [{parent:?}]\n[services.a]\nimage = 'a'\nvolumes = [\"{}:/x\"]",
            source.display()
        )
    });
    fs::create_dir(&allowed).expect("a folder");
    std::os::unix::fs::symlink("/etc", allowed.join("link")).expect("a link");
    parse(&text(&allowed.join("real")), Format::Toml).expect("below the allowed folder");
    let problems = parse(&text(&allowed.join("link/ssl")), Format::Toml).expect_err("a link to /etc");
    assert!(problems.to_string().contains("never mounted"), "{problems}");
}

#[test]
fn what_is_valid_may_still_be_worth_a_note() {
    const REMOTE: &str = "[[hosts]]\nname = 'here'\n[[hosts]]\nname = 'there'\nendpoint = 'ssh://root@10.0.0.2'\n\
        address = '10.0.0.2'\nlabels = { disk = 'ssd' }\n";
    const FOLDER: &str =
        "gateway.allow_mounts = ['/srv']\nservices.a.image = 'a'\nservices.a.volumes = ['/srv/a:/a:ro']\n";
    const VOLUME: &str = "services.a.image = 'a'\nservices.a.volumes = ['data:/data']\n";
    const SWARM: &str = "[[hosts]]\nname = 'swarm'\nengine = 'swarm'\n";
    let rows: &[(&str, &[&str])] = &[
        ("", &[]),
        (FOLDER, &[]),
        (REMOTE, &["do not resolve in containers on there: set gateway.internal_address"]),
        (&format!("gateway.internal_names = false\n{REMOTE}"), &[]),
        (&format!("gateway.internal_address = '10.0.0.1'\n{REMOTE}"), &[]),
        (
            &format!("gateway.internal_address = '10.0.0.1'\n{FOLDER}{REMOTE}"),
            &["services.a mounts the folder /srv/a, which must exist on there"],
        ),
        (&format!("{FOLDER}{REMOTE}"), &["gateway.internal_address", "/srv/a"]),
        (&format!("{FOLDER}services.a.constraints.disk = 'ssd'\n{REMOTE}"), &["internal_address", "/srv/a"]),
        (
            &format!("{FOLDER}services.a.constraints.disk = 'hdd'\n{REMOTE}"),
            &["internal_address", "labels in this file do not meet: it starts only if engines of here have"],
        ),
        (&format!("{FOLDER}services.a.constraints.disk = '!ssd'\n{REMOTE}"), &["internal_address"]),
        (
            &format!("{VOLUME}{SWARM}"),
            &["internal_address", "the volume data, of which each node of swarm has one of its own"],
        ),
        (
            &format!("{VOLUME}services.a.constraints.'node.role' = 'worker'\n{SWARM}"),
            &["internal_address", "one of its own"],
        ),
        (&format!("{VOLUME}services.a.constraints.'node.hostname' = 'n1'\n{SWARM}"), &["internal_address"]),
        (
            &format!(
                "services.a = {{ image = 'a', volumes = [{{ target = '/x', tmpfs = '1MiB' }}] }}\n{SWARM}"
            ),
            &["internal_address"],
        ),
    ];
    for (text, parts) in rows {
        let notes = tidegate_config::notes(&parse(text, Format::Toml).expect("a good text"));
        assert_eq!(notes.len(), parts.len(), "{text}: {notes:?}");
        for (note, part) in notes.iter().zip(*parts) {
            assert!(note.contains(part), "{text}: {note}");
        }
    }
}

#[test]
fn a_volume_that_is_written_to_allows_one_replica() {
    let folder = root().join("tests/fixtures/config/good");
    let model = load(&folder.join("remote.toml"), []).expect("a good file");
    let service = |name: &str| model.services[&name.parse().expect("a name")].clone();
    let shape = |name: &str| (service(name).update, service(name).scaling.max);
    assert_eq!(shape("db"), (Update::Recreate, 1));
    assert_eq!(shape("files"), (Update::Rolling, 3));
    assert_eq!(shape("site"), (Update::Recreate, 10));
    let steps: Vec<_> = service("files").rollout.steps.iter().map(|step| step.whole()).collect();
    assert_eq!(steps, [1, 10, 50, 100]);
    assert_eq!(service("files").sleep.stopped, Some(Duration::from_secs(24 * 3600)));
    assert_eq!(service("db").rollout, tidegate_config::model::Rollout::default());
}

#[test]
fn images_in_files_and_folders_get_absolute_paths() {
    let folder = root().join("tests/fixtures/config/good");
    let model = load(&folder.join("images.toml"), []).expect("a good file");
    let here = folder.join("images").display().to_string();
    let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    for (service, expected) in [
        ("layout", format!("oci:{here}/app")),
        ("tagged", format!("oci:{here}/app:1.0")),
        ("archive", format!("oci-archive:{here}/app.tar@{digest}")),
        ("docker", format!("docker-archive:{here}/app.tar:localhost:5000/app:1")),
    ] {
        assert_eq!(model.services[&service.parse().expect("a name")].launch.image, expected);
    }
}

#[test]
fn the_embedded_engines_settings_arrive() {
    let folder = root().join("tests/fixtures/config/good");
    let model = load(&folder.join("embedded.toml"), []).expect("a good file");
    assert_eq!((model.hosts[0].engine, model.hosts[0].is_remote()), (Engine::Embedded, false));
    assert!(model.gateway.allow_metadata);
    let images = &model.images;
    assert_eq!(images.insecure_registries, ["localhost:5000", "[::1]:5000"]);
    assert_eq!(images.mirrors["docker.io"], ["mirror.example.org", "10.0.0.1:5000"]);
    assert_eq!(
        (images.keep_unused, images.max_size),
        (Duration::from_secs(3600), Some(Bytes::mib(10 << 10)))
    );
    let service = &model.services[&"a".parse().expect("a name")];
    let launch = &service.launch;
    let files: Vec<_> = launch.secret_files.iter().map(|(name, from)| (&**name, from.file.clone())).collect();
    assert_eq!(files, [("db-password", folder.join("db.txt")), ("key.pem", PathBuf::from("/srv/key.pem"))]);
    assert_eq!(launch.tmpfs, [Tmpfs { target: "/cache".into(), size: Bytes::mib(64) }]);
    assert_eq!((launch.resources.disk, launch.resources.scratch), (Some(Bytes::mib(1)), Scratch::Memory));
    // What is in memory is nobody's data.
    assert_eq!((launch.volumes.len(), launch.has_own_data()), (0, false));
    assert_eq!((service.update, service.scaling.max), (Update::Rolling, 5));
}

#[test]
fn clusters_and_who_runs_on_them_arrive() {
    let folder = root().join("tests/fixtures/config/good");
    let model = load(&folder.join("clusters.toml"), []).expect("a good file");
    let swarm = &model.hosts[1];
    assert_eq!((swarm.engine, swarm.is_remote(), swarm.address), (Engine::Swarm, true, None));
    let named = |service: &str| {
        let service = &model.services[&service.parse().expect("a name")];
        service.run_on.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(named("api"), ["swarm", "local"]);
    assert_eq!((named("probed"), named("anywhere")), (vec!["local".to_owned()], vec![]));
    let notes = tidegate_config::notes(&model);
    assert!(notes.iter().any(|note| note.contains("services.api has `sleep`")), "{notes:?}");
}

#[test]
fn what_a_kubernetes_is_told_arrives() {
    let folder = root().join("tests/fixtures/config/good");
    let model = load(&folder.join("kubernetes.toml"), []).expect("a good file");
    let (local, cluster) = (&model.hosts[0], &model.hosts[1]);
    assert_eq!((cluster.engine, cluster.is_remote()), (Engine::Kubernetes, true));
    let expected = Kubernetes {
        kubeconfig: Some(folder.join("kube.conf")),
        context: Some("production".into()),
        namespace: Some("apps".into()),
        pull_secrets: vec!["registry.example".into()],
        priority_class: Some("on-demand".into()),
    };
    assert_eq!(cluster.kubernetes, expected);
    assert_eq!(local.kubernetes, Kubernetes::default());
    let service = &model.services[&"named".parse().expect("a name")];
    let words: Vec<_> = service.constraints.iter().map(|(key, wanted)| format!("{key} {wanted}")).collect();
    assert_eq!(words, ["cores 8", "disk not hdd", "zone a or b"]);
    let launch = &service.launch;
    let sources: Vec<_> = launch.volumes.iter().map(Volume::source).collect();
    assert_eq!(sources, [Source::ConfigMap("settings"), Source::Secret("tls")]);
    assert_eq!(launch.disks, [Disk { target: "/work".into(), size: Bytes::mib(1024) }]);
    let notes = tidegate_config::notes(&model);
    assert!(notes.iter().any(|note| note.contains("services.named has `scaling.target_cpu`")), "{notes:?}");
    assert!(!launch.has_own_data(), "nobody writes what is the cluster's, and what goes is nobody's data");
}

#[test]
fn hosts_know_whether_they_are_elsewhere() {
    let folder = root().join("tests/fixtures/config/good");
    let model = load(&folder.join("remote.toml"), []).expect("a good file");
    let remote: Vec<_> =
        model.hosts.iter().filter(|host| host.is_remote()).map(|host| host.name.as_str()).collect();
    assert_eq!(remote, ["tls", "login", "public"]);
    let tls = model.hosts[2].tls.clone().expect("certificates");
    assert_eq!((tls.ca, tls.key), (folder.join("tls/ca.pem"), PathBuf::from("/srv/key.pem")));
    assert_eq!((model.hosts[0].reach, model.hosts[3].reach), (Reach::Published, Reach::Address));
    assert_eq!(model.hosts[3].address, Some("fd00::7".parse().expect("an address")));
    assert_eq!(model.hosts[2].lost_after, Duration::from_secs(2));
    assert_eq!(model.hosts[0].memory_budget, Some(Bytes::mib(2048)));
}
