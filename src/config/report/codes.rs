//! The table of stable codes: one line of title, cause and mend for each kind of problem.
//!
//! A code never changes its meaning and is never reused, because people search for it and editors filter by
//! it. Everything that emits a [`Diagnostic`](super::Diagnostic) takes its code from here.

/// How bad a problem is. An error refuses the configuration; a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

macro_rules! codes {
    ($($variant:ident $code:literal $title:literal, cause $cause:literal, mend $mend:literal;)*) => {
        /// A kind of problem with a configuration, with its stable code.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!($code, ": ", $title, ".")] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// `E014` or `W003`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $code,)* }
            }

            /// A few words.
            pub fn title(self) -> &'static str {
                match self { $(Code::$variant => $title,)* }
            }

            /// Why the problem arises.
            pub fn cause(self) -> &'static str {
                match self { $(Code::$variant => $cause,)* }
            }

            /// What to do about it.
            pub fn mend(self) -> &'static str {
                match self { $(Code::$variant => $mend,)* }
            }
        }
    };
}

impl Code {
    /// Looks a code up as a user types it: `E014`, `e014`.
    pub fn find(text: &str) -> Option<Code> {
        Code::ALL.iter().copied().find(|code| code.as_str().eq_ignore_ascii_case(text.trim()))
    }
}

codes! {
    // the files themselves
    FileUnreadable "E001" "a configuration file cannot be read",
        cause "The file does not exist, is a directory, or the user that runs weirgate may not read it.",
        mend "Check the path (relative paths start at the working directory) and the file's permissions.";
    FileTooLarge "E002" "a configuration file is too large",
        cause "One file may hold 16 MiB, and all included files together 64 MiB.",
        mend "Check that the path names a configuration; split a long list over several files with include.";
    NotUtf8 "E003" "a configuration file is not UTF-8 text",
        cause "The file has bytes that are not UTF-8, as UTF-16 or Latin-1 files do.",
        mend "Save the file as UTF-8; for example: iconv -f UTF-16 -t UTF-8.";
    Syntax "E004" "the file is not valid YAML",
        cause "The YAML parser could not make sense of the text: indentation, an unclosed quote or bracket, a tab.",
        mend "Look at the marked place and the line before it. Indent with spaces; quote text that holds : # { [ or *.";
    EmptyFile "E005" "the configuration is empty",
        cause "The main file has no content, or only comments.",
        mend "Write at least one listener, and routes with their upstreams.";
    MultipleDocuments "E006" "the file holds several YAML documents",
        cause "A line with --- starts a second document; which one is meant is not clear.",
        mend "Keep one document for each file and bring the others in with include.";
    DuplicateKey "E007" "a key is written twice",
        cause "The same key occurs twice in one mapping, so that one of the two would be lost.",
        mend "Remove one of them, or join their contents.";
    TooComplex "E008" "the file is nested too deeply, or its aliases grow too large",
        cause "Nesting is limited to 64 levels and aliases may not expand to more than a million nodes.",
        mend "Write the structure out, or simplify it.";
    BadAlias "E009" "an alias or a merge key cannot be resolved",
        cause "*name needs an earlier &name that does not contain it; << needs a mapping or a list of mappings.",
        mend "Define the anchor before its use.";
    BadKey "E010" "a key is not plain text",
        cause "A list or a mapping is used as a key.",
        mend "Use text as a key; quote it if it holds special characters.";
    BadTag "E011" "a YAML tag is not known here",
        cause "Only the core tags (!!str, !!int, !!float, !!bool, !!null, !!seq, !!map) mean something.",
        mend "Remove the tag, or quote the text if it should begin with an exclamation mark.";
    EnvUnset "E012" "an environment variable is not set",
        cause "${VAR} was written and the environment has no VAR.",
        mend "Set the variable, or give a default: ${VAR:-default}. For a literal ${ write $${.";
    EnvSyntax "E013" "a ${...} cannot be read",
        cause "${ begins a variable, and a name of letters, digits and underscores and a closing } have to follow.",
        mend "Write ${VAR} or ${VAR:-default}. For a literal ${ write $${.";
    UnknownName "E014" "a name refers to nothing",
        cause "An upstream, listener or filter chain is used that is not defined.",
        mend "Correct the name, or define what it names.";
    IncludeMissing "E015" "an included file does not exist",
        cause "A path in include without wildcards matched no file.",
        mend "Correct the path: it is relative to the directory of the file that includes it.";
    IncludeTwice "E016" "a file is included twice or includes itself",
        cause "Following include reached a file a second time, or went more than 16 levels deep.",
        mend "Include each file once; narrow a wildcard that matches the including file.";
    IncludeConflict "E017" "two files define the same thing",
        cause "Included lists are appended and maps merged; the same name or value in two files is ambiguous.",
        mend "Keep one of the two definitions, or rename one.";
    IncludeShape "E018" "include is not a path or a list of paths",
        cause "include takes text or a list of texts, each a path or a glob such as conf.d/*.yaml.",
        mend "Write include: conf.d/*.yaml or include: [a.yaml, b.yaml].";

    // the shape
    UnknownKey "E020" "a key is not known",
        cause "The key is misspelt, stands at the wrong level, or belongs to another program.",
        mend "Use one of the keys listed; check the indentation.";
    WrongType "E021" "a value has the wrong type",
        cause "For example text where a number is needed, or a list where a mapping is.",
        mend "Write the kind of value that is asked for.";
    InvalidValue "E022" "a value cannot be used",
        cause "The value has the right type but is out of range or badly formed.",
        mend "Correct the value as the message says.";
    UnknownChoice "E023" "a value is not one of the choices",
        cause "The key takes one of a few words and this is none of them.",
        mend "Use one of the choices listed.";
    MissingKey "E024" "a key is missing",
        cause "This mapping needs the key and there is no sensible default.",
        mend "Add the key.";
    NotSupportedYet "E025" "not supported yet",
        cause "The key is part of the vocabulary, and this version does not do it yet; it is refused, not ignored.",
        mend "Remove it, or use a version that supports it.";
    TooManyProblems "E026" "too many problems",
        cause "Reading stopped after a large number of problems.",
        mend "Correct those shown and check again.";

    // cross-references and meaning
    DuplicateName "E030" "a name is used twice",
        cause "Two listeners or two routes have the same name, so that logs and references are ambiguous.",
        mend "Rename one of them.";
    AddressConflict "E031" "two listeners have the same address",
        cause "Two listeners cannot be opened on one address and port (a wildcard address covers all).",
        mend "Change one of the addresses, or join the two listeners.";
    BadAddress "E032" "an address cannot be used",
        cause "An address is IP:PORT, [IPv6]:PORT, host:port for servers, or unix:/path.",
        mend "Correct the address.";
    BadCertificate "E033" "a certificate cannot be used",
        cause "The file is missing, unreadable, not PEM, or holds no certificate.",
        mend "Give a PEM file with the certificate first and then its chain.";
    BadPrivateKey "E034" "a private key cannot be used",
        cause "The file is missing, unreadable, not PEM, encrypted, or holds no supported key.",
        mend "Give an unencrypted PEM key (PKCS#8, PKCS#1 or SEC1).";
    KeyMismatch "E035" "a certificate and a private key do not belong together",
        cause "The public key in the certificate is not that of the private key.",
        mend "Give the key the certificate was made for.";
    BadPattern "E036" "a pattern cannot be used",
        cause "A regular expression or host pattern is malformed or too large.",
        mend "Correct the pattern at the marked place.";
    RouteAction "E037" "a route has no action, or several",
        cause "A route does exactly one of upstream, split, redirect and respond.",
        mend "Keep one of them.";
    NoServers "E038" "an upstream has no servers",
        cause "An upstream needs servers, or a way to discover them.",
        mend "Add at least one server.";
    FilterCycle "E039" "a filter chain uses itself",
        cause "use: leads back to the chain it stands in.",
        mend "Break the circle.";
    Conflict "E040" "two settings exclude each other",
        cause "Both cannot be had at once, or one needs another that is missing.",
        mend "Keep one of them, as the message says.";
    FilterShape "E041" "a filter is not written as one key with its settings",
        cause "A filter is a mapping of one key, such as headers or ip, to its settings.",
        mend "Write each filter as its own list item: - headers: { ... }.";
    UnknownFilter "E042" "a filter is not known",
        cause "There is no filter of this name in the catalogue of this program.",
        mend "Use one of the filters listed.";
    NothingToServe "E043" "there is nothing to serve",
        cause "There is no listener, or a listener that serves HTTP has no route.",
        mend "Add a listener, and a route that reaches it.";
    BadFile "E044" "a file the configuration names cannot be used",
        cause "The file is missing, unreadable or cannot be written.",
        mend "Check the path (relative paths start at the working directory) and its permissions.";
    AddressInUse "E045" "an address is in use",
        cause "Another process, perhaps another weirgate, listens on this address.",
        mend "Stop the other process, or choose another address.";
    BadHeader "E046" "a header name or value cannot be sent",
        cause "Names are tokens (RFC 9110 §5.6.2); values hold no control characters.",
        mend "Correct the name or the value.";
    InvalidFilter "E047" "a filter refuses its settings",
        cause "The settings are well formed, and the filter cannot be built from them.",
        mend "Correct the settings as the message says.";
    Fixed "E048" "a setting cannot change while the process runs",
        cause "Threads, users, pools and the control socket are fixed when a process starts.",
        mend "Run weirgate upgrade, which starts a new process without losing a connection, or put the old value back.";

    // warnings
    UnusedUpstream "W001" "an upstream is not used",
        cause "No route or listener names the upstream.",
        mend "Use it or remove it.";
    HiddenRoute "W002" "a route can never be chosen",
        cause "Another route matches everything this one does and is preferred.",
        mend "Remove the route, or make its conditions more specific.";
    ConditionFallsThrough "W003" "a condition selects, it does not protect",
        cause "A request that fails the condition goes on to a wider route, which may serve it.",
        mend "To refuse such requests, use a filter (such as ip) on the route, or add a route that answers them.";
    UnusedFilters "W004" "a filter chain is not used",
        cause "No route, listener or chain uses it.",
        mend "Use it or remove it.";
    CertificateDates "W005" "a certificate is expired, about to expire or not valid yet",
        cause "Clients refuse the connection, or will within 14 days; or a list of revoked certificates is out of date.",
        mend "Renew the certificate, or correct the clock.";
    UnreachedListener "W006" "a listener has no route",
        cause "Every route names other listeners, so that each request here is answered 404.",
        mend "Add a route for the listener or remove it.";
    VerificationOff "W007" "certificates of servers are not verified",
        cause "Without verification anyone between the gate and the server can read and change the traffic.",
        mend "Give the CA with tls: { ca: ... } instead.";
    CertificateNames "W008" "a certificate does not cover a name it is used for",
        cause "The name is not among the certificate's subject alternative names.",
        mend "Use a certificate issued for the name.";
    NoEffect "W009" "a setting has no effect here",
        cause "What it acts on is absent.",
        mend "Remove it, or add what it acts on.";
    SharedCookie "W010" "two upstreams set the same cookie",
        cause "A sticky cookie means something to its own upstream only, so that each visit to one undoes the other's.",
        mend "Give each a cookie name or path of its own.";
    DiscoveryMissing "W011" "a file of servers does not exist",
        cause "The file that discover names is not there yet; it is looked for again and again.",
        mend "Check the path (relative paths start at the working directory), or write the file: [] when there is no server.";
    AllDraining "W012" "all servers of an upstream drain",
        cause "A draining server gets no new sessions, so that only clients which are with one already are served.",
        mend "Take drain: true from one of the servers, or add another.";
    OcspUnfit "W013" "an OCSP response is not shown",
        cause "It is out of date, about another certificate, or says that the certificate is revoked.",
        mend "Fetch it anew, before it ends, and reload; the gate does without it until then.";
    ChallengePort "W020" "an authority asks where nobody listens",
        cause "The authority sees that a name is yours by asking on port 80 (http-01) or 443 (tls-alpn-01), and no listener is there.",
        mend "Add a listener on the port, or have the port forwarded to one.";
}

impl Code {
    /// Codes that begin with `W` are warnings.
    pub fn severity(self) -> Severity {
        if self.as_str().starts_with('W') { Severity::Warning } else { Severity::Error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ordered_and_found_again() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].as_str() < pair[1].as_str(), "{:?} before {:?}", pair[0], pair[1]);
        }
        for code in Code::ALL {
            assert_eq!(Code::find(&code.as_str().to_lowercase()), Some(*code));
            assert!(!code.title().is_empty() && code.cause().ends_with('.') && code.mend().ends_with('.'));
        }
        assert_eq!(Code::find("E999"), None);
    }
}
