//! The first words on a link: who we are, which database, and whether the
//! server can push what changes.
//!
//! ```text
//!   HELLO 3 ----no--> AUTH                      RESP2: nothing can be pushed
//!     |                 |
//!   SELECT            SELECT
//!     |                 |
//!   CLIENT TRACKING --no+-> MULTI, EXEC --no--> PTTL, GET, PTTL
//!   CLIENT CACHING      |   MULTI, PTTL, GET, EXEC
//!     |
//!   CLIENT CACHING YES, PTTL, GET
//! ```
//!
//! Some managed services lack tracking, and an access list may forbid it: that
//! is found out here and not at the first fill.

use redis_protocol::resp3::types::OwnedFrame;

use super::control;
use super::fill::How;
use super::wire::Wire;
use crate::running::{Mode, Pool};

/// What a server can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How values are fetched.
    pub how: How,
    /// Why it cannot push, if it should.
    pub lacking: Option<String>,
}

/// Introduce ourselves.
///
/// # Errors
/// When the server does not want us, or does not speak RESP.
pub async fn introduce(wire: &mut Wire, pool: &Pool) -> Result<Terms, String> {
    let mut lacking = hello(wire, pool).await?;
    if pool.database != 0 {
        let database = pool.database.to_string();
        refused(&wire.call(&["SELECT", &database]).await?, "SELECT")?;
    }
    if pool.l1.mode == Mode::Tracking && lacking.is_none() {
        lacking = track(wire).await?;
        if lacking.is_none() {
            return Ok(Terms {
                how: How::Tracked,
                lacking: None,
            });
        }
    }
    Ok(Terms {
        how: transaction(wire).await?,
        lacking: lacking.filter(|_| pool.l1.mode == Mode::Tracking),
    })
}

/// Say HELLO, or AUTH where that is not known. Answers why nothing can be pushed.
async fn hello(wire: &mut Wire, pool: &Pool) -> Result<Option<String>, String> {
    let user = pool.username.as_deref().unwrap_or("default");
    let password = pool.password.as_ref().map(|secret| secret.reveal());
    let reply = match password {
        Some(password) => wire.call(&["HELLO", "3", "AUTH", user, password]).await?,
        None => wire.call(&["HELLO", "3"]).await?,
    };
    let Some(error) = control::error(&reply) else {
        return match reply {
            OwnedFrame::Map { .. } => Ok(None),
            _ => Ok(Some("it did not switch to RESP3".to_owned())),
        };
    };
    if ["WRONGPASS", "NOAUTH"]
        .iter()
        .any(|code| error.starts_with(code))
    {
        return Err(format!("it refused HELLO ({})", code(&error)));
    }
    let reply = match (password, pool.username.is_some()) {
        (Some(password), true) => wire.call(&["AUTH", user, password]).await?,
        (Some(password), false) => wire.call(&["AUTH", password]).await?,
        (None, _) => wire.call(&["PING"]).await?,
    };
    if let Some(error) = control::error(&reply) {
        return Err(format!("it refused AUTH ({})", code(&error)));
    }
    Ok(Some(format!("it refused HELLO 3 ({})", code(&error))))
}

/// Switch tracking on, and see that single keys may be asked for. Answers why not.
async fn track(wire: &mut Wire) -> Result<Option<String>, String> {
    // Never NOLOOP: after a write of our own the server would forget the key
    // and not push the next writer's.
    let words: [&[&str]; 2] = [
        &["CLIENT", "TRACKING", "ON", "OPTIN"],
        &["CLIENT", "CACHING", "YES"],
    ];
    for words in words {
        if let Some(error) = control::error(&wire.call(words).await?) {
            let command = words[..2].join(" ");
            return Ok(Some(format!(
                "it refused {command}: {}",
                first_words(&error)
            )));
        }
    }
    // CACHING is about the next command: let that be one without a key.
    wire.call(&["PING"]).await?;
    Ok(None)
}

/// Whether a value and its time to live can be had at one moment.
async fn transaction(wire: &mut Wire) -> Result<How, String> {
    let multi = wire.call(&["MULTI"]).await?;
    if control::error(&multi).is_some() {
        return Ok(How::Plain);
    }
    let exec = wire.call(&["EXEC"]).await?;
    match control::error(&exec) {
        None => Ok(How::Atomic),
        // It may have let us into a transaction and not out again.
        Some(error) => Err(format!("it refused EXEC: {error}")),
    }
}

fn refused(reply: &OwnedFrame, command: &str) -> Result<(), String> {
    match control::error(reply) {
        Some(error) => Err(format!("it refused {command}: {error}")),
        None => Ok(()),
    }
}

/// An error for people; a server may go on at length.
fn first_words(error: &str) -> String {
    error.chars().take(100).collect()
}

/// The code of an error and no more. An old server that does not know HELLO
/// quotes its arguments, the password among them.
fn code(error: &str) -> String {
    let letters = error.chars().take_while(char::is_ascii_uppercase);
    letters.take(20).collect()
}
