use super::*;

const PEER: &str = "10.0.0.1";

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn trusted() -> Vec<IpNet> {
    ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec()
}

/// The address and scheme found for a request from a trusted proxy, over plaintext.
fn found(fields: &[(&'static str, &str)]) -> (String, bool) {
    let client = resolve(PEER.parse().unwrap(), &headers(fields), &trusted(), false);
    assert!(client.trusted);
    (client.addr.to_string(), client.https)
}

fn who(chain: &str) -> String {
    found(&[("x-forwarded-for", chain)]).0
}

fn who_forwarded(chain: &str) -> String {
    found(&[("forwarded", chain)]).0
}

#[test]
fn others_are_not_believed() {
    let claims = headers(&[
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=203.0.113.7;proto=https"),
    ]);
    let peer: IpAddr = "192.0.2.9".parse().unwrap();
    for nets in [Vec::new(), trusted()] {
        let client = resolve(peer, &claims, &nets, false);
        assert_eq!(client, Client { addr: peer, https: false, trusted: false });
        assert!(resolve(peer, &claims, &nets, true).https);
    }
}

#[test]
fn an_ipv4_peer_of_an_ipv6_socket_is_ipv4() {
    let peer = "::ffff:10.0.0.1".parse().unwrap();
    let client = resolve(peer, &HeaderMap::new(), &trusted(), false);
    assert_eq!(client, Client { addr: PEER.parse().unwrap(), https: false, trusted: true });
}

#[test]
fn the_walk_ends_at_the_first_that_is_no_proxy() {
    assert_eq!(who("203.0.113.7"), "203.0.113.7");
    assert_eq!(who("198.51.100.9, 203.0.113.7"), "203.0.113.7");
    assert_eq!(who("198.51.100.9,203.0.113.7 ,10.1.1.1,  10.2.2.2"), "203.0.113.7");
    assert_eq!(who("10.3.3.3, 10.1.1.1"), "10.3.3.3");
    assert_eq!(who("2001:db8::7, fd00::1"), "2001:db8::7");
    assert_eq!(who("::ffff:203.0.113.7"), "203.0.113.7");
    assert_eq!(who("203.0.113.7:1234, [fd00::1]:80, [fd00::2]"), "203.0.113.7");
    assert_eq!(who(",203.0.113.7, ,10.1.1.1,"), "203.0.113.7");
    let lines = [("x-forwarded-for", "198.51.100.9, 203.0.113.7"), ("x-forwarded-for", "10.1.1.1")];
    assert_eq!(found(&lines).0, "203.0.113.7");
    assert_eq!(found(&[]).0, PEER);
}

#[test]
fn what_is_no_address_ends_the_walk() {
    for chain in
        ["", "nonsense", "203.0.113.7, nonsense", "unknown", "1.2.3", "203.0.113.7:99999", "\u{e9}", "\""]
    {
        assert_eq!(who(chain), PEER, "{chain}");
    }
    assert_eq!(who("203.0.113.7, nonsense, 10.1.1.1"), "10.1.1.1");
    assert_eq!(who("fe80::1%eth0, 10.1.1.1"), "10.1.1.1");
}

#[test]
fn forwarded_as_in_rfc_7239() {
    assert_eq!(who_forwarded("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60");
    assert_eq!(who_forwarded("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
    assert_eq!(who_forwarded("proto=http; FOR = \"192.0.2.43:47011\" , for=10.1.1.1"), "192.0.2.43");
    assert_eq!(who_forwarded("for=198.51.100.9, for=203.0.113.7, for=\"[fd00::1]\""), "203.0.113.7");
    assert_eq!(who_forwarded("for=\"192.0.2.43:_gate\""), "192.0.2.43");
    for chain in ["for=unknown", "for=_hidden", "for=\"_SEVKISEK\"", "by=192.0.2.1", "for", "for=", "garbage"]
    {
        assert_eq!(who_forwarded(chain), PEER, "{chain}");
        assert_eq!(who_forwarded(&format!("{chain}, for=10.1.1.1")), "10.1.1.1", "{chain}");
        assert_eq!(who_forwarded(&format!("for=192.0.2.1, {chain}")), PEER, "{chain}");
    }
    assert_eq!(who_forwarded("host=\"a,b;for=1.1.1.1\";for=203.0.113.7"), "203.0.113.7");
}

#[test]
fn what_a_client_wrote_first_cannot_swallow_what_a_proxy_added() {
    for start in ["for=\"", "for=\"10.9.9.9", "host=\"a\\\"", "\"\"\"", "for=10.9.9.9;host=\"", ";=,\""] {
        assert_eq!(who_forwarded(&format!("{start}, for=203.0.113.7")), "203.0.113.7", "{start}");
        assert_eq!(who(&format!("{start}, 203.0.113.7")), "203.0.113.7", "{start}");
    }
}

#[test]
fn x_forwarded_for_goes_before_forwarded() {
    let both = [("forwarded", "for=192.0.2.1"), ("x-forwarded-for", "203.0.113.7")];
    assert_eq!(found(&both).0, "203.0.113.7");
}

#[test]
fn the_scheme_of_the_client() {
    for (value, https) in [
        ("https", true),
        ("HTTPS", true),
        ("wss", true),
        ("http", false),
        ("https, http", true),
        ("x", false),
    ] {
        assert_eq!(found(&[("x-forwarded-proto", value)]).1, https, "{value}");
    }
    assert!(found(&[("forwarded", "for=203.0.113.7;proto=https, for=10.1.1.1;proto=http")]).1);
    assert!(!found(&[("forwarded", "for=6.6.6.6;proto=https, for=203.0.113.7;proto=http")]).1);
    assert!(found(&[("forwarded", "for=203.0.113.7, for=10.1.1.1;proto=https")]).1);
    assert!(found(&[("forwarded", "for=unknown;proto=https")]).1);
    assert!(found(&[("x-forwarded-for", "203.0.113.7"), ("forwarded", "proto=https")]).1);
    assert!(!found(&[("x-forwarded-proto", "http"), ("forwarded", "proto=https")]).1);
    let peer = PEER.parse().unwrap();
    let told = headers(&[("x-forwarded-proto", "http")]);
    assert!(!resolve(peer, &told, &trusted(), true).https, "http to the proxy, TLS from there to us");
}

/// What is sent on of a request with these headers.
fn sent(fields: &[(&'static str, &str)], facts: &Facts<'_>, config: &ProxyHeaders) -> Vec<(String, String)> {
    let mut head = RequestHeader::build("GET", b"/", None).unwrap();
    for (name, value) in fields {
        head.append_header(*name, *value).unwrap();
    }
    apply(&mut head, facts, config).unwrap();
    let text = |v: &HeaderValue| String::from_utf8(v.as_bytes().to_vec()).unwrap();
    let mut sent: Vec<_> = head.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect();
    sent.sort();
    sent
}

/// A test's own, for as long as it runs.
fn kept<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

fn peer(address: &str, https_here: bool) -> &'static Peer {
    kept(Peer::new(address.parse().unwrap(), https_here))
}

fn host(text: &str) -> Option<&'static HeaderValue> {
    Some(kept(HeaderValue::from_str(text).unwrap()))
}

fn from(address: &str, trusted: bool) -> Facts<'static> {
    let id = RequestId::of(&headers(&[("x-request-id", "the-id")]), true);
    Facts {
        peer: peer(address, false),
        trusted,
        https: false,
        host: host("shop.test:8080"),
        request_id: kept(id),
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect()
}

const CLAIMS: &[(&str, &str)] = &[
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-for", "10.1.1.1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "public.example"),
    ("forwarded", "for=203.0.113.7;proto=https"),
    ("x-forwarded-port", "443"),
    ("x-real-ip", "203.0.113.7"),
    ("x_forwarded_for", "1.2.3.4"),
    ("x-real_ip", "1.2.3.4"),
    ("x-request-id", "theirs"),
    ("x-other", "kept"),
    ("x-forwardedness", "kept"),
    ("x-real-ip-2", "kept"),
];

#[test]
fn a_server_is_told_of_the_peer() {
    assert_eq!(
        sent(&[], &from("192.0.2.9", false), &ProxyHeaders::default()),
        pairs(&[
            ("forwarded", "for=192.0.2.9;proto=http;host=\"shop.test:8080\""),
            ("x-forwarded-for", "192.0.2.9"),
            ("x-forwarded-host", "shop.test:8080"),
            ("x-forwarded-proto", "http"),
            ("x-request-id", "the-id"),
        ])
    );
    let v6 =
        Facts { https: true, peer: peer("2001:db8::9", true), host: host("shop.test"), ..from(PEER, false) };
    assert_eq!(
        sent(&[], &v6, &ProxyHeaders::default()),
        pairs(&[
            ("forwarded", "for=\"[2001:db8::9]\";proto=https;host=shop.test"),
            ("x-forwarded-for", "2001:db8::9"),
            ("x-forwarded-host", "shop.test"),
            ("x-forwarded-proto", "https"),
            ("x-request-id", "the-id"),
        ])
    );
}

#[test]
fn claims_are_replaced() {
    assert_eq!(
        sent(CLAIMS, &from("::ffff:192.0.2.9", false), &ProxyHeaders::default()),
        pairs(&[
            ("forwarded", "for=192.0.2.9;proto=http;host=\"shop.test:8080\""),
            ("x-forwarded-for", "192.0.2.9"),
            ("x-forwarded-host", "shop.test:8080"),
            ("x-forwarded-proto", "http"),
            ("x-forwardedness", "kept"),
            ("x-other", "kept"),
            ("x-real-ip-2", "kept"),
            ("x-request-id", "the-id"),
        ])
    );
}

#[test]
fn what_a_trusted_proxy_says_is_continued() {
    let facts = Facts { https: true, ..from("10.2.2.2", true) };
    assert_eq!(
        sent(CLAIMS, &facts, &ProxyHeaders::default()),
        pairs(&[
            ("forwarded", "for=203.0.113.7;proto=https, for=10.2.2.2;proto=http;host=\"shop.test:8080\""),
            ("x-forwarded-for", "203.0.113.7, 10.1.1.1, 10.2.2.2"),
            ("x-forwarded-host", "public.example"),
            ("x-forwarded-port", "443"),
            ("x-forwarded-proto", "https"),
            ("x-forwardedness", "kept"),
            ("x-other", "kept"),
            ("x-real-ip", "203.0.113.7"),
            ("x-real-ip-2", "kept"),
            ("x-request-id", "the-id"),
        ])
    );
    let silent =
        sent(&[("x-forwarded-proto", "?"), ("x-forwarded-for", "")], &facts, &ProxyHeaders::default());
    assert!(silent.contains(&("x-forwarded-proto".into(), "https".into())), "{silent:?}");
    assert!(silent.contains(&("x-forwarded-for".into(), "10.2.2.2".into())), "{silent:?}");
}

#[test]
fn what_is_off_is_removed_unless_a_trusted_proxy_sent_it() {
    let off =
        ProxyHeaders { x_forwarded: false, forwarded: false, request_id: false, client_certificate: false };
    assert_eq!(
        sent(CLAIMS, &from("192.0.2.9", false), &off),
        pairs(&[("x-forwardedness", "kept"), ("x-other", "kept"), ("x-real-ip-2", "kept")])
    );
    let kept = sent(CLAIMS, &from("10.2.2.2", true), &off);
    assert_eq!(kept.iter().filter(|(n, _)| n.starts_with("x-forwarded-")).count(), 5);
    assert!(kept.contains(&("forwarded".into(), "for=203.0.113.7;proto=https".into())));
    assert!(kept.contains(&("x-request-id".into(), "theirs".into())));
}

const FORGED: &[(&str, &str)] = &[
    ("client-cert", ":Zm9yZ2Vk:"),
    ("client-cert-chain", ":Zm9yZ2Vk:"),
    ("client_cert", ":Zm9yZ2Vk:"),
    ("x-client-cert-subject", "CN=forged"),
    ("x-client-cert-verified", "true"),
    ("x_client_cert_subject", "CN=forged"),
    ("client-certainty", "also gone"),
    ("clients", "kept"),
    ("x-client", "kept"),
];

#[test]
fn what_is_said_of_certificates_is_what_was_verified_here() {
    let off =
        ProxyHeaders { x_forwarded: false, forwarded: false, request_id: false, client_certificate: false };
    let on = ProxyHeaders { client_certificate: true, ..off };
    let shown = ClientCertificate::made("CN=one", vec!["DNS:a".into(), "URI:b,c".into()]);
    let peer = kept(Peer::new("192.0.2.9".parse().unwrap(), true).showing(Some(&shown)));
    let rest = [("clients", "kept"), ("x-client", "kept")];
    for trusted in [false, true] {
        let facts = Facts { peer, ..from("192.0.2.9", trusted) };
        let expected = [
            ("client-cert", ":AQID:"),
            ("clients", "kept"),
            ("x-client", "kept"),
            ("x-client-cert-fingerprint", "0a1b"),
            ("x-client-cert-san", "DNS:a, URI:b\\,c"),
            ("x-client-cert-subject", "CN=one"),
        ];
        assert_eq!(sent(FORGED, &facts, &on), pairs(&expected));
        assert_eq!(sent(FORGED, &from("192.0.2.9", trusted), &on), pairs(&rest), "no certificate");
    }
    assert_eq!(sent(FORGED, &Facts { peer, ..from("192.0.2.9", false) }, &off), pairs(&rest));
    let passed_on = sent(FORGED, &Facts { peer, ..from("192.0.2.9", true) }, &off);
    assert!(passed_on.contains(&("x-client-cert-subject".into(), "CN=forged".into())), "{passed_on:?}");
    assert!(passed_on.iter().all(|(name, _)| !name.contains('_')), "{passed_on:?}");
}

#[test]
fn a_host_that_is_unfit_is_not_passed_on() {
    for unfit in ["", "a\"b", "a\\b", "a b"] {
        let facts = Facts { host: host(unfit), ..from("192.0.2.9", false) };
        let all = sent(&[], &facts, &ProxyHeaders::default());
        assert!(all.contains(&("forwarded".into(), "for=192.0.2.9;proto=http".into())), "{all:?}");
    }
    let none = sent(&[], &Facts { host: None, ..from("192.0.2.9", false) }, &ProxyHeaders::default());
    assert!(none.iter().all(|(name, _)| name != "x-forwarded-host"));
    let v6 =
        sent(&[], &Facts { host: host("[::1]:80"), ..from("192.0.2.9", false) }, &ProxyHeaders::default());
    assert!(v6.contains(&("forwarded".into(), "for=192.0.2.9;proto=http;host=\"[::1]:80\"".into())));
}

#[test]
fn random_headers_never_panic_and_never_move_an_untrusted_client() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let alphabet: &[u8] = b"for=\"\\;,[]:._ 10.0unkprot\xe9\t";
    for _ in 0..20_000 {
        let mut junk = || -> HeaderValue {
            let bytes: Vec<u8> =
                (0..rng.usize(..40)).map(|_| alphabet[rng.usize(..alphabet.len())]).collect();
            HeaderValue::from_bytes(&bytes).unwrap()
        };
        let mut map = HeaderMap::new();
        for name in [&X_FORWARDED_FOR.name, &header::FORWARDED, &X_FORWARDED_PROTO.name] {
            map.append(name, junk());
        }
        let client = resolve(PEER.parse().unwrap(), &map, &trusted(), false);
        assert!(client.trusted, "seed {seed}");
        // a proxy adds the client it saw: nothing before that counts
        for name in [&X_FORWARDED_FOR.name, &header::FORWARDED] {
            let separator = if *name == header::FORWARDED { ", for=203.0.113.7" } else { ", 203.0.113.7" };
            let value = [map[name].as_bytes(), separator.as_bytes()].concat();
            map.insert(name, HeaderValue::from_bytes(&value).unwrap());
        }
        let client = resolve(PEER.parse().unwrap(), &map, &trusted(), false);
        assert_eq!(client.addr, IpAddr::from([203, 0, 113, 7]), "seed {seed}: {map:?}");
    }
}
