use super::*;
use crate::config::value::Auto;

fn read(text: &str) -> ZooCfg {
    parse("zoo.cfg", text).unwrap()
}

#[test]
fn the_sample_configuration_takes_effect() {
    let cfg = read(
        "# a comment\ntickTime=2000\ninitLimit=10\ndataDir=/var/lib/zookeeper\nclientPort=2182\n",
    );
    assert_eq!(cfg.layer.tick_time_ms.unwrap().get(), 2000);
    assert_eq!(cfg.layer.client_port.unwrap().u16(), 2182);
    assert_eq!(
        cfg.layer.data_dir.unwrap().to_string(),
        "/var/lib/zookeeper/oxkeeper"
    );
    assert_eq!(
        cfg.warnings,
        [
            "zoo.cfg:3: initLimit has no effect: this server runs alone; replication is not supported yet"
        ]
    );
}

#[test]
fn every_key_is_known_as_a_system_property_too() {
    let cfg = read(
        "zookeeper.4lw.commands.whitelist=*\nzookeeper.extendedTypesEnabled=true\nzookeeper.skipACL=yes\n",
    );
    assert_eq!(cfg.layer.four_letter_words.unwrap().allowed, None);
    assert_eq!(cfg.layer.extended_types, Some(true));
    assert_eq!(cfg.layer.skip_acl, Some(true));
    assert!(cfg.warnings.is_empty());
}

#[test]
fn a_bad_value_names_file_line_key_and_what_is_allowed() {
    let problem = parse("conf/zoo.cfg", "tickTime=2000\n\nclientPort=eighty\n").unwrap_err();
    assert_eq!(
        problem.to_string(),
        "conf/zoo.cfg:3: clientPort: `eighty` is not allowed here: give a whole number from 0 to 65535"
    );
}

#[test]
fn unknown_and_ignored_keys_are_each_named_once() {
    let cfg = read("syncLimit=5\nautopurge.purgeInterval=1\nssl.keyStore.location=/k\nfoo.bar=1\n");
    assert_eq!(cfg.warnings.len(), 4);
    assert!(cfg.warnings[0].contains("syncLimit") && cfg.warnings[0].contains("runs alone"));
    assert!(cfg.warnings[3].ends_with("it is not a key that this server knows"));
}

#[test]
fn a_server_meant_for_tls_only_does_not_open_a_plain_port() {
    let problem = parse("zoo.cfg", "secureClientPort=2281\n").unwrap_err();
    assert!(
        problem
            .to_string()
            .starts_with("zoo.cfg:1: secureClientPort: TLS is not supported")
    );
    assert!(parse("zoo.cfg", "secureClientPort=2281\nclientPort=2181\n").is_ok());
}

#[test]
fn java_integers_and_unset_timeouts_are_read() {
    let cfg = read("jute.maxbuffer=0x100000\nminSessionTimeout=-1\nmaxSessionTimeout=60000\n");
    assert_eq!(cfg.layer.packet_bytes_max.unwrap().get(), 1 << 20);
    assert_eq!(cfg.layer.min_session_timeout_ms, Some(Auto(None)));
    assert_eq!(
        cfg.layer.max_session_timeout_ms.unwrap().0.unwrap().get(),
        60000
    );
    assert!(parse("z", "maxSessionTimeout=-2").is_err());
}

#[test]
fn the_last_of_two_equal_keys_wins() {
    assert_eq!(
        read("clientPort=1\nclientPort=2\n")
            .layer
            .client_port
            .unwrap()
            .u16(),
        2
    );
}

#[test]
fn enforced_authentication_is_refused_and_not_ignored() {
    for key in [
        "enforce.auth.enabled",
        "zookeeper.sessionRequireClientSASLAuth",
    ] {
        let error = parse("zoo.cfg", &format!("{key}=true"))
            .unwrap_err()
            .to_string();
        assert!(error.starts_with(&format!("zoo.cfg:1: {key}: ")), "{error}");
        assert!(parse("zoo.cfg", &format!("{key}=false")).is_ok());
    }
}

/// ZooKeeper starts with each of these; found by asking one.
#[test]
fn what_zookeeper_starts_with_is_taken() {
    let limits = read("maxClientCnxns=-1\nmaxCnxns=-1\n");
    assert_eq!(limits.layer.max_client_connections.unwrap().get(), 0);
    assert_eq!(limits.layer.max_connections.unwrap().get(), 0);
    assert!(limits.warnings.is_empty());

    let words = read("4lw.commands.whitelist=foo, conf, ruok srvr,x\n");
    let allowed = words.layer.four_letter_words.unwrap().allowed;
    assert_eq!(allowed, Some(vec!["conf".to_owned()]));
    assert_eq!(
        words.warnings,
        [
            "zoo.cfg:1: 4lw.commands.whitelist: `foo`, `ruok srvr`, `x` is not answered by this server"
        ]
    );

    for (line, read_as_default) in [
        ("znode.container.checkIntervalMs=0", true),
        ("znode.container.checkIntervalMs=-5", true),
        ("maxCnxns=junk", true),
        ("jute.maxbuffer=junk", true),
        ("jute.maxbuffer=100", false),
        ("jute.maxbuffer=50000000", false),
        ("superDigest=nonsense", true),
        ("skipACL=perhaps", false),
        ("extendedTypesEnabled=perhaps", false),
        ("admin.enableServer=no", false),
    ] {
        let cfg = read(line);
        assert_eq!(cfg.warnings.len(), 1, "{line}");
        let layer = format!("{:?}", cfg.layer);
        let default = format!("{:?}", read("").layer);
        assert_eq!(layer == default, read_as_default, "{line}: {layer}");
    }
    for line in [
        "minSessionTimeout=-2",
        "DigestAuthenticationProvider.superDigest=admin:D/InIHSb7yEEbrWz8b9l71RjZJU=",
    ] {
        assert!(read(line).warnings.is_empty(), "{line}");
    }
    for line in [
        "maxClientCnxns=junk",
        "maxClientCnxns=",
        "tickTime=0",
        "maxSessionTimeout=99999999999",
    ] {
        assert!(parse("z", line).is_err(), "{line}");
    }
}

/// A word that means yes elsewhere must not open what ZooKeeper keeps closed.
#[test]
fn flags_are_read_as_zookeeper_reads_them() {
    for (text, skips) in [
        ("yes", true),
        ("no", false),
        ("true", false),
        ("YES", false),
    ] {
        let layer = read(&format!("skipACL={text}")).layer;
        assert_eq!(layer.skip_acl, Some(skips), "{text}");
    }
    for (text, extended) in [("true", true), ("TRUE", true), ("yes", false)] {
        let layer = read(&format!("extendedTypesEnabled={text}")).layer;
        assert_eq!(layer.extended_types, Some(extended), "{text}");
    }
    for (text, serves) in [("false", false), ("FALSE", true), ("true", true)] {
        let layer = read(&format!("admin.enableServer={text}")).layer;
        assert_eq!(layer.http_enabled, Some(serves), "{text}");
    }
    let words = read("readonlymode.enabled=true\n4lw.commands.whitelist=ruok").layer;
    let allowed = words.four_letter_words.unwrap().allowed.unwrap();
    assert_eq!(allowed, ["ruok", "isro"]);
}

const THREE: &str = "server.1=a:2888:3888\nserver.2=b:2888:3888\nserver.3=c:2888:3888\n";

#[test]
fn a_cluster_is_refused_with_and_without_myid() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("dataDir={}\n{THREE}", dir.path().display());
    let without = parse("zoo.cfg", &text).unwrap_err().to_string();
    assert!(
        without.starts_with("zoo.cfg:2: server.1: ") && without.contains("/myid does not say"),
        "{without}"
    );
    std::fs::write(dir.path().join("myid"), "2\n").unwrap();
    let with = parse("zoo.cfg", &text).unwrap_err().to_string();
    assert!(
        with.contains("3 servers, of which this is 2") && with.contains("not supported yet"),
        "{with}"
    );
}

#[test]
fn one_server_that_lists_itself_runs_alone_unless_it_must_not() {
    let one = "server.1=a:2888:3888:participant;2181\n";
    let cfg = read(one);
    assert!(cfg.warnings[0].contains("runs alone"), "{:?}", cfg.warnings);
    for refused in [
        format!("{one}standaloneEnabled=false\n"),
        format!("{one}server.2=b:2888:3888:observer\n"),
        format!("{one}standaloneEnabled=perhaps\n"),
    ] {
        parse("z", &refused).unwrap_err();
    }
}

#[test]
fn a_cluster_in_a_file_of_its_own_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let dynamic = dir.path().join("zoo.cfg.dynamic");
    let text = format!("dynamicConfigFile={}\n", dynamic.display());
    let missing = parse("z", &text).unwrap_err().to_string();
    assert!(missing.contains("cannot read"), "{missing}");
    std::fs::write(&dynamic, THREE).unwrap();
    let refused = parse("z", &text).unwrap_err().to_string();
    assert!(refused.contains("zoo.cfg.dynamic:1: server.1"), "{refused}");
}

#[test]
fn a_socket_without_session_lasts_as_long_as_configured() {
    let cfg = read("nio.sessionlessCnxnTimeout=5000\n");
    assert_eq!(cfg.layer.session_request_timeout_ms.unwrap().get(), 5000);
}
