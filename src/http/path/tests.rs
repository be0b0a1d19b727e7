use super::*;

fn norm(path: &str) -> String {
    normalise(path.as_bytes()).unwrap_or_else(|e| panic!("{path}: {e}")).into_owned()
}

fn refused(path: &str) -> BadPath {
    match normalise(path.as_bytes()) {
        Ok(normal) => panic!("{path} became {normal}"),
        Err(bad) => bad,
    }
}

fn forward(path: &str) -> Option<String> {
    let normal = norm(path);
    match forwarded(path.as_bytes(), &normal) {
        Forward::Original => None,
        Forward::Rewritten(path) => Some(path),
    }
}

#[test]
fn a_normal_path_is_borrowed() {
    for path in [
        "/",
        "/api",
        "/api/",
        "/a.b/.c/..d/e.../f",
        "/x:y@z!$&'()*+,=-_~",
        "/caf%C3%A9/%20/%25",
        "*",
        "/a%22b",
    ] {
        match normalise(path.as_bytes()).unwrap() {
            Cow::Borrowed(same) => assert_eq!(same, path),
            Cow::Owned(other) => panic!("{path} was copied to {other}"),
        }
        assert_eq!(forward(path), None, "{path}");
    }
}

#[test]
fn every_trick_of_the_promise() {
    for path in [
        "/admin",
        "/%61dmin",
        "/%61%64%6d%69%6E",
        "//admin",
        "///admin",
        "/./admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/.%2E/admin",
        "/x/y/../../admin",
        "/../admin",
        "/../../../admin",
        "/%2fadmin",
        "/%2Fadmin",
        "/%5cadmin",
        "/\\admin",
        "/x\\..\\admin",
        "/x%2f..%2fadmin",
        "/x%5C..%5Cadmin",
        "/x/..//./admin",
        "/admin;jsessionid=1",
        "/admin%3Bx",
        "/x;y=1/../admin;z",
        "/x;%2f../admin",
    ] {
        assert_eq!(norm(path), "/admin", "{path}");
    }
}

#[test]
fn dot_segments_as_in_rfc_3986() {
    // §5.2.4 and §5.4, as absolute paths
    for (path, normal) in [
        ("/a/b/c/./../../g", "/a/g"),
        ("/mid/content=5/../6", "/mid/6"),
        ("/b/c/..", "/b/"),
        ("/b/c/../", "/b/"),
        ("/b/c/.", "/b/c/"),
        ("/b/c/./", "/b/c/"),
        ("/..", "/"),
        ("/.", "/"),
        ("/../", "/"),
        ("/b/c/g.", "/b/c/g."),
        ("/b/c/..g", "/b/c/..g"),
        ("/b/c/g;x=1/./y", "/b/c/g/y"),
        ("/a//", "/a/"),
        ("/a//../b", "/b"),
    ] {
        assert_eq!(norm(path), normal, "{path}");
    }
}

#[test]
fn other_escapes_stay_in_upper_case() {
    assert_eq!(norm("/caf%c3%a9"), "/caf%C3%A9");
    assert_eq!(norm("/café"), "/caf%C3%A9");
    assert_eq!(norm("/a%20b"), "/a%20b");
    assert_eq!(norm("/a b"), "/a%20b");
    assert_eq!(norm("/a\"b|c"), "/a%22b%7Cc");
    assert_eq!(norm("/%3aa%40b%2b"), "/:a@b+");
    assert_eq!(normalise(b"/\xff\xfe").unwrap(), "/%FF%FE");
}

#[test]
fn nothing_is_decoded_twice() {
    assert_eq!(norm("/%2561dmin"), "/%2561dmin");
    assert_eq!(norm("/%252e%252e/x"), "/%252e%252e/x");
    assert_eq!(norm("/%252Fadmin"), "/%252Fadmin");
}

#[test]
fn case_and_neighbours_are_other_paths() {
    for path in ["/Admin", "/%41dmin", "/admin.", "/admin%20", "/admin-x", "/adm%69nx", "/admin:x"] {
        assert_ne!(norm(path), "/admin", "{path}");
    }
}

#[test]
fn what_servers_read_in_different_ways_is_refused() {
    assert_eq!(refused(""), BadPath::NotAbsolute);
    assert_eq!(refused("admin"), BadPath::NotAbsolute);
    assert_eq!(refused("\\admin"), BadPath::NotAbsolute);
    assert_eq!(refused("%2fadmin"), BadPath::NotAbsolute);
    assert_eq!(refused("**"), BadPath::NotAbsolute);
    for path in ["/%", "/%4", "/%zz", "/%u002f", "/a%2", "/%+1", "/%é"] {
        assert_eq!(refused(path), BadPath::Escape, "{path}");
    }
    assert_eq!(refused("/a%00.html"), BadPath::Nul);
    assert_eq!(refused("/a\0"), BadPath::Nul);
    for path in ["/a\nb", "/a\r", "/\t", "/\x7f"] {
        assert_eq!(refused(path), BadPath::Control, "{path:?}");
    }
    for path in ["/a?b", "/a#b"] {
        assert_eq!(refused(path), BadPath::NotAPath, "{path}");
    }
    for path in [
        "/x/..;/admin",
        "/x/..;a=b/admin",
        "/x/.;/admin",
        "/;x/admin",
        "/x/..;",
        "/x/%2e%2E%3b/admin",
        "/x/;/y",
    ] {
        assert_eq!(refused(path), BadPath::Parameters, "{path}");
    }
}

#[test]
fn a_session_id_behind_the_last_slash_is_no_trick() {
    assert_eq!(norm("/app/;jsessionid=1"), "/app/");
    assert_eq!(forward("/app/;jsessionid=1"), None);
}

#[test]
fn the_original_is_forwarded_when_only_the_spelling_differs() {
    for path in ["/%61dmin", "/caf%c3%a9", "/café", "/a%3Ab", "/admin;x=1/y", "/a%3bb", "/a\"b"] {
        assert_eq!(forward(path), None, "{path}");
    }
}

#[test]
fn what_is_ambiguous_is_forwarded_resolved() {
    for (path, sent) in [
        ("//admin", "/admin"),
        ("/x/../admin", "/admin"),
        ("/x/%2e%2e/admin", "/admin"),
        ("/%2fadmin", "/admin"),
        ("/a%2fb", "/a/b"),
        ("/a\\b", "/a/b"),
        ("/a/./b;p=1/c%3bd/%61%3a/%c3", "/a/b;p=1/c%3Bd/a%3A/%C3"),
        ("/a b", "/a%20b"),
        ("/b/c/..", "/b/"),
    ] {
        assert_eq!(forward(path).as_deref(), Some(sent), "{path}");
    }
}

#[test]
fn a_route_cannot_ask_for_parameters() {
    assert_eq!(configured("/caf%c3%a9//x"), Ok("/caf%C3%A9/x".to_string()));
    assert_eq!(configured("/a;b"), Err(BadPath::Parameters));
    assert_eq!(configured("/a%3Bb"), Err(BadPath::Parameters));
    assert_eq!(configured("a"), Err(BadPath::NotAbsolute));
}

/// A random spelling of `/admin/users`.
fn disguise(rng: &mut fastrand::Rng) -> Vec<u8> {
    let slash = |rng: &mut fastrand::Rng, out: &mut Vec<u8>| {
        let slashes: [&[u8]; 6] = [b"/", b"//", b"%2f", b"%2F", b"%5c", b"\\"];
        out.extend_from_slice(slashes[rng.usize(..slashes.len())]);
    };
    let letters = |rng: &mut fastrand::Rng, out: &mut Vec<u8>, text: &str| {
        for b in text.bytes() {
            match rng.u8(..4) {
                0 => out.extend_from_slice(format!("%{b:02x}").as_bytes()),
                1 => out.extend_from_slice(format!("%{b:02X}").as_bytes()),
                _ => out.push(b),
            }
        }
    };
    let mut out = b"/".to_vec();
    for (i, segment) in ["admin", "users"].into_iter().enumerate() {
        if i > 0 {
            slash(rng, &mut out);
        }
        for _ in 0..rng.usize(..4) {
            match rng.u8(..4) {
                0 => slash(rng, &mut out),
                1 => {
                    letters(rng, &mut out, ".");
                    slash(rng, &mut out);
                }
                2 => {
                    letters(rng, &mut out, "some");
                    let parameters: [&[u8]; 4] = [b"", b";", b";p=1", b"%3b%20"];
                    out.extend_from_slice(parameters[rng.usize(..parameters.len())]);
                    slash(rng, &mut out);
                    letters(rng, &mut out, "..");
                    slash(rng, &mut out);
                }
                // climbing above the root, at the start only
                _ if i == 0 => {
                    letters(rng, &mut out, "..");
                    slash(rng, &mut out);
                }
                _ => {}
            }
        }
        letters(rng, &mut out, segment);
        if rng.u8(..4) == 0 {
            out.extend_from_slice(if rng.bool() { b";x=1" } else { b"%3b" });
        }
    }
    out
}

#[test]
fn no_disguise_of_a_path_is_another_path() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    for _ in 0..20_000 {
        let path = disguise(&mut rng);
        let shown = String::from_utf8_lossy(&path);
        let normal = normalise(&path).unwrap_or_else(|e| panic!("seed {seed}: {shown}: {e}"));
        assert_eq!(normal, "/admin/users", "seed {seed}: {shown}");
        if let Forward::Rewritten(sent) = forwarded(&path, &normal) {
            assert_eq!(norm(&sent), normal, "seed {seed}: {shown} is sent as {sent}");
            assert_eq!(forward(&sent), None, "seed {seed}: {shown} is sent as {sent}");
        }
    }
}

#[test]
fn any_bytes_are_normalised_once_or_refused() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let alphabet: &[u8] = b"//..%%\\;:2eEfFcC50a\xc3\xa9 \x01";
    let mut normalised = 0;
    for _ in 0..50_000 {
        let any = rng.u8(..8) == 0;
        let mut path: Vec<u8> = (0..rng.usize(..24))
            .map(|_| if any { rng.u8(..) } else { alphabet[rng.usize(..alphabet.len())] })
            .collect();
        path.insert(0, b'/');
        let Ok(normal) = normalise(&path) else { continue };
        normalised += 1;
        assert!(is_normal(normal.as_bytes()), "seed {seed}: {path:?} became {normal}");
        assert_eq!(norm(&normal), normal, "seed {seed}: {path:?}");
        match forwarded(&path, &normal) {
            Forward::Rewritten(sent) => {
                assert_eq!(norm(&sent), normal, "seed {seed}: {path:?} is sent as {sent}");
                assert!(sent.is_ascii(), "seed {seed}: {path:?} is sent as {sent}");
            }
            Forward::Original => {
                let structure = |b: &u8| *b == b'/';
                let slashes = path.iter().filter(|b| structure(b)).count();
                assert_eq!(slashes, normal.matches('/').count(), "seed {seed}: {path:?} is sent as it is");
            }
        }
    }
    assert!(normalised > 5_000, "only {normalised} paths were not refused");
}
