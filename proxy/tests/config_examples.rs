//! Every file in `configs/` loads, and says so to editors and to Kubernetes.

mod support;
mod tls_support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use emberline::config::{self, Environment, Source};
use emberline::running::{Bind, Mode, Pool, Protocol, Running};
use serde_json::Value;
use tls_support::Papers;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// Every TOML file below `configs/`.
fn files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![configs()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|kind| kind == "toml") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn load(source: &Source) -> Running {
    let environment = Environment {
        variable: &|name| name.ends_with("PASSWORD").then(|| "secret".to_owned()),
        directory: None,
        cpus: 4,
        files: std::sync::Arc::default(),
    };
    let (running, report) = config::load(source, &environment);
    running.unwrap_or_else(|| panic!("{}", report.render(source)))
}

fn example(name: &str) -> Running {
    load(&config::open(&configs().join(name)).expect("the example is there"))
}

#[test]
fn every_file_loads_and_names_its_schema() {
    let files = files();
    assert!(files.len() >= 10, "{files:?}");
    let papers = Papers::new();
    for path in files {
        let source = config::open(&path).expect("a readable file");
        let text = papers.fill_in(&source.text);
        load(&Source::new(source.name.clone(), text));
        let (_, first) = source.line(1);
        let schema = first
            .strip_prefix("#:schema ")
            .unwrap_or_else(|| panic!("{path:?}"));
        let directory = path.parent().expect("a file is in a directory");
        assert!(directory.join(schema).is_file(), "{path:?}");
    }
}

#[test]
fn the_schema_in_the_repository_is_the_one_that_is_printed() {
    let printed = Command::new(env!("CARGO_BIN_EXE_emberline"))
        .arg("schema")
        .output();
    let printed = String::from_utf8(printed.expect("the binary runs").stdout).expect("text");
    assert_eq!(printed, config::schema());
    let path = configs().join("emberline.schema.json");
    if std::env::var_os("EMBERLINE_BLESS").is_some() {
        fs::write(&path, &printed).expect("the schema can be written");
    }
    let kept = fs::read_to_string(path).expect("the schema is there");
    assert_eq!(
        printed, kept,
        "write it anew: emberline schema > configs/emberline.schema.json"
    );
}

/// Whether the schema knows every key of a document, lets no table have
/// others, and asks for none that may be left out.
fn covered(schema: &Value, root: &Value, value: &toml::Value, path: &str) -> Result<(), String> {
    if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
        let pointer = name.strip_prefix('#').expect("references stay inside");
        let target = root
            .pointer(pointer)
            .ok_or_else(|| format!("{name} is nowhere"))?;
        return covered(target, root, value, path);
    }
    for key in ["anyOf", "allOf"] {
        if let Some(Value::Array(choices)) = schema.get(key) {
            let mut tried = choices.iter().map(|one| covered(one, root, value, path));
            return tried
                .find(Result::is_ok)
                .unwrap_or_else(|| Err(format!("{path}: {key}")));
        }
    }
    let kinds = schema
        .get("type")
        .ok_or_else(|| format!("{path}: no type in {schema}"))?;
    let kind = match value {
        toml::Value::String(_) => "string",
        toml::Value::Integer(_) => "integer",
        toml::Value::Float(_) => "number",
        toml::Value::Boolean(_) => "boolean",
        toml::Value::Array(_) => "array",
        _ => "object",
    };
    let fits = match kinds {
        Value::Array(kinds) => kinds.contains(&Value::from(kind)),
        // Every integer is a number.
        one => one == kind || (one == "number" && kind == "integer"),
    };
    if !fits {
        return Err(format!("{path} is {kind}, the schema wants {kinds}"));
    }
    if let (Some(Value::Array(words)), toml::Value::String(text)) = (schema.get("enum"), value) {
        let known = words.contains(&Value::from(text.as_str()));
        return known
            .then_some(())
            .ok_or_else(|| format!("{path} is {text}"));
    }
    match value {
        toml::Value::Array(items) => items
            .iter()
            .try_for_each(|item| covered(&schema["items"], root, item, path)),
        toml::Value::Table(table) => {
            let required = schema["required"].as_array().into_iter().flatten();
            let mut names = required.filter_map(Value::as_str);
            if let Some(key) = names.find(|key| !table.contains_key(*key)) {
                return Err(format!("{path} lacks {key}"));
            }
            table.iter().try_for_each(|(key, value)| {
                let inner = schema["properties"]
                    .get(key)
                    .unwrap_or(&schema["additionalProperties"]);
                covered(inner, root, value, &format!("{path}.{key}"))
            })
        }
        _ => Ok(()),
    }
}

#[test]
fn the_schema_knows_every_key_of_every_file() {
    let schema: Value = serde_json::from_str(&config::schema()).expect("the schema is JSON");
    for path in files() {
        let text = fs::read_to_string(&path).expect("a readable file");
        let document: toml::Value = toml::from_str(&text).expect("TOML");
        let result = covered(&schema, &schema, &document, "");
        assert_eq!(result, Ok(()), "{path:?}");
    }
}

#[test]
fn the_schema_knows_every_key_of_the_page_on_routes() {
    let schema: Value = serde_json::from_str(&config::schema()).expect("the schema is JSON");
    let page = page("routes.md");
    let rest = r#"
        listeners.l = { protocol = "redis", bind = "127.0.0.1:0", route = "a" }
        pools.a = { protocol = "redis", servers = ["a:1"] }
    "#;
    let blocks: Vec<_> = page.split("```toml\n").skip(1).collect();
    assert!(blocks.len() > 29, "one for every kind of route");
    for block in blocks {
        let (text, _) = block.split_once("```").expect("an end");
        let document: toml::Value = toml::from_str(&format!("{rest}{text}")).expect("TOML");
        assert_eq!(covered(&schema, &schema, &document, ""), Ok(()), "{text}");
    }
}

/// The schema is derived and the reader is written by hand; this holds them
/// together: every key that the schema knows is one that the reader asks for.
#[test]
fn the_reader_knows_every_key_of_the_schema() {
    let schema: Value = serde_json::from_str(&config::schema()).expect("the schema is JSON");
    let tables = [
        ("ProxyTable", "proxy.KEY = 1.5"),
        ("AdminTable", "admin.KEY = 1.5"),
        ("StatusTable", "status.KEY = 1.5"),
        ("Listener", "listeners.x.KEY = 1.5"),
        ("PoolTable", "pools.x.KEY = 1.5"),
        ("ServerTable", "pools.x.servers = [{ KEY = 1.5 }]"),
        ("HotkeyTable", "hotkey.KEY = 1.5"),
        ("PoolHotkeyTable", "pools.x.hotkey.KEY = 1.5"),
        ("HotRuleTable", "hotkey.rules = [{ KEY = 1.5 }]"),
        ("L1Table", "l1.KEY = 1.5"),
        ("PreloadTable", "l1.preload = { KEY = 1.5 }"),
        ("PoolL1Table", "pools.x.l1.KEY = 1.5"),
        ("BusTable", "bus.KEY = 1.5"),
        ("ListenerTls", "listeners.x.tls = { KEY = 1.5 }"),
        ("ServerTls", "pools.x.tls = { KEY = 1.5 }"),
        ("DnsTable", "dns.KEY = 1.5"),
        ("PoolDefaults", "pool_defaults.KEY = 1.5"),
        ("OnDownTable", "pools.x.on_down = { KEY = 1.5 }"),
        ("DeleteLogTable", "pools.x.delete_log = { KEY = 1.5 }"),
        (
            "ShadowCopy",
            "routes.x = { type = 'shadow', copies = [{ KEY = 1.5 }] }",
        ),
        (
            "RateTable",
            "routes.x = { type = 'rate_limit', reads = { KEY = 1.5 } }",
        ),
    ];
    let mut forms: Vec<(&str, String)> = tables.map(|(name, form)| (name, form.to_owned())).into();
    let definitions = schema["definitions"].as_object().expect("definitions");
    for (name, definition) in definitions {
        if let Some(kind) = definition["properties"]["type"]["enum"][0].as_str() {
            forms.push((name, format!("routes.x = {{ KEY = 1.5, type = '{kind}' }}")));
        }
    }
    assert_eq!(forms.len(), tables.len() + 29, "every kind of route");
    let environment = Environment::process();
    for (table, form) in &forms {
        let properties = schema["definitions"][*table]["properties"].as_object();
        let properties = properties.unwrap_or_else(|| panic!("{table}"));
        let kept = properties.keys().filter(|key| *key != "type");
        for key in kept {
            let source = Source::new("test", form.replace("KEY", key));
            let (_, report) = config::read(&source, &environment);
            let unknown = report
                .diagnostics()
                .any(|one| one.message.contains("unknown key"));
            assert!(!unknown, "{table} {key}: {}", report.render(&source));
        }
    }
    let described: BTreeSet<_> = forms.iter().map(|(table, _)| *table).collect();
    for (name, definition) in definitions {
        let is_table = definition.get("properties").is_some();
        assert!(
            !is_table || described.contains(name.as_str()),
            "{name} is not tested here"
        );
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            let said = property.get("description").and_then(Value::as_str);
            assert!(
                said.is_some_and(|said| said.len() > 10),
                "{name}.{key} has no description"
            );
        }
    }
}

fn page(name: &str) -> String {
    let path = configs().join("../docs").join(name);
    fs::read_to_string(path).expect("the page is there")
}

/// The page has what the schema has: every key under its table's heading,
/// with its default.
#[test]
fn the_page_on_hot_keys_knows_every_setting() {
    let schema: Value = serde_json::from_str(&config::schema()).expect("the schema is JSON");
    let page = page("hotkeys-config.md");
    let tables = [
        ("HotkeyTable", "## `[hotkey]`"),
        ("HotRuleTable", "## `[[hotkey.rules]]`"),
        ("L1Table", "## `[l1]`"),
        ("BusTable", "## `[bus]`"),
    ];
    for (table, heading) in tables {
        let (_, section) = page.split_once(heading).expect(heading);
        let section = section
            .split_once("\n## ")
            .map_or(section, |(section, _)| section);
        let rows: Vec<_> = section
            .lines()
            .filter(|line| line.starts_with("| "))
            .collect();
        let properties = schema["definitions"][table]["properties"].as_object();
        for (key, property) in properties.expect("a table") {
            let name = format!("`{key}`");
            let row = rows.iter().find(|row| row.contains(&name));
            let row = row.unwrap_or_else(|| panic!("{table}.{key}"));
            if let Some(default) = property.get("default") {
                let shown = format!("`{default}`");
                assert!(
                    row.contains(&shown),
                    "{table}.{key} is {shown} unless written"
                );
            }
        }
    }
}

#[test]
fn the_tables_on_the_page_load() {
    let page = page("hotkeys-config.md");
    let rest = r#"
        listeners.r = { protocol = "redis", bind = "127.0.0.1:0", route = "r" }
        pools.r = { protocol = "redis", servers = ["a:1"] }
    "#;
    let blocks: Vec<_> = page.split("```toml\n").skip(1).collect();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let (text, _) = block.split_once("```").expect("an end");
        load(&Source::new("hotkeys-config.md", format!("{rest}{text}")));
    }
}

/// The tree on the page is the one that is printed.
#[test]
fn the_request_on_the_page_is_explained_like_that() {
    let command = "$ emberline explain -c configs/examples/l1-tracking.toml 'GET user:1'\n";
    let page = page("hotkeys-config.md");
    let (_, rest) = page.split_once(command).expect("the command");
    let tree = rest.lines().map_while(|line| line.strip_prefix("    "));
    let tree: Vec<_> = tree.collect();
    let output = Command::new(env!("CARGO_BIN_EXE_emberline"))
        .args(["explain", "-c", "examples/l1-tracking.toml", "GET user:1"])
        .current_dir(configs())
        .output()
        .expect("the binary runs");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(printed.trim_end(), tree.join("\n"));
}

#[test]
fn the_quickstart_says_what_it_looks_like() {
    let running = example("quickstart.toml");
    assert_eq!(running.listeners.len(), 2);
    let redis = &running.listeners[1];
    assert_eq!(
        (redis.name.as_str(), redis.protocol),
        ("redis", Protocol::Redis)
    );
    assert_eq!(
        redis.bind,
        Bind::Tcp("127.0.0.1:7379".parse().expect("an address"))
    );
    assert_eq!(redis.router.targets().len(), 2);
    assert_eq!(running.proxy.workers, 2);
    assert_eq!(running.proxy.clients_max, 10_000);
    assert_eq!(
        running.admin.map(|bind| bind.to_string()).as_deref(),
        Some("127.0.0.1:9779")
    );
    assert!(running.status.is_none());
    assert!(running.pools[0].local.is_some() && running.pools[1].local.is_none());
}

#[test]
fn a_drained_server_is_no_target() {
    let running = example("examples/weighted-drain.toml");
    assert_eq!(running.servers.len(), 3);
    assert_eq!(running.listeners[0].router.targets().len(), 2);
}

#[test]
fn variables_and_passwords_are_filled_in() {
    let running = example("examples/unix-sidecar.toml");
    assert_eq!(Ok(running.servers[0].address.clone()), "redis:6379".parse());
    assert_eq!(running.pools[0].username.as_deref(), Some("default"));
    let password = running.pools[0].password.as_ref().expect("a password");
    assert_eq!(password.reveal(), "secret");
    assert!(!format!("{running:?}").contains("secret"));
}

#[test]
fn a_shared_tier_denies_the_flushes() {
    let running = example("examples/shared-tier.toml");
    let listeners: Vec<_> = running.listeners.iter().collect();
    let [memcached, redis] = listeners[..] else {
        panic!("two listeners")
    };
    assert_eq!(memcached.deny, ["flush_all"]);
    assert_eq!(
        redis.deny,
        [
            "flushall",
            "flushdb",
            "keys",
            "script|flush",
            "function|flush"
        ]
    );
}

/// A pool by its name.
fn pool<'r>(running: &'r Running, name: &str) -> &'r Pool {
    let found = running.pools.iter().find(|pool| pool.name == name);
    found.unwrap_or_else(|| panic!("no pool {name}"))
}

#[test]
fn tracking_is_for_the_pools_that_want_it() {
    let running = example("examples/l1-tracking.toml");
    assert_eq!(running.l1_capacity, 128 << 20);
    let sessions = pool(&running, "sessions");
    assert_eq!(sessions.l1.mode, Mode::Tracking);
    assert_eq!(sessions.l1.ttl, Duration::from_secs(60));
    assert_eq!(sessions.hotkey.threshold, 500);
    assert_eq!(pool(&running, "locks").l1.mode, Mode::Off);
}

#[test]
fn memcached_pools_have_modes_and_a_bus_of_their_own() {
    let running = example("examples/l1-ttl-memcached.toml");
    let pages = &pool(&running, "pages").l1;
    assert_eq!(
        (pages.mode, pages.ttl),
        (Mode::Ttl, Duration::from_millis(500))
    );
    assert_eq!(pages.lease, Duration::from_secs(2));
    let prices = &pool(&running, "prices").l1;
    assert_eq!(prices.mode, Mode::Revalidate);
    assert_eq!(
        (prices.ttl, prices.max_item),
        (Duration::from_secs(300), 1 << 20)
    );
    assert_eq!(prices.lease, pages.lease, "what is left out is taken over");
    let bus = running.bus.expect("a bus");
    assert_eq!(
        (bus.name.as_str(), bus.channel.as_str()),
        ("127.0.0.1:6379", "emberline")
    );
    assert!(bus.username.is_none() && bus.password.is_none());
}

#[test]
fn rules_take_over_what_they_leave_out() {
    let running = example("examples/hotkey-rules.toml");
    let main = pool(&running, "main");
    assert_eq!(main.l1.mode, Mode::Observe);
    let [user, secret, report] = &main.hotkey.rules[..] else {
        panic!("three rules")
    };
    assert_eq!((user.threshold, user.window_ms), (100, 1000));
    assert_eq!(user.hold, Duration::from_secs(5));
    assert_eq!(user.ttl, Some(Duration::from_millis(500)));
    assert!(user.allow && !secret.allow);
    assert_eq!((secret.threshold, secret.hold), (1000, Duration::ZERO));
    assert_eq!((report.window_ms, report.threshold), (60_000, 300));
    assert_eq!(&*main.hotkey.always[0], b"config:global");

    let blobs = pool(&running, "blobs");
    assert!(
        blobs.hotkey.rules.is_empty(),
        "a pool's list replaces the general one"
    );
    assert_eq!(blobs.hotkey.always, main.hotkey.always);
    assert_eq!((blobs.hotkey.copies, blobs.hotkey.split.len()), (2, 1));
    assert!(blobs.hotkey.combine_increments);
    assert_eq!(blobs.l1.mode, Mode::Off);
}

/// What the quickstart has behind `#` is meant to be used.
#[test]
fn the_quickstarts_l1_can_be_switched_on() {
    let source = config::open(&configs().join("quickstart.toml")).expect("a readable file");
    let text = source.text.replace("# [l1]", "[l1]");
    let text = text.replace("# capacity", "capacity");
    assert_ne!(text, source.text);
    let running = load(&Source::new("quickstart.toml", text));
    assert_eq!(pool(&running, "sessions").l1.mode, Mode::Tracking);
    assert_eq!(pool(&running, "scratch").l1.mode, Mode::Off);
}

fn sidecar() -> PathBuf {
    configs().join("kubernetes/sidecar.yaml")
}

/// The lines of a YAML block scalar, without their indent.
fn block(yaml: &str, key: &str) -> String {
    let mut lines = yaml
        .lines()
        .skip_while(|line| line.trim() != format!("{key}: |"));
    let head = lines.next().expect("the key is there");
    let indent = head.len() - head.trim_start().len() + 2;
    let inside = lines.take_while(|line| line.is_empty() || line.starts_with(&" ".repeat(indent)));
    inside
        .map(|line| line.get(indent..).unwrap_or("").to_owned() + "\n")
        .collect()
}

#[test]
fn the_sidecars_configuration_loads() {
    let yaml = fs::read_to_string(sidecar()).expect("the manifest is there");
    let running = load(&Source::new("sidecar.yaml", block(&yaml, "emberline.toml")));
    assert_eq!(running.listeners.len(), 2);
    let limit = 256 << 20;
    assert!(
        running.proxy.memory_max < limit,
        "above the container's memory limit"
    );
    let status = running.status.expect("a status listener").to_string();
    let (_, port) = status.rsplit_once(':').expect("a port");
    assert!(yaml.contains(&format!("containerPort: {port}")));
}

#[test]
fn the_sidecar_is_valid_kubernetes() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.venv/bin/kubernetes-validate");
    let named = std::env::var_os("KUBERNETES_VALIDATE").map(PathBuf::from);
    let tool = named.unwrap_or(beside);
    if !tool.is_file() {
        let required = std::env::var_os("EMBERLINE_REQUIRE_SERVERS").is_some();
        assert!(
            !required,
            "{} is not there; scripts/test installs it",
            tool.display()
        );
        eprintln!("skipped: kubernetes-validate is not installed");
        return;
    }
    let output = Command::new(tool).arg("--strict").arg(sidecar()).output();
    let output = output.expect("the tool runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// What the validator does not know: how a sidecar should be confined.
#[test]
fn the_sidecar_is_confined_and_probed() {
    let yaml = fs::read_to_string(sidecar()).expect("the manifest is there");
    let from = yaml.find("initContainers:").expect("init containers");
    let to = yaml.find("      containers:").expect("containers");
    let container = &yaml[from..to];
    for line in [
        "restartPolicy: Always",
        "startupProbe:",
        "livenessProbe:",
        "readinessProbe:",
        "command: [\"/emberline\", \"healthcheck\"]",
        "cpu: 250m",
        "memory: 128Mi",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
        "runAsNonRoot: true",
        "runAsUser: 65532",
        "drop: [\"ALL\"]",
        "type: RuntimeDefault",
    ] {
        assert!(container.contains(line), "{line}");
    }
    assert_eq!(
        container.matches("cpu:").count(),
        1,
        "a CPU limit throttles"
    );
}
