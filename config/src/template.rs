//! The file that `tidegate init` writes: the few settings that a first hour needs, each said in a sentence.

/// What stands for the image until the user sets it.
pub(crate) const PLACEHOLDER: &str = "IMAGE";

/// The text of a first configuration: good as it is once its image is one that exists.
pub const TEMPLATE: &str = r#"# Tidegate configuration. `tidegate check` names everything that is wrong with it,
# `tidegate up` runs it, and a change takes effect when the file is saved.
# Every key: docs/configuration.md. Lines with a # show defaults or examples.

[gateway]
listen = "0.0.0.0:8080"            # where requests arrive
# metrics = "127.0.0.1:9901"       # Prometheus metrics and health endpoints; "off" for none
# trusted_proxies = ["10.0.0.0/8"] # whose X-Forwarded-For is believed

# A service is called what stands after `services.`. This one answers at http://hello.localhost:8080
# and, as long as it is the only service, at every other name too.
[services.hello]
image = "IMAGE"                    # as in "nginx:1.27", or "docker-archive:image.tar"
# port = 8080                      # where the service listens; default: the port that the image exposes
# env = { LOG_LEVEL = "info" }
# secrets = { TOKEN = "token.txt" } # the variable's value is read from the file at start
# volumes = [{ source = "data", target = "/var/lib/app", shared = true }] # without `shared`: one replica at most
# routes = [{ host = "api.example.org" }, { path = "/api", strip = true }]

# [services.hello.resources]
# memory = "512MiB"
# cpu = 1.5

# [services.hello.scaling]
# min = 0                          # 0: nothing runs while nobody calls
# max = 10
# concurrency = 20                 # requests that one replica gets at once; default: no limit
# goal = "p95 wait < 50ms"         # how long requests may wait; default: as long as less would cost more
# idle = "60s"                     # when nobody has called for so long, the last replica goes; default: as pays

# [services.hello.health]
# probe = "http:/healthz"          # default: the image's own check, else whether the port is open
# start_deadline = "60s"
"#;

#[cfg(test)]
mod tests {
    use super::{PLACEHOLDER, TEMPLATE};
    use crate::{Format, parse};

    #[test]
    fn the_template_lacks_nothing_but_the_image() {
        let problems = parse(TEMPLATE, Format::Toml).expect_err("the image is a placeholder").to_string();
        assert!(problems.contains("placeholder") && problems.ends_with("1 problem"), "{problems}");
        let model =
            parse(&TEMPLATE.replace(PLACEHOLDER, "nginx:1.27"), Format::Toml).expect("a valid configuration");
        assert_eq!(model.services.len(), 1);
    }

    #[test]
    fn the_template_is_good_with_every_comment_taken_up() {
        let setting = |line: &str| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || rest.contains(" = ") => rest.to_owned(),
            _ => line.to_owned(),
        };
        let text: Vec<_> = TEMPLATE.lines().map(setting).collect();
        let text = text.join("\n").replace("\"IMAGE\"", "\"nginx\"");
        if let Err(problems) = parse(&text, Format::Toml) {
            panic!("{problems}");
        }
    }
}
