use super::*;

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
    assert!(
        parse("z", "skipACL=perhaps")
            .unwrap_err()
            .to_string()
            .contains("`true` or `false`")
    );
}

#[test]
fn unknown_and_ignored_keys_are_each_named_once() {
    let cfg = read(
        "server.1=a:2888:3888\nautopurge.purgeInterval=1\nssl.keyStore.location=/k\nfoo.bar=1\n",
    );
    assert_eq!(cfg.warnings.len(), 4);
    assert!(cfg.warnings[0].contains("server.1") && cfg.warnings[0].contains("runs alone"));
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
fn properties_have_three_separators_joined_lines_and_escapes() {
    let found =
        properties("a=1\nb : 2\n c\t3\n! no\n#no=1\nd=x,\\\n   y\ne=C:\\\\dir\nf\\=g=h\ni\n");
    let pairs: Vec<_> = found
        .iter()
        .map(|p| (p.line, p.key.as_str(), p.value.as_str()))
        .collect();
    assert_eq!(
        pairs,
        [
            (1, "a", "1"),
            (2, "b", "2"),
            (3, "c", "3"),
            (6, "d", "x,y"),
            (8, "e", "C:\\dir"),
            (9, "f=g", "h"),
            (10, "i", ""),
        ]
    );
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
