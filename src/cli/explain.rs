//! `weirgate explain`: what would be done with a request, or what a code means. 0 a route matches, 1
//! none does, 64 wrong usage or configuration.

use super::{ConfigFile, FAILED, Format, OK, USAGE, err, out};
use crate::Gate;
use crate::config::report::Code;
use crate::explain::{Explainer, Question};
use crate::http::ClientCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
#[command(override_usage = "weirgate explain METHOD URL [OPTIONS]\n       weirgate explain CODE")]
pub(super) struct Explain {
    /// The method of a request; or a code, such as E014, to be told its cause and mend.
    #[arg(value_name = "METHOD")]
    method: String,
    /// The URL, or only its path: https://www.example.com/path?query, /path.
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// A header of the request; as often as needed.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The address of the client.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    client: IpAddr,
    /// The certificate that the client has shown, as a PEM file.
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// The listener it comes in at; found by the URL without it.
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    #[command(flatten)]
    config: ConfigFile,
    /// How it is shown.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub(super) fn explain(arguments: Explain) -> u8 {
    match (&arguments.url, Code::find(&arguments.method)) {
        (None, Some(code)) => of_code(code, arguments.format),
        (None, None) => {
            let asked = &arguments.method;
            err(&format!(
                "weirgate: `{asked}` is no code; to ask about a request: weirgate explain METHOD URL"
            ));
            USAGE
        }
        (Some(_), _) => of_request(arguments),
    }
}

fn of_code(code: Code, format: Format) -> u8 {
    match format {
        Format::Text => out(&code.explained()),
        Format::Json => out(&format!("{:#}\n", code.as_json())),
    }
}

fn of_request(arguments: Explain) -> u8 {
    let format = arguments.format;
    let checked = Gate::from_file(&arguments.config.file).check();
    let Some(plan) = &checked.plan else {
        err(checked.report.render_text(&checked.sources).trim_end());
        return USAGE;
    };
    let answer = question(arguments).and_then(|question| Explainer::new(plan).explain(&question));
    match answer {
        Ok(explanation) => {
            match format {
                Format::Text => out(&explanation.to_string()),
                Format::Json => {
                    let value = serde_json::to_value(&explanation).unwrap_or_default();
                    out(&format!("{value:#}\n"))
                }
            };
            let goes = explanation.route.is_some() || explanation.listener.passes_to.is_some();
            if goes { OK } else { FAILED }
        }
        Err(why) => {
            err(&format!("weirgate: {why}"));
            USAGE
        }
    }
}

fn question(arguments: Explain) -> Result<Question, String> {
    let split = |header: &String| match header.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_string(), value.trim().to_string())),
        None => Err(format!("`{header}` is no header: write 'Name: value'")),
    };
    Ok(Question {
        method: arguments.method,
        url: arguments.url.unwrap_or_default(),
        headers: arguments.headers.iter().map(split).collect::<Result<_, _>>()?,
        listener: arguments.listener,
        client: Some(arguments.client),
        certificate: arguments.client_cert.as_deref().map(certificate).transpose()?,
    })
}

fn certificate(file: &Path) -> Result<ClientCertificate, String> {
    let read = CertificateDer::from_pem_file(file).map_err(|e| e.to_string());
    read.and_then(|der| ClientCertificate::read(&der))
        .map_err(|why| format!("`{}` holds no certificate: {why}", file.display()))
}
