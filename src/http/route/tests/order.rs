//! Which of several routes that fit is taken.

use super::*;

#[test]
fn a_prefix_ends_at_a_segment() {
    let router = router(vec![prefix("/api")]);
    for path in ["/api", "/api/", "/api/x", "/api/x/y"] {
        assert_eq!(Ask::path(path).of(&router), Some(0), "{path}");
    }
    for path in ["/apix", "/ap", "/", "/x/api", "/API", "*"] {
        assert_eq!(Ask::path(path).of(&router), None, "{path}");
    }
}

#[test]
fn exact_then_longest_prefix_then_regex_then_root() {
    let router = router(vec![
        any(),
        regex("/api/.*"),
        regex("/r[0-9]+"),
        regex("/r.*"),
        prefix("/api/v1"),
        prefix("/api"),
        exact("/api/v1"),
        exact("/r7"),
    ]);
    for (path, expected) in [
        ("/api/v1", 6),
        ("/api/v1/", 4),
        ("/api/v1/x", 4),
        ("/api/v10", 5),
        ("/api", 5),
        ("/r7", 7),
        ("/r8", 2),
        ("/rx", 3),
        ("/xr8", 0),
        ("/", 0),
        ("*", 0),
    ] {
        assert_eq!(Ask::path(path).of(&router), Some(expected), "{path}");
    }
}

#[test]
fn hosts_from_exact_to_any() {
    let router = router(vec![
        any(),
        any().host("*.example.com"),
        any().host("*.a.example.com"),
        any().host("b.a.example.com"),
        any().host("other.test").host("*.other.test"),
        any().host("[::1]"),
    ]);
    for (host, expected) in [
        ("b.a.example.com", 3),
        ("c.a.example.com", 2),
        ("x.c.a.example.com", 2),
        ("a.example.com", 1),
        ("example.com", 0),
        ("notexample.com", 0),
        ("other.test", 4),
        ("x.y.other.test", 4),
        ("[::1]", 5),
        ("", 0),
        ("127.0.0.1", 0),
    ] {
        assert_eq!(Ask::path("/").host(host).of(&router), Some(expected), "{host}");
    }
}

#[test]
fn the_host_comes_before_the_path() {
    let router = router(vec![exact("/a/b"), any().host("www.example.com")]);
    assert_eq!(Ask::path("/a/b").of(&router), Some(1));
    assert_eq!(Ask::path("/a/b").host("x.test").of(&router), Some(0));
}

#[test]
fn most_conditions_then_file_order() {
    let router = router(vec![
        prefix("/a"),
        prefix("/a").header("x", is("1")),
        prefix("/a").header("x", is("1")).header("y", is("1")),
        prefix("/a").methods(&[Method::GET, Method::POST, Method::PUT]),
        prefix("/a"),
    ]);
    assert_eq!(Ask::path("/a").method(Method::DELETE).of(&router), Some(0));
    assert_eq!(Ask::path("/a").of(&router), Some(3));
    assert_eq!(Ask::path("/a").header("x", "1").of(&router), Some(1), "one condition each: file order");
    assert_eq!(Ask::path("/a").header("x", "1").header("y", "1").of(&router), Some(2));
}

#[test]
fn a_pattern_counts_from_its_first_place() {
    let router = router(vec![regex("/x.*"), regex("/.*"), regex("/x.*").header("v", is("2")), regex("/x1")]);
    assert_eq!(Ask::path("/x1").of(&router), Some(0));
    assert_eq!(Ask::path("/x1").header("v", "2").of(&router), Some(2));
    assert_eq!(Ask::path("/y").header("v", "2").of(&router), Some(1));
}

#[test]
fn what_misses_its_conditions_falls_through_step_by_step() {
    let wanted = || is("1");
    let router = router(vec![
        exact("/a/b").host("www.example.com").header("h1", wanted()),
        prefix("/a/b").host("www.example.com").header("h2", wanted()),
        prefix("/a").host("www.example.com").header("h3", wanted()),
        regex("/a/.*").host("www.example.com").header("h4", wanted()),
        any().host("www.example.com").header("h5", wanted()),
        exact("/a/b").host("*.example.com").header("h6", wanted()),
        any().host("*.example.com").header("h7", wanted()),
        prefix("/a").header("h8", wanted()),
        any(),
    ]);
    let names = ["h1", "h2", "h3", "h4", "h5", "h6", "h7", "h8"];
    for first in 0..=names.len() {
        let ask = names[first..].iter().fold(Ask::path("/a/b"), |ask, name| ask.header(name, "1"));
        assert_eq!(ask.of(&router), Some(first), "with {:?}", &names[first..]);
    }
}

#[test]
fn many_patterns_are_tried_in_file_order() {
    let mut drafts: Vec<Draft> = (0..40).map(|i| regex(&format!("/p{i}/.*"))).collect();
    drafts.push(regex("/p7/x").header("v", is("2")));
    drafts.push(regex(".*"));
    drafts.insert(0, regex("/p3.*").header("v", is("2")));
    let router = router(drafts);
    for i in 0..40 {
        assert_eq!(Ask::path(&format!("/p{i}/x")).of(&router), Some(i + 1));
    }
    assert_eq!(Ask::path("/p30/x").header("v", "2").of(&router), Some(0));
    assert_eq!(Ask::path("/q").of(&router), Some(42));
}

#[test]
fn a_prefix_with_trailing_slash_is_one_without() {
    let router = router(vec![prefix("/a/"), prefix("/").host("x.test")]);
    assert_eq!(Ask::path("/a").of(&router), Some(0));
    assert_eq!(Ask::path("/b").host("x.test").of(&router), Some(1));
}

#[test]
fn long_hosts_and_paths_are_no_trouble() {
    let router = router(vec![prefix("/a"), any().host("*.a.a.test")]);
    assert_eq!(Ask::path(&"/a".repeat(100_000)).of(&router), Some(0));
    assert_eq!(Ask::path("/b").host(&format!("{}a.test", "a.".repeat(100_000))).of(&router), Some(1));
}
