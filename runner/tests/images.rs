//! The image store against a real registry on loopback, with a proxy before it where networks and registries misbehave.
//! Needs Debian's package docker-registry, and root for the test of a full disk; fails without them and never skips.

mod registry;

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use registry::{
    PASSWORD, Registry,
    image::{self, Layer, Stored, layer},
    proxy::{Fault, Proxy},
    world::{Disk, World, blobs, large, read, refused, silent, small},
};
use tidegate_config::{
    spec::{Digest, Pull},
    units::Bytes,
};
use tidegate_runner::{
    Kind, Progress, PullProgress,
    embedded::{Prune, Store},
};

#[tokio::test]
async fn images_come_by_tag_and_by_digest() {
    let (upstream, told) = (Registry::open(), Arc::<Mutex<Vec<PullProgress>>>::default());
    let proxy = Proxy::before(&upstream.host).await;
    let layers = [small("etc/a", "one"), large(1, 900), layer(&[("etc/b", b"two")], Stored::Zstd)];
    let layers = [&layers[..], &[layer(&[("etc/c", b"three")], Stored::Plain)]].concat();
    let built = image::image(&layers);
    upstream.push("app:1", &built).await;
    let world = World::new(&[&proxy.host]);
    let (store, name) = (world.store(), format!("{}/app:1", proxy.host));
    let seen = Arc::clone(&told);
    let found =
        store.prepare(&name, Pull::Missing, Arc::new(move |p| seen.lock().push(p))).await.expect("pulled");
    assert_eq!(found.digest.0, built.config.digest);
    assert_eq!(found.config.config.cmd.as_deref(), Some(&["/serve".to_owned()][..]));
    assert_eq!(found.layers.len(), 4);
    for (path, text) in [("etc/a", "one"), ("etc/b", "two"), ("etc/c", "three")] {
        assert_eq!(read(&found.layers, path).as_deref(), Some(text));
    }
    let size: usize = layers.iter().map(|layer| layer.blob.bytes.len()).sum();
    let total = Bytes(size as u64);
    assert_eq!(told.lock().last(), Some(&PullProgress { done: total, total }));
    world.is_clean();

    let asked = proxy.seen("").len();
    assert_eq!(store.prepare(&name, Pull::Missing, silent()).await.expect("known"), found);
    assert_eq!(store.prepare(&name, Pull::Never, silent()).await.expect("known"), found);
    assert_eq!(store.prepare(&found.digest.0, Pull::Missing, silent()).await.expect("by its id"), found);
    assert_eq!(store.image(&found.digest).await.expect("no error"), Some(found.clone()));
    assert_eq!(proxy.seen("").len(), asked, "nobody is asked for what is here");

    let pinned = format!("{}/app@{}", proxy.host, built.manifest.digest);
    assert_eq!(store.prepare(&pinned, Pull::Always, silent()).await.expect("pulled"), found);
    assert_eq!(blobs(&proxy, &built), 4, "each layer came once");
    let listed = store.list().await.expect("listed");
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].names.len(), listed[0].layers), (2, 4));
    assert_eq!(listed[0].created.as_deref(), Some("2024-05-06T07:08:09Z"));
    assert!(listed[0].bytes >= Bytes(900 << 10), "{listed:?}");
    // As after a restart.
    assert_eq!(world.store().prepare(&name, Pull::Never, silent()).await.expect("known"), found);
}

#[tokio::test]
async fn always_asks_and_takes_only_what_is_new() {
    let upstream = Registry::open();
    let proxy = Proxy::before(&upstream.host).await;
    let base = large(2, 300);
    let (first, second) =
        (image::image(&[base.clone(), small("v", "1")]), image::image(&[base.clone(), small("v", "2")]));
    let (world, name) = (World::new(&[&proxy.host]), format!("{}/app", proxy.host));
    let store = world.store();
    upstream.push("app:latest", &first).await;
    let one = store.prepare(&name, Pull::Always, silent()).await.expect("pulled");
    let asked = proxy.seen("").len();
    assert_eq!(store.prepare(&name, Pull::Always, silent()).await.expect("unchanged"), one);
    let since: Vec<_> = proxy.seen("").split_off(asked);
    assert!(since.iter().any(|seen| seen.path.contains("/manifests/latest")), "{since:?}");
    assert!(since.iter().all(|seen| seen.method == "HEAD" || seen.path == "/v2/"), "{since:?}");

    upstream.push("app:latest", &second).await;
    assert_eq!(store.prepare(&name, Pull::Missing, silent()).await.expect("known"), one);
    let two = store.prepare(&name, Pull::Always, silent()).await.expect("pulled");
    assert_eq!((read(&one.layers, "v"), read(&two.layers, "v")), (Some("1".into()), Some("2".into())));
    assert_eq!(one.layers[0], two.layers[0], "what both have is there once");
    assert_eq!(proxy.seen(&base.blob.digest).len(), 1, "and came once");
    assert_eq!(world.names("layers").len(), 3);
}

#[tokio::test]
async fn what_cannot_be_had_says_why() {
    let upstream = Registry::open();
    let built = image::image(&[small("a", "a")]);
    upstream.push("app:1", &built).await;
    let other = image::image_for("s390x", &[small("b", "b")]);
    upstream.push("other:1", &other).await;
    let world = World::new(&[&upstream.host, "127.0.0.1:1"]);
    let store = world.store();
    let named = |name: &str| format!("{}/{name}", upstream.host);
    let absent = Digest(format!("sha256:{}", "0".repeat(64)));
    for (image, pull, kind, words) in [
        (named("app:1"), Pull::Never, Kind::Permanent, "pull = never"),
        (named("app:2"), Pull::Missing, Kind::Permanent, "does not have it"),
        (named("nothing:1"), Pull::Missing, Kind::Permanent, "does not have it"),
        (named(&format!("app@{}", absent.0)), Pull::Missing, Kind::Permanent, "does not have it"),
        (named("other:1"), Pull::Missing, Kind::Permanent, "it is for linux/s390x"),
        (absent.0.clone(), Pull::Missing, Kind::Permanent, "no such image"),
        ("127.0.0.1:1/app:1".into(), Pull::Missing, Kind::Retryable, "127.0.0.1:1"),
        ("UPPER CASE".into(), Pull::Missing, Kind::Permanent, "UPPER CASE"),
        ("oci:/nowhere".into(), Pull::Missing, Kind::Permanent, "/nowhere"),
    ] {
        refused(store.prepare(&image, pull, silent()).await, kind, words);
    }
    assert_eq!(store.image(&absent).await.expect("no error"), None);
    assert_eq!(store.list().await.expect("listed"), []);
    world.is_clean();
}

#[tokio::test]
async fn plain_http_is_for_listed_registries_only() {
    let upstream = Registry::open();
    upstream.push("app:1", &image::image(&[small("a", "a")])).await;
    let name = format!("{}/app:1", upstream.host);
    let strict = World::new(&[]);
    let outcome = strict.store().prepare(&name, Pull::Missing, silent()).await;
    let error = refused(outcome, Kind::Permanent, "images.insecure_registries");
    assert!(error.message.contains(&format!("{:?}", upstream.host)), "{error}");
    let listed = World::new(&[&upstream.host]);
    listed.store().prepare(&name, Pull::Missing, silent()).await.expect("pulled");
}

#[tokio::test]
async fn passwords_open_registries() {
    let upstream = Registry::locked();
    upstream.push("app:1", &image::image(&[small("a", "a")])).await;
    let (host, name) = (&*upstream.host, format!("{}/app:1", upstream.host));
    let world = World::new(&[host]);
    refused(
        world.store().prepare(&name, Pull::Missing, silent()).await,
        Kind::Permanent,
        "(without credentials)",
    );
    let world = world.knowing(host, "wrong");
    refused(
        world.store().prepare(&name, Pull::Missing, silent()).await,
        Kind::Permanent,
        "(with credentials)",
    );
    let world = world.knowing(host, PASSWORD);
    let store = world.store();
    store.prepare(&name, Pull::Missing, silent()).await.expect("pulled");
    assert!(!format!("{store:?}").contains(PASSWORD));
}

#[tokio::test]
async fn passwords_become_tokens() {
    let upstream = Registry::open();
    upstream.push("app:1", &image::image(&[small("a", "a")])).await;
    let proxy = Proxy::with_tokens(&upstream.host).await;
    let (host, name) = (&*proxy.host, format!("{}/app:1", proxy.host));
    let world = World::new(&[host]);
    refused(world.store().prepare(&name, Pull::Missing, silent()).await, Kind::Permanent, "denies it");
    let world = world.knowing(host, "wrong");
    refused(world.store().prepare(&name, Pull::Missing, silent()).await, Kind::Permanent, "denies it");
    let world = world.knowing(host, PASSWORD);
    world.store().prepare(&name, Pull::Missing, silent()).await.expect("pulled");
    let scopes = proxy.seen("/token");
    assert!(scopes.iter().all(|seen| seen.path.contains("repository%3Aapp%3Apull")), "{scopes:?}");
}

#[tokio::test]
async fn a_download_that_is_cut_goes_on_where_it_was() {
    let upstream = Registry::open();
    let proxy = Proxy::before(&upstream.host).await;
    let built = image::image(&[large(3, 2048)]);
    let size = built.layers[0].blob.bytes.len() as u64;
    upstream.push("app:1", &built).await;
    let (world, name) = (World::new(&[&proxy.host]), format!("{}/app:1", proxy.host));
    proxy.fault(Fault::Cut(1 << 20));
    world.store().prepare(&name, Pull::Missing, silent()).await.expect("pulled");
    let asked = proxy.seen(&built.layers[0].blob.digest);
    let ranges: Vec<_> = asked.iter().map(|seen| seen.range.clone()).collect();
    assert_eq!(ranges.len(), 2, "{asked:?}");
    assert!(ranges[0].is_none() && ranges[1].as_ref().is_some_and(|range| range != "bytes=0-"), "{asked:?}");
    assert!(proxy.sent() < size + (1 << 20), "{} of {size}", proxy.sent());
    world.is_clean();
}

#[tokio::test]
async fn a_download_that_nobody_waits_for_is_gone_on_with_later() {
    let upstream = Registry::open();
    let proxy = Proxy::before(&upstream.host).await;
    let built = image::image(&[large(4, 2048)]);
    upstream.push("app:1", &built).await;
    let (world, name) = (World::new(&[&proxy.host]), format!("{}/app:1", proxy.host));
    proxy.fault(Fault::Halt(1 << 20));
    let begun = Arc::new(tokio::sync::Notify::new());
    let told = Arc::clone(&begun);
    let enough: Progress = Arc::new(move |p| {
        if p.done.0 >= 700 << 10 {
            told.notify_one()
        }
    });
    let store = world.store();
    tokio::select! {
        outcome = store.prepare(&name, Pull::Missing, enough) => panic!("it halts: {outcome:?}"),
        () = async { proxy.halted().await; begun.notified().await } => {}
    }
    assert_eq!(world.names("partial").len(), 1);
    // As after a crash, also of an unpacking.
    fs::create_dir_all(world.images().join("tmp/tcrashed/fs/usr")).expect("made");
    world.store().prepare(&name, Pull::Missing, silent()).await.expect("pulled");
    let asked = proxy.seen(&built.layers[0].blob.digest);
    assert!(asked.last().is_some_and(|seen| seen.range.is_some()), "{asked:?}");
    world.is_clean();
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_leave_nothing() {
    let upstream = Registry::open();
    let proxy = Proxy::before(&upstream.host).await;
    let built = image::image(&[large(5, 400)]);
    upstream.push("app:1", &built).await;
    let (world, name) = (World::new(&[&proxy.host]), format!("{}/app:1", proxy.host));
    let store = world.store();
    proxy.fault(Fault::Tamper);
    refused(store.prepare(&name, Pull::Missing, silent()).await, Kind::Permanent, "digest");
    assert_eq!((world.names("layers").len(), world.names("images").len()), (0, 0));
    world.is_clean();

    // A layer that is what its manifest says, and not what its configuration says.
    let (honest, liar) = (large(6, 4), large(7, 4));
    let built = image::image(&[Layer { diff_id: honest.diff_id, ..liar }]);
    upstream.push("liar:1", &built).await;
    proxy.fault(Fault::None);
    let liar = format!("{}/liar:1", proxy.host);
    refused(store.prepare(&liar, Pull::Missing, silent()).await, Kind::Permanent, "its configuration says");
    assert_eq!(world.names("layers").len(), 0);
    world.is_clean();
    store.prepare(&name, Pull::Missing, silent()).await.expect("the honest answer is taken");
}

#[tokio::test]
async fn an_index_leads_to_this_machines_image() {
    let upstream = Registry::open();
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let (other, mine) =
        (image::image_for("s390x", &[small("a", "other")]), image::image(&[small("a", "mine")]));
    for built in [&other, &mine] {
        upstream.push(&format!("app@{}", built.manifest.digest), built).await;
    }
    upstream.push_manifest("app:1", &image::index(&[("s390x", &other), (own, &mine)])).await;
    upstream.push_manifest("none:1", &image::index(&[])).await;
    upstream.push(&format!("elsewhere@{}", other.manifest.digest), &other).await;
    upstream.push_manifest("elsewhere:1", &image::index(&[("s390x", &other)])).await;
    let world = World::new(&[&upstream.host]);
    let (store, host) = (world.store(), &upstream.host);
    let found = store.prepare(&format!("{host}/app:1"), Pull::Always, silent()).await.expect("pulled");
    assert_eq!(read(&found.layers, "a").as_deref(), Some("mine"));
    let again = store.prepare(&format!("{host}/app:1"), Pull::Always, silent()).await;
    assert_eq!(again.expect("unchanged"), found);
    let outcome = store.prepare(&format!("{host}/elsewhere:1"), Pull::Missing, silent()).await;
    refused(outcome, Kind::Permanent, "linux/s390x");
}

#[tokio::test]
async fn mirrors_are_asked_first() {
    let upstream = Registry::open();
    let (mirror, origin) = (Proxy::before(&upstream.host).await, Proxy::before(&upstream.host).await);
    let (first, second) = (image::image(&[large(8, 300)]), image::image(&[large(9, 300)]));
    upstream.push("app:1", &first).await;
    upstream.push("app:2", &second).await;
    let mut world = World::new(&[&mirror.host, &origin.host, "127.0.0.1:1"]);
    let mirrors = vec!["127.0.0.1:1".into(), mirror.host.clone()];
    world.settings.mirrors.insert(origin.host.clone(), mirrors);
    let store = world.store();
    let named = |tag: &str| format!("{}/app:{tag}", origin.host);
    store.prepare(&named("1"), Pull::Missing, silent()).await.expect("pulled");
    assert_eq!((blobs(&mirror, &first), origin.seen("").len()), (1, 0), "only the mirror was asked");
    // A mirror that has the manifest and lacks a layer.
    mirror.fault(Fault::Missing);
    store.prepare(&named("2"), Pull::Missing, silent()).await.expect("pulled");
    assert_eq!((blobs(&mirror, &second), blobs(&origin, &second)), (1, 1));
    let outcome = store.prepare(&named("3"), Pull::Missing, silent()).await;
    refused(outcome, Kind::Permanent, &origin.host);
}

#[tokio::test]
async fn two_who_want_the_same_get_it_once() {
    let upstream = Registry::open();
    let proxy = Proxy::before(&upstream.host).await;
    let built = image::image(&[large(10, 700), large(11, 700), small("a", "a")]);
    upstream.push("app:1", &built).await;
    let (world, name) = (World::new(&[&proxy.host]), format!("{}/app:1", proxy.host));
    // Two openings of one folder are to each other what two processes are: their locks are the kernel's.
    let (one, two) = (world.store(), world.store());
    let pull = |store: Arc<Store>| {
        let name = name.clone();
        async move { store.prepare(&name, Pull::Missing, silent()).await.expect("pulled") }
    };
    let (first, second) = tokio::join!(pull(one), pull(two));
    assert_eq!(first, second);
    assert_eq!(blobs(&proxy, &built), 3);
    world.is_clean();
}

#[tokio::test]
async fn images_have_many_layers_or_none() {
    let upstream = Registry::open();
    let many: Vec<Layer> = (0..130).map(|n| small(&format!("f{n}"), &n.to_string())).collect();
    upstream.push("many:1", &image::image(&many)).await;
    upstream.push("none:1", &image::image(&[])).await;
    let twice = [&many[..2], &many[..1]].concat();
    upstream.push("twice:1", &image::image(&twice)).await;
    let (world, host) = (World::new(&[&upstream.host]), &upstream.host);
    let store = world.store();
    let found = store.prepare(&format!("{host}/many:1"), Pull::Missing, silent()).await.expect("pulled");
    assert_eq!(found.layers.len(), 130);
    assert_eq!(read(&found.layers, "f129").as_deref(), Some("129"));
    let longest = found.layers.iter().map(|layer| layer.strip_prefix(world.images()).expect("inside"));
    assert!(longest.into_iter().all(|layer| layer.as_os_str().len() <= 30), "{:?}", found.layers[0]);
    let empty = store.prepare(&format!("{host}/none:1"), Pull::Missing, silent()).await.expect("pulled");
    assert_eq!(empty.layers.len(), 1);
    assert_eq!(fs::read_dir(&empty.layers[0]).expect("a folder").count(), 0);
    // A folder can be in a stack once: the upper place counts.
    let twice = store.prepare(&format!("{host}/twice:1"), Pull::Missing, silent()).await.expect("pulled");
    assert_eq!(twice.layers, [found.layers[1].clone(), found.layers[0].clone()]);
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing_half() {
    let upstream = Registry::open();
    // One that is too large as it comes, and one that is so only when it is unpacked.
    upstream.push("large:1", &image::image(&[large(12, 8 << 10)])).await;
    let zeros = layer(&[("zeros", &vec![1; 8 << 20])], Stored::Gzip);
    upstream.push("swells:1", &image::image(&[small("a", "a"), zeros])).await;
    upstream.push("small:1", &image::image(&[small("b", "b")])).await;
    let (world, host) = (World::new(&[&upstream.host]), &upstream.host);
    let _disk = Disk::mount(world.images(), "size=4m,mode=0700");
    let store = world.store();
    for (name, words) in [("large", "needed"), ("swells", "no room for images in")] {
        let outcome = store.prepare(&format!("{host}/{name}:1"), Pull::Missing, silent()).await;
        let error = refused(outcome, Kind::Retryable, words);
        assert!(Store::is_full(&error), "{error:?}");
        assert!(error.message.contains(&world.images().display().to_string()), "{error}");
        for folder in ["layers", "images", "configs", "names", "partial", "tmp"] {
            // A layer that was being unpacked beside the one that failed goes when its thread is through.
            for _ in 0..2000 {
                if world.names(folder).is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(world.names(folder), [""; 0], "{name}: {folder}");
        }
    }
    store.prepare(&format!("{host}/small:1"), Pull::Missing, silent()).await.expect("what fits is taken");
}

#[tokio::test]
async fn pruning_takes_what_nothing_uses() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let upstream = Registry::open();
    let base = large(13, 300);
    for (tag, seed) in [("1", 14), ("2", 15), ("3", 16)] {
        upstream.push(&format!("app:{tag}"), &image::image(&[base.clone(), large(seed, 300)])).await;
    }
    let (world, host) = (World::new(&[&upstream.host]), &upstream.host);
    let store = world.store();
    let mut ids = Vec::new();
    for (tag, days) in [("1", 30), ("2", 20), ("3", 10)] {
        let found =
            store.prepare(&format!("{host}/app:{tag}"), Pull::Missing, silent()).await.expect("pulled");
        world.unused_for(&found.digest, DAY * days);
        ids.push(found.digest);
    }
    // What a crash before the image was remembered left, and a download of last week.
    fs::create_dir_all(world.images().join("layers/0123456789abcdef0123/fs")).expect("made");
    let partial = world.images().join("partial/old");
    let file = fs::File::create(&partial).expect("made");
    file.set_modified(SystemTime::now() - DAY * 7).expect("changed");

    let older = |days| Prune { older_than: Some(DAY * days), ..Prune::default() };
    let in_use = BTreeSet::from([ids[0].clone()]);
    let pruned = store.prune(&in_use, older(15)).await.expect("pruned");
    assert_eq!((&pruned.images[..], pruned.layers), (&ids[1..2], 2));
    assert!(pruned.freed >= Bytes(300 << 10) && pruned.freed < Bytes(600 << 10), "{pruned:?}");
    assert!(!partial.exists());
    let kept: Vec<_> = store.list().await.expect("listed").into_iter().map(|stored| stored.id).collect();
    assert_eq!(kept.iter().collect::<BTreeSet<_>>(), BTreeSet::from([&ids[0], &ids[2]]));
    let found = store.image(&ids[2]).await.expect("no error").expect("what it shares is there");
    assert!(read(&found.layers, "noise-13").is_none() && found.layers.iter().all(|layer| layer.is_dir()));
    assert_eq!(store.image(&ids[1]).await.expect("no error"), None);

    world.unused_for(&ids[2], DAY);
    let rule = Prune { max_size: Some(Bytes(500 << 10)), ..Prune::default() };
    assert_eq!(store.prune(&in_use, rule).await.expect("pruned").images, ids[2..]);
    let all = Prune { all: true, ..Prune::default() };
    assert_eq!(store.prune(&in_use, all).await.expect("pruned").images, []);
    assert_eq!(store.prune(&BTreeSet::new(), all).await.expect("pruned").images, ids[..1]);
    for folder in ["layers", "images", "configs", "names", "partial", "tmp", "locks"] {
        assert_eq!(world.names(folder), [""; 0], "{folder}");
    }
    // And what is gone comes again.
    store.prepare(&format!("{host}/app:1"), Pull::Missing, silent()).await.expect("pulled");
}

#[tokio::test]
async fn a_lost_layer_comes_again() {
    let upstream = Registry::open();
    upstream.push("app:1", &image::image(&[small("a", "a"), small("b", "b")])).await;
    let (world, name) = (World::new(&[&upstream.host]), format!("{}/app:1", upstream.host));
    let store = world.store();
    let found = store.prepare(&name, Pull::Missing, silent()).await.expect("pulled");
    let lost: &Path = found.layers[1].parent().expect("a folder");
    fs::remove_file(lost.join("layer.json")).expect("removed");
    assert_eq!(store.image(&found.digest).await.expect("no error"), None, "not whole any more");
    refused(store.prepare(&name, Pull::Never, silent()).await, Kind::Permanent, "pull = never");
    assert_eq!(store.prepare(&name, Pull::Missing, silent()).await.expect("pulled"), found);
    assert_eq!(read(&found.layers, "b").as_deref(), Some("b"));
}

#[tokio::test]
async fn files_and_folders_are_read_again_when_they_change() {
    let world = World::new(&[]);
    let (store, folder) = (world.store(), world.folder.path().join("layout"));
    let file = world.folder.path().join("saved.tar");
    let base = layer(&[("base", b"base")], Stored::Plain);
    let [one, two] =
        ["1", "2"].map(|text| image::image(&[base.clone(), layer(&[("v", text.as_bytes())], Stored::Plain)]));
    let names = [format!("oci:{}:1", folder.display()), format!("docker-archive:{}", file.display())];
    for (built, text) in [(&one, "1"), (&two, "2")] {
        image::lay_out(&folder, built, "1");
        fs::write(&file, image::save(built, "app:1")).expect("written");
        for name in &names {
            let told = Arc::<Mutex<Vec<PullProgress>>>::default();
            let seen = Arc::clone(&told);
            let progress: Progress = Arc::new(move |p| seen.lock().push(p));
            let found = store.prepare(name, Pull::Never, progress).await.expect("read");
            assert_eq!(found.digest.0, built.config.digest, "{name}");
            assert_eq!(read(&found.layers, "v").as_deref(), Some(text), "{name}");
            assert!(told.lock().last().is_some_and(|p| p.done == p.total), "{told:?}");
        }
        fs::remove_dir_all(folder.join("blobs")).expect("removed");
        let again = store.prepare(&names[0], Pull::Missing, silent()).await.expect("nothing is read again");
        assert_eq!(again.digest.0, built.config.digest);
    }
    assert_eq!(world.names("layers").len(), 3, "what they share is there once");
    assert_eq!(store.list().await.expect("listed").iter().map(|stored| stored.names.len()).max(), Some(2));
    world.is_clean();
    fs::write(&file, "no tar").expect("written");
    refused(store.prepare(&names[1], Pull::Missing, silent()).await, Kind::Permanent, "saved.tar");
    world.is_clean();
}
