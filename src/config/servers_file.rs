//! A file with a list of servers, YAML or JSON, in the shape of `servers` of a group. Read by `check`, and by
//! `upstream::discover` whenever the file has changed.

use super::decode::{Located, decode_whole};
use super::file;
use super::load::LARGEST_FILE;
use super::plan;
use super::report::{Code, FileId, Report, Sources, Span};
use super::yaml::{self, Data};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The bytes of a file of servers.
///
/// # Errors
/// Besides those of reading, [`io::ErrorKind::FileTooLarge`] beyond [`LARGEST_FILE`].
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
    match u64::try_from(bytes.len()) {
        Ok(length) if length <= LARGEST_FILE => Ok(bytes),
        Ok(_) | Err(_) => Err(io::ErrorKind::FileTooLarge.into()),
    }
}

/// The servers that a file lists; `None` when it has mistakes, which are then in `report`. The text
/// becomes one of the `sources` under `name`.
pub fn parse(
    name: &str,
    bytes: Vec<u8>,
    sources: &mut Sources,
    report: &mut Report,
) -> Option<Vec<plan::Member>> {
    let file = match String::from_utf8(bytes) {
        Ok(text) => sources.add(name, text),
        Err(_) => {
            let file = sources.add(name, String::new());
            report.error(Code::NotUtf8, Span::file(file), "the file is not UTF-8 text");
            return None;
        }
    };
    let listed = list(file, sources, report)?;
    let mut servers = Vec::with_capacity(listed.len());
    let mut seen = HashMap::new();
    let mut whole = true;
    for server in &listed {
        let Some(member) = plan::Member::listed(&server.value) else {
            let message = format!("`{}` is not an address: this file lists addresses", server.value.address);
            report.error(Code::BadAddress, server.span, message).help(
                "write IP:PORT or unix:PATH; a name is asked for when it stands under `servers` or in `discover: { dns: ... }`",
            );
            whole = false;
            continue;
        };
        if let Some(first) = seen.insert(member.address, server.span) {
            report
                .error(Code::DuplicateName, server.span, format!("server {} is listed twice", member.place()))
                .help("list it once, and give it a weight to send it more")
                .related(first, "listed here first");
            whole = false;
        }
        servers.push(member);
    }
    whole.then_some(servers)
}

fn list(file: FileId, sources: &mut Sources, report: &mut Report) -> Option<Vec<Located<file::Member>>> {
    let before = report.diagnostics().len();
    // data, not configuration: what a variable holds is none of its business
    let root = yaml::parse(file, sources, &|_| None, report);
    if report.diagnostics().len() > before {
        return None;
    }
    let empty = root.as_ref().is_none_or(yaml::Node::is_null);
    let Some(root) = root.filter(|_| !empty) else {
        report
            .error(Code::EmptyFile, Span::file(file), "the list of servers is empty")
            .help("write [] when there is no server");
        return None;
    };
    match &root.data {
        Data::Sequence(_) => decode_whole(&root, report),
        Data::Scalar(_) | Data::Mapping(_) | Data::Pruned => {
            report
                .error(Code::WrongType, root.span, "a file of servers is a list")
                .help("write - 127.0.0.1:3001, or [\"127.0.0.1:3001\"], with an item for each server");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Result<Vec<String>, String> {
        let (mut sources, mut report) = (Sources::default(), Report::new());
        let servers = parse("servers.yaml", text.as_bytes().to_vec(), &mut sources, &mut report);
        match servers {
            Some(servers) => {
                assert!(!report.has_errors());
                Ok(servers.iter().map(|s| format!("{} x{}", s.address, s.weight)).collect())
            }
            None => {
                assert!(report.has_errors());
                Err(report.render_text(&sources))
            }
        }
    }

    #[test]
    fn yaml_and_json_lists_are_read_alike() {
        let expected = ["127.0.0.1:3001 x1", "[::1]:3002 x3"];
        let yaml = "- 127.0.0.1:3001\n- { address: \"[::1]:3002\", weight: 3 }\n";
        assert_eq!(servers(yaml).unwrap(), expected);
        let json =
            "[\n\t\"127.0.0.1:3001\",\n\t{\n\t\t\"address\": \"[::1]:3002\",\n\t\t\"weight\": 3\n\t}\n]\n";
        assert_eq!(servers(json).unwrap(), expected);
        assert_eq!(servers("[]").unwrap(), [""; 0]);
    }

    #[test]
    fn a_server_at_a_unix_socket_is_known_by_an_address_that_stands_for_its_path() {
        let (mut sources, mut report) = (Sources::default(), Report::new());
        let text = "[\"unix:/run/a.sock\", { address: \"unix:/run/b.sock\", weight: 2 }]".as_bytes().to_vec();
        let servers = parse("servers.yaml", text, &mut sources, &mut report).unwrap();
        let [a, b] = servers.as_slice() else { panic!("{servers:?}") };
        assert_eq!((a.place(), b.place()), ("unix:/run/a.sock".to_owned(), "unix:/run/b.sock".to_owned()));
        assert_ne!(a.address, b.address);
        for server in [a, b] {
            // RFC 6666: packets to it are thrown away
            let std::net::IpAddr::V6(ip) = server.address.ip() else { panic!("{server:?}") };
            assert_eq!((&ip.segments()[..4], server.address.port()), (&[0x100, 0, 0, 0][..], 0));
        }
        let again =
            parse("servers.yaml", b"- unix:/run/a.sock\n".to_vec(), &mut sources, &mut report).unwrap();
        assert_eq!(again[0].address, a.address, "the same in every process");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        for (text, place, words) in [
            ("", "servers.yaml: ", "write []"),
            ("# nothing\n", "servers.yaml: ", "write []"),
            ("servers: [127.0.0.1:1]\n", "servers.yaml:1:1: ", "is a list"),
            ("- 127.0.0.1:3001\n- 127.0.0.1\n", "servers.yaml:2:3: ", "no port"),
            ("- 127.0.0.1:3001\n- api.internal:80\n", "servers.yaml:2:3: ", "discover: { dns"),
            ("- 127.0.0.1:3001\n- { address: 127.0.0.1:1, wieght: 2 }\n", "servers.yaml:2:27: ", "weight"),
            ("- 127.0.0.1:1\n- 127.0.0.1:1\n", "servers.yaml:2:3: ", "listed twice"),
            ("- unix:/a\n- unix:/a\n", "servers.yaml:2:3: ", "server unix:/a is listed twice"),
            ("- unix:/a/\n", "servers.yaml:1:3: ", "names no file"),
            ("[\"127.0.0.1:3001\", \"127.0.", "servers.yaml:1:", "error"),
            ("- ${HOME}\n", "servers.yaml:1:", "HOME"),
        ] {
            let said = servers(text).unwrap_err();
            assert!(said.starts_with(place) && said.contains(words), "{text:?}:\n{said}");
        }
    }
}
