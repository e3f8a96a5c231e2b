//! `tls`: the files read, and made into what connections are made with.

use super::files::{FILE_MAX, full_path};
use super::model::{ListenerTls, ServerTls};
use super::read::At;
use super::{Environment, Report};
use crate::tls::{Acceptor, Connector, Flaw, Identity, Pem};

/// What was made before, if it was made of the same: it knows those who return.
pub fn kept<T: Clone + PartialEq>(made: Option<T>, before: Option<&Option<T>>) -> Option<T> {
    before
        .filter(|before| **before == made)
        .cloned()
        .unwrap_or(made)
}

/// What a listener shows its clients.
pub fn acceptor(
    table: &ListenerTls,
    environment: &Environment<'_>,
    report: &mut Report,
) -> Option<Acceptor> {
    let identity = identity(&table.certificate, &table.key, environment, report);
    let authorities = pem(&table.client_ca, environment, report);
    // Every file is read before anything is made of them.
    let (identity, authorities) = (identity?, authorities.ok()?);
    let made = Acceptor::new(&identity, authorities.as_ref());
    made.map_err(|flaw| {
        let at = match &flaw {
            Flaw::Certificate(_) => &table.certificate,
            Flaw::Key(_) => &table.key,
            _ => &table.client_ca,
        };
        let span = at.as_ref().map_or(&table.span, |at| &at.span);
        report.error(span, flaw.to_string());
    })
    .ok()
}

/// How servers are told from others.
pub fn connector(
    table: &ServerTls,
    environment: &Environment<'_>,
    report: &mut Report,
) -> Option<Connector> {
    let is_half = table.certificate.is_some() != table.key.is_some();
    if is_half {
        let given = table.certificate.as_ref().or(table.key.as_ref());
        let span = given.map_or(&table.span, |at| &at.span);
        let message = "`certificate` and `key` belong together: one is missing";
        report.error(span, message);
    }
    let has_identity = table.certificate.is_some() && table.key.is_some();
    let identity =
        has_identity.then(|| identity(&table.certificate, &table.key, environment, report));
    let authorities = pem(&table.ca, environment, report);
    if is_half || matches!(identity, Some(None)) {
        return None;
    }
    let name = table.server_name.as_ref().map(|at| at.value.as_str());
    let made = Connector::new(
        authorities.ok()?.as_ref(),
        name,
        identity.flatten().as_ref(),
    );
    made.map_err(|flaw| {
        let at = match &flaw {
            Flaw::Certificate(_) => &table.certificate,
            Flaw::Key(_) => &table.key,
            Flaw::Name(_) => &table.server_name,
            Flaw::Authorities(_) => &table.ca,
        };
        let span = at.as_ref().map_or(&table.span, |at| &at.span);
        report.error(span, flaw.to_string());
    })
    .ok()
}

fn identity(
    certificate: &Option<At<String>>,
    key: &Option<At<String>>,
    environment: &Environment<'_>,
    report: &mut Report,
) -> Option<Identity> {
    let certificate = pem(certificate, environment, report);
    let key = pem(key, environment, report);
    Some(Identity {
        certificate: certificate.ok()??,
        key: key.ok()??,
    })
}

/// A file, if one is named; an error if it cannot be read, which is in the
/// report then.
fn pem(
    path: &Option<At<String>>,
    environment: &Environment<'_>,
    report: &mut Report,
) -> Result<Option<Pem>, ()> {
    let Some(at) = path else { return Ok(None) };
    let full = full_path(&at.value, environment);
    let name = full.display().to_string();
    match environment.files.read(&full, FILE_MAX, "the file") {
        Ok(bytes) => Ok(Some(Pem { name, bytes })),
        Err(message) => {
            report.error(&at.span, message);
            Err(())
        }
    }
}
