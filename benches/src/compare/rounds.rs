//! CPU time per request, in interleaved rounds.
//!
//! Round by round every peer is measured once, so that a slow minute of the
//! machine falls on all of them; which one goes first changes from round to
//! round. The proxy's CPU time is read before and after the measured part:
//! connecting, filling and warming up are not in it.

use std::io;
use std::time::Duration;

use super::cells::Cell;
use crate::interrupt;
use crate::load::{Engine, Figures, Job, Limit};
use crate::peers::Peer;
use crate::procfs;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Rounds per cell.
    pub rounds: u32,
    /// Measured time per peer and round.
    pub time: Duration,
    /// Unmeasured time before it.
    pub warm: Duration,
}

/// What one peer did in one cell, a number per round.
#[derive(Debug, Default)]
pub struct Series {
    /// The peer.
    pub name: &'static str,
    /// Microseconds of CPU time per request.
    pub cpu: Vec<f64>,
    /// Requests per second, for information: the load shares the machine.
    pub rate: Vec<f64>,
    /// Why there are no figures, or none to be trusted.
    pub failure: Option<String>,
}

/// Measure one cell on all peers that take part in it and speak its protocol.
pub fn measure(cell: &Cell, peers: &[&Peer], plan: Plan) -> io::Result<Vec<Series>> {
    let mut contestants: Vec<Contestant<'_>> = peers
        .iter()
        .filter(|peer| cell.group.takes(peer.name))
        .filter_map(|peer| Contestant::prepare(cell, peer))
        .collect();
    for round in 0..plan.rounds as usize {
        for turn in 0..contestants.len() {
            interrupt::check()?;
            let index = (turn + round) % contestants.len();
            contestants[index].round(cell, plan);
        }
    }
    interrupt::check()?;
    Ok(contestants
        .into_iter()
        .map(|contestant| contestant.series)
        .collect())
}

struct Contestant<'a> {
    peer: &'a Peer,
    engine: Option<Engine>,
    series: Series,
}

impl<'a> Contestant<'a> {
    fn prepare(cell: &Cell, peer: &'a Peer) -> Option<Contestant<'a>> {
        let target = peer.target(cell.protocol)?;
        let mut contestant = Contestant {
            peer,
            engine: None,
            series: Series {
                name: peer.name,
                ..Series::default()
            },
        };
        let filled = Engine::connect(cell.options(target)).and_then(|mut engine| {
            let figures = engine.run(Job::Fill, None)?;
            contestant.engine = Some(engine);
            trusted(figures)
        });
        contestant.settle(filled.map(|_| ()));
        Some(contestant)
    }

    /// One warm-up and one measured run; a peer that has failed sits out the rest.
    fn round(&mut self, cell: &Cell, plan: Plan) {
        if self.series.failure.is_some() {
            return;
        }
        let result = self.timed(plan);
        if let Ok((cpu, figures)) = &result {
            if cell.reads > 0.0 && figures.misses() > 0 {
                self.series.failure = Some(format!("{} misses", figures.misses()));
            }
            self.series
                .cpu
                .push(cpu.as_secs_f64() * 1e6 / figures.requests.max(1) as f64);
            self.series.rate.push(figures.rate());
        }
        self.settle(result.map(|_| ()));
    }

    fn timed(&mut self, plan: Plan) -> io::Result<(Duration, Figures)> {
        let engine = self.engine.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        trusted(engine.run(Job::Mix(Limit::Time(plan.warm)), None)?)?;
        let pid = self.peer.process.pid();
        let before = procfs::cpu(pid)?;
        let figures = trusted(engine.run(Job::Mix(Limit::Time(plan.time)), None)?)?;
        Ok((procfs::cpu(pid)?.saturating_sub(before), figures))
    }

    fn settle(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.series.failure = Some(error.to_string());
        }
    }
}

/// Figures with an error in them say nothing about speed.
pub fn trusted(figures: Figures) -> io::Result<Figures> {
    if figures.clean() {
        return Ok(figures);
    }
    let text = format!(
        "{} errors, {} wrong, {} lost{}{}",
        figures.errors,
        figures.mismatches,
        figures.lost,
        figures
            .first_error
            .map(|text| format!("; {text}"))
            .unwrap_or_default(),
        figures
            .first_mismatch
            .map(|text| format!("; {text}"))
            .unwrap_or_default(),
    );
    Err(io::Error::other(text))
}
