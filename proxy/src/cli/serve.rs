//! `emberline serve`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::embedded::Embedded;
use super::{EXIT_CONFIG, open, start, terminal};
use crate::config::Recipe;
use crate::config::model::AdminBind;
use crate::log;
use crate::reload::Origin;
use crate::running::{Address, Bind};
use crate::server;

#[derive(Debug, Default, Args)]
pub struct Serve {
    /// The configuration file [default: the embedded configuration]
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["redis", "memcached", "redis_bind", "memcached_bind"])]
    config: Option<PathBuf>,
    /// Redis servers to proxy, without a file; opens the Redis listener alone
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = server_address)]
    redis: Vec<String>,
    /// memcached servers to proxy, without a file; opens the memcached listener alone
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', value_parser = server_address)]
    memcached: Vec<String>,
    /// Worker threads [default: the CPUs of the cgroup, at most 2]
    #[arg(long, value_name = "N", value_parser = workers)]
    workers: Option<usize>,
    /// Where Redis clients connect [default: 127.0.0.1:7379]
    #[arg(long, value_name = "ADDRESS")]
    redis_bind: Option<Bind>,
    /// Where memcached clients connect [default: 127.0.0.1:12211]
    #[arg(long, value_name = "ADDRESS")]
    memcached_bind: Option<Bind>,
    /// Where the admin API listens, or "off" [default: 127.0.0.1:9779]
    #[arg(long, value_name = "ADDRESS", value_parser = admin_bind)]
    admin_bind: Option<AdminBind>,
    /// How the log on standard error looks; EMBERLINE_LOG sets what is logged
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: log::Format,
}

pub fn run(args: &Serve) -> ExitCode {
    if let Err(error) = log::init(args.log_format) {
        terminal::complain(error);
        return ExitCode::from(EXIT_CONFIG);
    }
    let mut origin = match origin(args) {
        Ok(origin) => origin,
        Err(code) => return code,
    };
    let running = match start(&mut origin) {
        Ok(running) => running,
        Err(code) => return code,
    };
    match server::serve(Arc::new(running), Some(origin)) {
        Ok(code) => code,
        Err(error) => {
            terminal::complain(error);
            ExitCode::FAILURE
        }
    }
}

fn origin(args: &Serve) -> Result<Origin, ExitCode> {
    let Some(path) = &args.config else {
        let embedded = Embedded {
            redis: args.redis.clone(),
            memcached: args.memcached.clone(),
            workers: args.workers,
            redis_bind: args.redis_bind.clone(),
            memcached_bind: args.memcached_bind.clone(),
            admin_bind: args.admin_bind.clone(),
        };
        return Ok(Origin::new(
            None,
            Recipe::Command(Box::new(embedded.config())),
        ));
    };
    let mut origin = Origin::new(Some(path.clone()), Recipe::Text(open(path)?));
    origin.workers = args.workers;
    origin.admin = args.admin_bind.as_ref().map(|bind| match bind {
        AdminBind::Off => None,
        AdminBind::On(bind) => Some(bind.clone()),
    });
    Ok(origin)
}

fn server_address(text: &str) -> Result<String, String> {
    text.parse::<Address>().map(|_| text.to_owned())
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(workers @ 1..=256) => Ok(workers),
        _ => Err("expected a number from 1 to 256".to_owned()),
    }
}

fn admin_bind(text: &str) -> Result<AdminBind, String> {
    if text == "off" {
        return Ok(AdminBind::Off);
    }
    let bind: Bind = text.parse()?;
    match bind.is_loopback() {
        true => Ok(AdminBind::On(bind)),
        false => Err(
            "the admin API has no password and may listen on loopback or a Unix socket only"
                .to_owned(),
        ),
    }
}
