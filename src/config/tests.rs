use super::options::{OPTIONS, OptionDoc, joined, yaml_scalar};
use super::*;
use clap::Parser;

impl OptionDoc {
    /// `client_port` → `client-port`.
    fn key(&self) -> String {
        self.name.replace('_', "-")
    }
}

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    layer: Layer,
}

fn flags(words: &[&str]) -> Layer {
    Flags::try_parse_from(["test"].iter().chain(words))
        .unwrap()
        .layer
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn problem_with(name: &str, text: &str) -> String {
    let (_dir, path) = file(name, text);
    load(Layer::default(), Some(&path)).unwrap_err().to_string()
}

#[test]
fn defaults_parse() {
    let config = load(Layer::default(), None).unwrap().config;
    assert_eq!(config.client_port.u16(), 2181);
    assert_eq!(
        (
            config.session_timeout_ms_min(),
            config.session_timeout_ms_max()
        ),
        (4000, 40000)
    );
    assert_eq!(config.max_client_connections.u32(), 60);
    assert_eq!(config.four_letter_words.to_string(), "srvr");
    assert!((1..=4).contains(&config.worker_threads()));
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let (_dir, path) = file(
        "x.yaml",
        "client-port: 1111\nhttp-port: 2222\nskip-acl: true\n",
    );
    let config = load(flags(&["--client-port", "3333"]), Some(&path))
        .unwrap()
        .config;
    assert_eq!(config.client_port.u16(), 3333);
    assert_eq!(config.http_port.u16(), 2222);
    assert!(config.skip_acl);
    assert_eq!(config.shards.get(), 1);
}

#[test]
fn a_zoo_cfg_is_told_by_its_name_and_flags_win_over_it() {
    let (_dir, path) = file("zoo.cfg", "dataDir=/a\nclientPort=1111\nsnapCount=5\n");
    let loaded = load(flags(&["--data-dir", "/b"]), Some(&path)).unwrap();
    assert_eq!(loaded.config.data_dir.to_string(), "/b");
    assert_eq!(loaded.config.client_port.u16(), 1111);
    assert_eq!(loaded.warnings.len(), 1);
}

/// ZooKeeper does not start without them.
#[test]
fn a_zoo_cfg_names_data_directory_and_port_or_a_flag_does() {
    for (text, missing, flags_given) in [
        ("clientPort=1111\n", "dataDir", ["--data-dir", "/b"]),
        ("dataDir=/a\n", "clientPort", ["--client-port", "1"]),
        (
            "dataDir=/a\nclientPort=0\n",
            "clientPort",
            ["--client-port", "0"],
        ),
    ] {
        let problem = problem_with("zoo.cfg", text);
        assert!(
            problem.contains(&format!("{missing} is not set")) && problem.contains(flags_given[0]),
            "{problem}"
        );
        let (_dir, path) = file("zoo.cfg", text);
        load(flags(&flags_given), Some(&path)).unwrap();
    }
}

#[test]
fn ticks_are_longer_in_a_zoo_cfg_that_does_not_say() {
    let (_dir, path) = file("zoo.cfg", "dataDir=/a\nclientPort=1111\n");
    let config = load(Layer::default(), Some(&path)).unwrap().config;
    assert_eq!(config.tick_time_ms.get(), 3000);
    assert_eq!(config.session_timeout_ms_max(), 60_000);
    let config = load(flags(&["--tick-time-ms", "2000"]), Some(&path))
        .unwrap()
        .config;
    assert_eq!(config.tick_time_ms.get(), 2000);
}

#[test]
fn flags_and_file_have_the_same_names() {
    let words: Vec<String> = OPTIONS
        .iter()
        .flat_map(|option| [format!("--{}", option.key()), option.default.to_owned()])
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let yaml: String = OPTIONS
        .iter()
        .map(|option| format!("{}: {}\n", option.key(), yaml_scalar(option.default)))
        .collect();
    let (_dir, path) = file("all.yml", &yaml);
    let by_flags = load(flags(&words), None).unwrap().config;
    let by_file = load(Layer::default(), Some(&path)).unwrap().config;
    assert_eq!(by_flags.to_string(), by_file.to_string());
}

#[test]
fn what_is_printed_reads_back_as_the_same_configuration() {
    let given = flags(&[
        "--log-level",
        "info,oxkeeper_proxy=debug",
        "--four-letter-words",
        "*",
    ]);
    let printed = load(given, None).unwrap().config.to_string();
    let (_dir, path) = file("printed.yaml", &printed);
    assert_eq!(
        load(Layer::default(), Some(&path))
            .unwrap()
            .config
            .to_string(),
        printed
    );
}

#[test]
fn errors_in_yaml_name_file_line_key_and_what_is_allowed() {
    let problem = problem_with("bad.yaml", "data-dir: x\nclient-port: 99999\n");
    for part in ["bad.yaml:2", "client-port: 99999", "from 0 to 65535"] {
        assert!(problem.contains(part), "{part} is missing in:\n{problem}");
    }
    let problem = problem_with("typo.yaml", "data_dir: x\n");
    for part in ["typo.yaml:1", "data_dir", "data-dir"] {
        assert!(problem.contains(part), "{part} is missing in:\n{problem}");
    }
    let problem = problem_with("bool.yaml", "skip-acl: perhaps\n");
    assert!(
        problem.contains("bool.yaml:1") && problem.contains("true"),
        "{problem}"
    );
}

#[test]
fn a_missing_file_is_named() {
    let problem = load(Layer::default(), Some(Path::new("/no/such.yaml")))
        .unwrap_err()
        .to_string();
    assert!(problem.contains("/no/such.yaml"), "{problem}");
}

#[test]
fn contradictions_are_refused() {
    let ports = load(flags(&["--client-port", "8080"]), None)
        .unwrap_err()
        .to_string();
    assert!(ports.contains("http-port"), "{ports}");
    assert!(load(flags(&["--client-port", "0", "--http-port", "0"]), None).is_ok());
    let timeouts = load(flags(&["--max-session-timeout-ms", "100"]), None)
        .unwrap_err()
        .to_string();
    assert!(timeouts.contains("min-session-timeout-ms"), "{timeouts}");
}

#[test]
fn an_empty_value_in_yaml_is_the_default() {
    let (_dir, path) = file("x.yaml", "client-port:\n# nothing else\n");
    assert_eq!(
        load(Layer::default(), Some(&path))
            .unwrap()
            .config
            .client_port
            .u16(),
        2181
    );
}

/// The page lists what the table says; the block between the marks is made from it.
#[test]
fn the_configuration_page_lists_every_option_as_it_is() {
    let page = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/configuration.md"
    ))
    .unwrap();
    let expected = options_page();
    assert!(
        page.contains(&expected),
        "docs/configuration.md should contain:\n{expected}"
    );
}

fn options_page() -> String {
    let mut page = String::new();
    let mut heading = "";
    for option in OPTIONS {
        if option.heading != heading {
            heading = option.heading;
            page += &format!("\n### {heading}\n\n| option | default | meaning |\n|---|---|---|\n");
        }
        page += &format!(
            "| `{}` | `{}` | {} |\n",
            option.key(),
            option.default,
            joined(option.doc_lines)
        );
    }
    page
}

#[test]
fn the_example_configuration_is_usable() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/oxkeeper.yaml");
    let loaded = load(Layer::default(), Some(Path::new(example))).unwrap();
    assert_eq!(loaded.config.data_dir.to_string(), "/var/lib/oxkeeper");
    assert!(loaded.warnings.is_empty());
}
