//! Many routes, or many servers, in the words of each program: a prefix for each route, groups in turn, and one path at
//! which the program itself says which configuration it uses. Called by `reload` and `compare memory`.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Result, bail};

use super::programs::{self, Program};

/// Where a program says the number of its configuration.
pub const VERSION: &str = "/version";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub routes: usize,
    pub upstreams: usize,
    /// Of each group. The first is the origin; nobody listens where the others are.
    pub servers: usize,
    /// Each server is asked once in an hour whether it accepts connections.
    pub checks: bool,
}

impl Size {
    /// Groups of one server.
    pub const fn of(routes: usize, upstreams: usize) -> Size {
        Size { routes, upstreams, servers: 1, checks: false }
    }

    /// A path that a route in the middle takes.
    pub fn path(self) -> String {
        format!("{}item", prefix(self.routes / 2))
    }

    /// The servers of a group: the origin, and then 127.0.1.1, 127.0.1.2 and so on, 250 to a network, with its port.
    fn servers(self, origin: SocketAddr) -> impl Iterator<Item = SocketAddr> {
        let others = (1..=u8::MAX).flat_map(|c| (1..=250).map(move |d| Ipv4Addr::new(127, 0, c, d)));
        let others = others.map(move |ip| SocketAddr::from((ip, origin.port())));
        std::iter::once(origin).chain(others).take(self.servers)
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
    let servers: Vec<_> = size.servers(places.origin).map(|server| format!("\"{server}\"")).collect();
    let servers = servers.join(", ");
    let check = if size.checks { ", health_check: { tcp: {}, interval: 1h }" } else { "" };
    text.push_str("upstreams:\n");
    for group in 0..size.upstreams {
        writeln!(text, "  u{group}: {{ servers: [{servers}]{check} }}")?;
    }
    Ok(text)
}

fn nginx(size: Size, version: u32, places: Places<'_>) -> Result<String> {
    if size.checks {
        bail!("it has no health checks of its own");
    }
    let servers: String = size.servers(places.origin).map(|server| format!("server {server}; ")).collect();
    let mut http = String::from("access_log off;\n");
    for group in 0..size.upstreams {
        writeln!(http, "upstream u{group} {{ {servers}keepalive 32; }}")?;
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
    let check = if size.checks { " check inter 1h" } else { "" };
    for group in 0..size.upstreams {
        writeln!(sections, "backend u{group}")?;
        for (number, server) in size.servers(places.origin).enumerate() {
            writeln!(sections, "    server s{number} {server}{check}")?;
        }
    }
    Ok(programs::haproxy("", &sections))
}
