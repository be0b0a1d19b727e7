use super::*;
use crate::config::file::SameSite;
use std::collections::HashSet;
use std::net::Ipv4Addr;

const HOUR: u64 = 3600;

fn plan() -> plan::StickyCookie {
    plan::StickyCookie {
        name: "weirgate".into(),
        secret: Secret::new("0123456789abcdef"),
        previous_secret: None,
        ttl: Some(Duration::from_secs(HOUR)),
        path: "/".into(),
        domain: None,
        same_site: SameSite::Lax,
        secure: Secure::Auto,
        http_only: true,
    }
}

fn build(plan: &plan::StickyCookie) -> Cookie {
    Cookie::build(plan, "api").unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn server() -> SocketAddr {
    "10.1.2.3:8080".parse().unwrap()
}

/// What a browser would send back.
fn value(cookie: &Cookie, server: SocketAddr, now: u64) -> String {
    let set = cookie.set(server, false, at(now)).unwrap();
    let pair = set.to_str().unwrap().split(';').next().unwrap();
    pair.strip_prefix(cookie.name()).unwrap().strip_prefix('=').unwrap().to_string()
}

fn opens(cookie: &Cookie, value: &str, now: u64) -> Option<SocketAddr> {
    cookie.open(value.as_bytes(), at(now)).map(|found| found.server)
}

#[test]
fn set_cookie_carries_every_attribute() {
    let rest = |plan: &plan::StickyCookie, https| {
        let set = build(plan).set(server(), https, at(0)).unwrap();
        set.to_str().unwrap().split_once("; ").unwrap().1.to_string()
    };
    let first = plan();
    assert_eq!(rest(&first, false), "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax");
    assert_eq!(rest(&first, true), "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure");
    let other = plan::StickyCookie {
        ttl: None,
        path: "/app".into(),
        domain: Some("example.com".into()),
        same_site: SameSite::None,
        secure: Secure::Always,
        http_only: false,
        ..plan()
    };
    assert_eq!(rest(&other, false), "Path=/app; Domain=example.com; SameSite=None; Secure");
    assert_eq!(
        rest(&plan::StickyCookie { secure: Secure::Never, ..plan() }, true),
        "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax"
    );
}

#[test]
fn every_server_comes_back_and_none_can_be_told_from_another() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cookie = build(&plan());
    let mut seen = HashSet::new();
    for n in 0..2000 {
        let address: SocketAddr = match n % 3 {
            0 => (random.u32(..).to_be_bytes(), random.u16(..)).into(),
            1 => (random.u128(..).to_be_bytes(), random.u16(..)).into(),
            // the same numbers in both families are two servers
            _ => (Ipv4Addr::from(random.u32(..)).to_ipv6_mapped(), random.u16(..)).into(),
        };
        let now = random.u64(0..u64::from(u32::MAX));
        let text = value(&cookie, address, now);
        assert_eq!(text.len(), TEXT);
        assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{text}");
        assert_eq!(opens(&cookie, &text, now), Some(address));
        assert!(seen.insert(text), "the same text twice");
    }
    let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 80, 0, 3).into();
    assert_eq!(opens(&cookie, &value(&cookie, scoped, 0), 0), Some(scoped));
}

#[test]
fn the_same_server_at_the_same_time_gives_other_bytes_each_time() {
    let cookie = build(&plan());
    let (one, two) = (value(&cookie, server(), 1), value(&cookie, server(), 1));
    // but for the version, nothing of one is in the other
    let same = one.bytes().zip(two.bytes()).skip(2).filter(|(a, b)| a == b).count();
    assert!(same < TEXT / 4, "{one}\n{two}");
}

#[test]
fn a_change_of_any_byte_is_a_forgery() {
    let cookie = build(&plan());
    let text = value(&cookie, server(), 1);
    assert_eq!(opens(&cookie, &text, 1), Some(server()));
    for at in 0..text.len() {
        for other in [b'A', b'_', b'=', b' ', b'+', 0, 0xff] {
            let mut bytes = text.clone().into_bytes();
            if std::mem::replace(&mut bytes[at], other) != other {
                assert_eq!(cookie.open(&bytes, SystemTime::UNIX_EPOCH), None, "byte {at} as {other}");
            }
        }
    }
}

#[test]
fn what_clients_may_send_is_refused_without_a_panic() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cookie = build(&plan());
    let whole = value(&cookie, server(), 1);
    for cut in 0..whole.len() {
        assert_eq!(opens(&cookie, &whole[..cut], 1), None);
    }
    assert_eq!(opens(&cookie, &format!("{whole}A"), 1), None);
    assert_eq!(opens(&cookie, &format!("\"{whole}\""), 1), None);
    for _ in 0..5000 {
        let length = if random.bool() { TEXT } else { random.usize(0..9000) };
        let bytes: Vec<u8> = match random.bool() {
            true => (0..length).map(|_| random.u8(..)).collect(),
            false => (0..length).map(|_| random.alphanumeric() as u8).collect(),
        };
        assert_eq!(cookie.open(&bytes, at(1)), None);
    }
}

#[test]
fn a_cookie_is_worth_nothing_under_another_secret_group_or_name() {
    let text = value(&build(&plan()), server(), 1);
    let secret = plan::StickyCookie { secret: Secret::new("0123456789abcdeF"), ..plan() };
    let name = plan::StickyCookie { name: "weirgat".into(), ..plan() };
    assert_eq!(opens(&build(&secret), &text, 1), None);
    assert_eq!(opens(&build(&name), &text, 1), None);
    assert_eq!(opens(&Cookie::build(&plan(), "ap").unwrap(), &text, 1), None);
    // lengths are part of the context: "api" + "weirgate" is not "apiw" + "eirgate"
    let shifted = plan::StickyCookie { name: "eirgate".into(), ..plan() };
    assert_eq!(opens(&Cookie::build(&shifted, "apiw").unwrap(), &text, 1), None);
    assert_eq!(opens(&build(&plan()), &text, 1), Some(server()), "another replica");
}

#[test]
fn a_cookie_under_the_previous_secret_is_renewed_and_no_older_one_is_known() {
    let (a, b, c) =
        (Secret::new("secret number one"), Secret::new("secret number two"), Secret::new("number 3"));
    let with = |secret: &Secret, previous: Option<&Secret>| {
        let (secret, previous_secret) = (secret.clone(), previous.cloned());
        build(&plan::StickyCookie { secret, previous_secret, ..plan() })
    };
    let old = value(&with(&a, None), server(), 1);
    let rotated = with(&b, Some(&a));
    assert_eq!(rotated.open(old.as_bytes(), at(1)), Some(Found { server: server(), renew: true }));
    let new = value(&rotated, server(), 1);
    assert_eq!(rotated.open(new.as_bytes(), at(1)), Some(Found { server: server(), renew: false }));
    assert_eq!(opens(&with(&b, None), &new, 1), Some(server()), "sealed under the new secret");
    assert_eq!(opens(&with(&a, None), &new, 1), None);
    assert_eq!(opens(&with(&c, Some(&b)), &old, 1), None);
}

#[test]
fn the_time_of_a_cookie_runs_out_and_slides() {
    let cookie = build(&plan());
    let issued = 1_000_000;
    let text = value(&cookie, server(), issued);
    let found = |now| cookie.open(text.as_bytes(), at(now)).map(|found| found.renew);
    for (age, renew) in [
        (0, Some(false)),
        (HOUR / 2, Some(false)),
        (HOUR / 2 + 1, Some(true)),
        (HOUR - 1, Some(true)),
        (HOUR, None),
        (HOUR * 1000, None),
    ] {
        assert_eq!(found(issued + age), renew, "{age} s old");
    }
    // the clock went back, or that of another replica is ahead
    assert_eq!(found(issued - 60), Some(false));
    assert_eq!(found(issued - HOUR), Some(true), "wrong by so much, it is issued anew");
    assert_eq!(
        cookie.open(text.as_bytes(), UNIX_EPOCH - Duration::from_secs(5)).map(|f| f.renew),
        Some(true)
    );
}

#[test]
fn without_a_ttl_a_cookie_ends_with_the_browser() {
    let cookie = build(&plan::StickyCookie { ttl: None, ..plan() });
    let text = value(&cookie, server(), 1);
    let found = cookie.open(text.as_bytes(), at(1 << 33));
    assert_eq!(found, Some(Found { server: server(), renew: false }));
}

#[test]
fn a_ttl_given_later_holds_for_cookies_there_are() {
    let text = value(&build(&plan::StickyCookie { ttl: None, ..plan() }), server(), 1);
    assert_eq!(opens(&build(&plan()), &text, HOUR), Some(server()));
    assert_eq!(opens(&build(&plan()), &text, HOUR + 1), None);
}

#[test]
fn nothing_of_the_secret_is_printed() {
    let plan = plan::StickyCookie { previous_secret: Some(Secret::new("the one before it")), ..plan() };
    let text = format!("{:?} {:?}", plan, build(&plan));
    assert!(!text.contains("0123456789abcdef") && !text.contains("the one before it"), "{text}");
}
