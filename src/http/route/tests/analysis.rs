//! What `check` warns about: routes that are hidden, and conditions that protect nothing.

use super::*;

fn hidden_in(drafts: Vec<Draft>) -> Vec<(usize, usize)> {
    hidden(&plan(drafts))
}

fn falls(drafts: Vec<Draft>) -> Vec<(usize, usize)> {
    falls_through(&plan(drafts))
}

#[test]
fn the_second_of_two_equal_routes_is_hidden() {
    assert_eq!(hidden_in(vec![prefix("/a"), any(), prefix("/a")]), [(2, 0)]);
    assert_eq!(hidden_in(vec![exact("/a"), exact("/a")]), [(1, 0)]);
    assert_eq!(hidden_in(vec![regex("/a.*"), regex("/a.*")]), [(1, 0)]);
    assert_eq!(hidden_in(vec![any(), prefix("/")]), [(1, 0)]);
    let h = || prefix("/a").header("x", is("1"));
    assert_eq!(hidden_in(vec![h(), h()]), [(1, 0)]);
}

#[test]
fn conditions_that_follow_from_others_hide() {
    let get = || prefix("/a").methods(&[Method::GET]);
    let both = prefix("/a").methods(&[Method::GET, Method::POST]);
    assert_eq!(hidden_in(vec![both, get()]), [(1, 0)]);
    let head = prefix("/a").methods(&[Method::HEAD]);
    assert_eq!(hidden_in(vec![get(), head]), [(1, 0)]);
    let (wide, narrow) = (prefix("/a").client("10.0.0.0/8"), prefix("/a").client("10.1.0.0/16"));
    assert_eq!(hidden_in(vec![wide, narrow]), [(1, 0)]);
    let present = prefix("/a").header("x", ValueMatch::Present(true));
    assert_eq!(hidden_in(vec![present, prefix("/a").header("x", is("1"))]), [(1, 0)]);
}

#[test]
fn routes_that_some_request_takes_are_not_hidden() {
    let x = || prefix("/a").header("x", is("1"));
    // most conditions first, whatever the order in the file
    assert!(hidden_in(vec![prefix("/a"), x()]).is_empty());
    assert!(hidden_in(vec![x(), prefix("/a")]).is_empty());
    assert!(hidden_in(vec![x(), prefix("/a").header("x", is("2"))]).is_empty());
    assert!(hidden_in(vec![any(), prefix("/a"), exact("/a"), prefix("/a/b"), regex("/b.*")]).is_empty());
    assert!(hidden_in(vec![prefix("/a"), prefix("/a").host("x.test")]).is_empty());
    assert!(hidden_in(vec![prefix("/a").listener(0), prefix("/a").listener(1)]).is_empty());
    let (narrow, wide) = (prefix("/a").client("10.1.0.0/16"), prefix("/a").client("10.0.0.0/8"));
    assert!(hidden_in(vec![narrow, wide]).is_empty());
}

#[test]
fn all_hosts_must_be_hidden() {
    let two = || prefix("/a").host("x.test").host("y.test");
    assert!(hidden_in(vec![prefix("/a").host("x.test"), two()]).is_empty());
    assert_eq!(hidden_in(vec![two(), prefix("/a").host("y.test")]), [(1, 0)]);
    let (x, y) = (prefix("/a").host("x.test"), prefix("/a").host("y.test"));
    assert_eq!(hidden_in(vec![x, y, two()]), [(2, 0)]);
    assert!(hidden_in(vec![prefix("/a").host("x.test").host("x.test")]).is_empty(), "not by itself");
}

#[test]
fn a_prefix_hides_the_patterns_below_it() {
    assert_eq!(hidden_in(vec![regex("/api/v[0-9]+"), prefix("/api")]), [(0, 1)]);
    assert!(hidden_in(vec![regex("/api[^/]*"), prefix("/api")]).is_empty());
    assert!(hidden_in(vec![regex("/api/?x"), prefix("/api")]).is_empty());
    assert!(hidden_in(vec![regex("/api/x|/y"), prefix("/api")]).is_empty());
    assert!(hidden_in(vec![regex("(?i)/api/x"), prefix("/api")]).is_empty());
    assert!(hidden_in(vec![regex("/api/.*"), prefix("/api").methods(&[Method::POST])]).is_empty());
    assert!(hidden_in(vec![regex("/.*"), any()]).is_empty());
}

#[test]
fn what_is_hidden_is_never_found() {
    let routes = plan(vec![
        regex("/a/.*"),
        prefix("/a"),
        prefix("/a").methods(&[Method::GET]),
        prefix("/a").methods(&[Method::GET]),
        any(),
        any(),
    ]);
    let router = Router::build(&routes);
    let hidden = hidden(&routes);
    assert_eq!(hidden, [(0, 1), (3, 2), (5, 4)]);
    for path in ["/", "/a", "/a/x", "/b"] {
        for method in [Method::GET, Method::POST] {
            let found = Ask::path(path).method(method).of(&router).unwrap();
            assert!(hidden.iter().all(|(h, _)| *h != found), "{path}");
        }
    }
}

#[test]
fn a_client_condition_that_only_selects_is_named() {
    let admin = || prefix("/admin").client("10.0.0.0/8");
    assert_eq!(falls(vec![admin(), any()]), [(0, 1)]);
    assert_eq!(falls(vec![any(), exact("/admin").client("10.0.0.0/8")]), [(1, 0)]);
    assert_eq!(falls(vec![any().host("admin.test").client("10.0.0.0/8"), any()]), [(0, 1)]);
    assert_eq!(falls(vec![admin().host("a.x.test"), any().host("*.x.test"), any()]), [(0, 1)]);
    assert_eq!(falls(vec![regex("/admin/.*").client("10.0.0.0/8"), any()]), [(0, 1)]);
    // the nearest one is named, and each of two guarded routes
    assert_eq!(falls(vec![prefix("/a/b").client("10.0.0.0/8"), prefix("/a"), any()]), [(0, 1)]);
    assert_eq!(falls(vec![admin(), prefix("/admin").client("192.0.2.0/24"), any()]), [(0, 2), (1, 2)]);
    // part of the requests is enough
    assert_eq!(falls(vec![admin(), any().methods(&[Method::GET])]), [(0, 1)]);
}

#[test]
fn headers_are_named_when_the_path_is_narrower() {
    assert_eq!(falls(vec![prefix("/admin").header("x-team", is("ops")), any()]), [(0, 1)]);
    assert_eq!(falls(vec![prefix("/admin").cookie("c", is("1")), any()]), [(0, 1)]);
    assert_eq!(falls(vec![prefix("/admin").query("q", is("1")), any()]), [(0, 1)]);
    assert!(falls(vec![any().host("x.test").header("x-team", is("ops")), any()]).is_empty());
}

#[test]
fn what_is_sorted_on_purpose_is_not_named() {
    let canary = || prefix("/app").header("x-canary", is("1"));
    assert!(falls(vec![canary(), prefix("/app"), any()]).is_empty());
    assert!(falls(vec![exact("/app").header("x-canary", is("1")), prefix("/app"), any()]).is_empty());
    assert!(falls(vec![any().header("x-canary", is("1")), any()]).is_empty());
    assert!(falls(vec![prefix("/app").client("10.0.0.0/8"), prefix("/app"), any()]).is_empty());
    assert!(falls(vec![prefix("/app").methods(&[Method::POST]), any()]).is_empty());
    assert!(falls(vec![prefix("/app").client("10.0.0.0/8")]).is_empty());
}

#[test]
fn a_refusal_behind_the_condition_is_protection() {
    let admin = || prefix("/admin").client("10.0.0.0/8");
    assert!(falls(vec![admin(), prefix("/admin").refuses(), any()]).is_empty());
    assert!(falls(vec![admin(), any().refuses()]).is_empty());
    let posts = prefix("/admin").methods(&[Method::POST]).refuses();
    assert_eq!(falls(vec![admin(), posts, any()]), [(0, 2)], "only POST is refused");
    let listeners = (admin().listener(0), prefix("/admin").listener(0).refuses());
    assert!(falls(vec![listeners.0, listeners.1, any()]).is_empty());
    // the guarded one refuses itself
    assert!(falls(vec![admin().refuses(), any()]).is_empty());
    // the other is for another listener
    assert!(falls(vec![admin().listener(0), any().listener(1)]).is_empty());
}
