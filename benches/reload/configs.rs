//! The same routes in the words of each program: a prefix for each route, groups in turn, and one path at which the
//! program itself says which configuration it uses. Called by `run`.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use crate::common::programs::{self, Program};

/// Where a program says the number of its configuration.
pub const VERSION: &str = "/version";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub routes: usize,
    /// Groups, of one server each.
    pub upstreams: usize,
}

impl Size {
    pub const ALL: [Size; 4] = [
        Size { routes: 100, upstreams: 10 },
        Size { routes: 1000, upstreams: 1000 },
        Size { routes: 10_000, upstreams: 10 },
        Size { routes: 100_000, upstreams: 10 },
    ];

    /// A path that a route in the middle takes.
    pub fn path(self) -> String {
        format!("{}item", prefix(self.routes / 2))
    }

    /// The group of a route. One route in a hundred goes to another one with each configuration.
    fn group(self, route: usize, version: u32) -> usize {
        let moved = if route.is_multiple_of(100) { version as usize } else { 0 };
        (route + moved) % self.upstreams
    }
}

/// As nginx writes it; a request for `/app7/part/item` is its.
fn prefix(route: usize) -> String {
    format!("/app{route}/part/")
}

/// Where everything is.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    pub dir: &'a Path,
    pub address: SocketAddr,
    pub origin: SocketAddr,
}

/// The text of a configuration; files beside it are written.
pub fn write(program: Program, size: Size, version: u32, places: Places<'_>) -> Result<String> {
    match program {
        Program::Weirgate => weirgate(size, version, places),
        Program::Nginx => nginx(size, version, places),
        Program::Haproxy => haproxy(size, version, places),
    }
}

fn weirgate(size: Size, version: u32, places: Places<'_>) -> Result<String> {
    let mut text = format!(
        "server: {{ threads: 1 }}\nlog: {{ access: {{ to: \"off\" }} }}\nlisteners: [{{ address: \"{}\" }}]\n\
         routes:\n  - {{ exact: {VERSION}, respond: {{ status: 200, body: \"{version}\" }} }}\n",
        places.address
    );
    for route in 0..size.routes {
        let path = prefix(route);
        let path = path.trim_end_matches('/');
        writeln!(text, "  - {{ path: {path}, upstream: u{} }}", size.group(route, version))?;
    }
    text.push_str("upstreams:\n");
    for group in 0..size.upstreams {
        writeln!(text, "  u{group}: {{ servers: [\"{}\"] }}", places.origin)?;
    }
    Ok(text)
}

fn nginx(size: Size, version: u32, places: Places<'_>) -> Result<String> {
    let mut http = String::from("access_log off;\n");
    for group in 0..size.upstreams {
        writeln!(http, "upstream u{group} {{ server {}; keepalive 32; }}", places.origin)?;
    }
    writeln!(
        http,
        "server {{ listen {};\nlocation = {VERSION} {{ return 200 \"{version}\"; }}",
        places.address
    )?;
    for route in 0..size.routes {
        let group = size.group(route, version);
        writeln!(http, "location {} {{ proxy_pass http://u{group}; }}", prefix(route))?;
    }
    http.push('}');
    Ok(programs::nginx(places.dir, &http))
}

/// A map file, as its manual recommends for many routes.
fn haproxy(size: Size, version: u32, places: Places<'_>) -> Result<String> {
    let mut map = String::new();
    for route in 0..size.routes {
        writeln!(map, "{} u{}", prefix(route), size.group(route, version))?;
    }
    let file = places.dir.join("routes.map");
    fs::write(&file, map)?;
    let mut sections = format!(
        "frontend edge\n    bind {}\n    http-request return status 200 content-type text/plain string {version} if \
         {{ path {VERSION} }}\n    use_backend %[path,map_beg({},u0)]\n",
        places.address,
        file.display()
    );
    for group in 0..size.upstreams {
        writeln!(sections, "backend u{group}\n    server s {}", places.origin)?;
    }
    Ok(programs::haproxy("", &sections))
}
