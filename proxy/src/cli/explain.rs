//! `emberline explain`: where a request goes, by a configuration or by a running
//! process that is asked.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::embedded::Embedded;
use super::{ConfigFile, ask, load, terminal};
use crate::config::model::ADMIN_BIND;
use crate::explain::{self, Offline};

/// How long a running process may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub struct Explain {
    #[command(flatten)]
    file: ConfigFile,
    /// The listener that the request comes in by [default: the first that speaks the request's protocol]
    #[arg(short, long, value_name = "NAME")]
    listener: Option<String>,
    /// Ask a running Emberline, whose servers may be down at this moment
    #[arg(long, conflicts_with = "config")]
    live: bool,
    /// The admin API to ask: HOST:PORT or unix:/PATH
    #[arg(long, value_name = "ADDRESS", default_value = ADMIN_BIND, requires = "live")]
    admin: String,
    /// The request as a client would type it, such as 'GET user:1'
    #[arg(value_name = "REQUEST", required = true, allow_negative_numbers = true)]
    request: Vec<String>,
}

pub fn run(args: &Explain) -> ExitCode {
    if args.live {
        return ask_live(args);
    }
    let running = match &args.file.config {
        Some(path) => load(path),
        None => Embedded::default().assemble().0.ok_or(ExitCode::FAILURE),
    };
    let running = match running {
        Ok(running) => running,
        Err(code) => return code,
    };
    let request = args.request.join(" ");
    match explain::explain(
        &running,
        &Offline(&running),
        args.listener.as_deref(),
        &request,
    ) {
        Ok(text) => terminal::print(text.as_bytes()),
        Err(message) => {
            terminal::complain(message);
            ExitCode::from(2)
        }
    }
}

/// What a running process says.
fn ask_live(args: &Explain) -> ExitCode {
    let request = ask::encoded(&args.request.join(" "));
    let mut path = format!("/explain?request={request}");
    if let Some(listener) = &args.listener {
        path.push_str("&listener=");
        path.push_str(&ask::encoded(listener));
    }
    match ask::get(&args.admin, &path, TIMEOUT) {
        Ok(answer) if answer.status == "200" => terminal::print(answer.body.as_bytes()),
        Ok(answer) if answer.status == "400" => {
            terminal::complain(answer.body.trim_end());
            ExitCode::from(2)
        }
        Ok(answer) => {
            let status = answer.status;
            terminal::complain(format!("{} answers with status {status}", args.admin));
            ExitCode::FAILURE
        }
        Err(error) => {
            terminal::complain(format!("{}: {error}", args.admin));
            ExitCode::FAILURE
        }
    }
}
