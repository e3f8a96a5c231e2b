//! Questions, and what is known of their answers at one moment: plain data.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Question {
    /// The addresses of this host (A and AAAA). A name that ends in a dot is
    /// whole; others may be completed by the system's search domains.
    Host(String),
    /// Hosts and ports of this service (SRV).
    Service(String),
}

/// What came of it: sorted, nothing twice, never empty. So an answer that was
/// only shuffled is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Of a host.
    Host(Vec<IpAddr>),
    /// Of a service: those of the lowest priority.
    Service(Vec<Service>),
}

/// One target of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Its whole name, in lower case, without the dot at the end.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Every question that was asked, with its last good answer, or why there is
/// none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(BTreeMap<Question, Result<Answer, String>>);

/// What is said of a question that nobody has asked, as where a configuration
/// is only looked at.
const UNASKED: &str = "it was not looked up";

impl Known {
    /// The addresses of a host, or why there are none.
    ///
    /// # Errors
    /// Why there are none.
    pub fn host(&self, name: &str) -> Result<&[IpAddr], &str> {
        match self.answer(&Question::Host(name.to_owned()))? {
            Answer::Host(addresses) => Ok(addresses),
            Answer::Service(_) => Err(UNASKED),
        }
    }

    /// The targets of a service.
    ///
    /// # Errors
    /// Why there are none.
    pub fn service(&self, name: &str) -> Result<&[Service], &str> {
        match self.answer(&Question::Service(name.to_owned()))? {
            Answer::Service(services) => Ok(services),
            Answer::Host(_) => Err(UNASKED),
        }
    }

    /// What is known of one question.
    ///
    /// # Errors
    /// Why it has no answer.
    pub fn answer(&self, question: &Question) -> Result<&Answer, &str> {
        match self.0.get(question) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(why)) => Err(why),
            None => Err(UNASKED),
        }
    }

    /// One line for each question that has another answer than before.
    pub fn since<'k>(&'k self, before: &'k Known) -> impl Iterator<Item = String> + 'k {
        self.0.iter().filter_map(|(question, now)| {
            let now = now.as_ref().ok()?;
            match before.answer(question) {
                Ok(was) if was == now => None,
                Ok(was) => Some(format!("{question} leads to {now} now, to {was} before")),
                Err(_) => Some(format!("{question} leads to {now}")),
            }
        })
    }
}

impl FromIterator<(Question, Result<Answer, String>)> for Known {
    fn from_iter<I: IntoIterator<Item = (Question, Result<Answer, String>)>>(all: I) -> Known {
        Known(all.into_iter().collect())
    }
}

impl Question {
    /// The name that is asked for.
    pub fn name(&self) -> &str {
        match self {
            Question::Host(name) | Question::Service(name) => name,
        }
    }
}

impl Answer {
    /// How many servers it makes.
    pub fn len(&self) -> usize {
        match self {
            Answer::Host(addresses) => addresses.len(),
            Answer::Service(services) => services.len(),
        }
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sorted, and nothing twice.
    #[must_use]
    pub fn in_order(mut self) -> Answer {
        match &mut self {
            Answer::Host(addresses) => {
                addresses.sort_unstable();
                addresses.dedup();
            }
            Answer::Service(services) => {
                services.sort_unstable();
                services.dedup();
            }
        }
        self
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// A long answer is not told to its end.
const SHOWN: usize = 8;

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = match self {
            Answer::Host(all) => all.iter().take(SHOWN).map(IpAddr::to_string).collect(),
            Answer::Service(all) => all.iter().take(SHOWN).map(Service::to_string).collect(),
        };
        f.write_str(&shown.join(", "))?;
        match self.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
