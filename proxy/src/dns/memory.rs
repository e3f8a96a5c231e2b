//! When to ask which question, and what to make of the answer. Time and chance
//! are arguments, so that tests turn the clock.
//!
//! ```text
//!            follow            ask                 learn
//!   (new) ----------> due ----------> under way ----------> waiting
//!                      ^                                       |
//!                      |   good: its TTL, within the bounds    |
//!                      '-- failed: ever longer, within them ---'
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{ANSWER_MAX, Answer, Known, Question, Terms};

/// See the module's description.
#[derive(Debug, Default)]
pub struct Memory {
    terms: Terms,
    entries: BTreeMap<Question, Entry>,
}

/// An answer, and for how long its records may be believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Not yet bounded, nor in order.
    pub answer: Answer,
    /// The shortest of its records.
    pub ttl: Duration,
}

#[derive(Debug)]
struct Entry {
    /// The last good one.
    answer: Option<Answer>,
    /// Why the last lookup failed, if it did.
    failure: Option<String>,
    /// How many have failed since the last good one.
    failures: u32,
    /// When to ask; nothing while an answer is awaited.
    due: Option<Instant>,
    /// Whether a lookup has ended, well or not.
    tried: bool,
}

impl Memory {
    /// Follow these questions from now on, and no others.
    pub fn follow(&mut self, questions: &BTreeSet<Question>, terms: &Terms, now: Instant) {
        self.entries
            .retain(|question, _| questions.contains(question));
        self.follow_too(questions, terms, now);
    }

    /// Follow these questions as well. Where the terms are others, everything
    /// is asked anew.
    pub fn follow_too(&mut self, questions: &BTreeSet<Question>, terms: &Terms, now: Instant) {
        if self.terms != *terms {
            self.terms = terms.clone();
            let waiting = self.entries.values_mut().filter_map(|one| one.due.as_mut());
            waiting.for_each(|due| *due = now);
        }
        for question in questions {
            if !self.entries.contains_key(question) {
                self.entries.insert(question.clone(), Entry::new(now));
            }
        }
    }

    /// Who is asked.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The questions to ask now, at most `most`, with their last good answers.
    /// From here on they are under way.
    pub fn ask(&mut self, now: Instant, most: usize) -> Vec<(Question, Option<Answer>)> {
        let is_due = |entry: &Entry| entry.due.is_some_and(|due| due <= now);
        let due = self.entries.iter_mut().filter(|(_, entry)| is_due(entry));
        due.take(most)
            .map(|(question, entry)| {
                entry.due = None;
                (question.clone(), entry.answer.clone())
            })
            .collect()
    }

    /// When the next question is due.
    pub fn next(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.due).min()
    }

    /// How a lookup ended; whether anything is different now. `chance` is from
    /// 0 to 1.
    pub fn learn(
        &mut self,
        question: &Question,
        outcome: Result<Found, String>,
        now: Instant,
        chance: f64,
    ) -> bool {
        let (least, most) = (self.terms.ttl_min, self.terms.ttl_max);
        let Some(entry) = self.entries.get_mut(question) else {
            return false;
        };
        entry.tried = true;
        match outcome.and_then(checked) {
            Ok(found) => {
                entry.due = Some(now + found.ttl.clamp(least, most));
                entry.failures = 0;
                entry.failure = None;
                let is_new = entry.answer.as_ref() != Some(&found.answer);
                entry.answer = Some(found.answer);
                is_new
            }
            Err(why) => {
                entry.failures = entry.failures.saturating_add(1);
                entry.due = Some(now + pause(entry.failures, least, most, chance));
                entry.failure = Some(why);
                false
            }
        }
    }

    /// Go back from these answers to those before: nobody can run on them. They
    /// are looked up again when they end.
    pub fn refuse(&mut self, refused: &Known, before: &Known, why: &str) {
        for (question, entry) in &mut self.entries {
            let is_meant = entry.answer.is_some()
                && entry.answer.as_ref() == refused.answer(question).ok()
                && before.answer(question) != refused.answer(question);
            if is_meant {
                entry.answer = before.answer(question).ok().cloned();
                entry.failure = Some(why.to_owned());
            }
        }
    }

    /// Why the last lookup of this question failed, if it did.
    pub fn failure(&self, question: &Question) -> Option<&str> {
        self.entries.get(question)?.failure.as_deref()
    }

    /// Whether a lookup of each of these has ended.
    pub fn tried(&self, questions: &BTreeSet<Question>) -> bool {
        let tried = |question| self.entries.get(question).is_some_and(|one| one.tried);
        questions.iter().all(tried)
    }

    /// What is known now. A question that was not answered yet has an answer
    /// that says so.
    pub fn known(&self) -> Known {
        let known = |entry: &Entry| match (&entry.answer, &entry.failure) {
            (Some(answer), _) => Ok(answer.clone()),
            (None, Some(why)) => Err(why.clone()),
            (None, None) => Err("no nameserver has answered yet".to_owned()),
        };
        let entries = self.entries.iter();
        entries
            .map(|(question, entry)| (question.clone(), known(entry)))
            .collect()
    }

    /// How many questions have no answer.
    pub fn unanswered(&self) -> usize {
        let entries = self.entries.values();
        entries.filter(|entry| entry.answer.is_none()).count()
    }
}

impl Entry {
    fn new(now: Instant) -> Entry {
        Entry {
            answer: None,
            failure: None,
            failures: 0,
            due: Some(now),
            tried: false,
        }
    }
}

/// An answer that a pool can be made of.
fn checked(found: Found) -> Result<Found, String> {
    let answer = found.answer.in_order();
    match answer.len() {
        0 => Err("its answer is empty".to_owned()),
        1..=ANSWER_MAX => Ok(Found { answer, ..found }),
        count => Err(format!(
            "its answer has {count} entries, expected at most {ANSWER_MAX}"
        )),
    }
}

/// Until the next try after so many failures: somewhere between the least and
/// a time that doubles up to the most, so that many proxies do not ask in step.
fn pause(failures: u32, least: Duration, most: Duration, chance: f64) -> Duration {
    let doubled = least.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
    let longest = doubled.clamp(least, most);
    least + (longest - least).mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A memory of one name, and its clock.
    struct Scene {
        memory: Memory,
        now: Instant,
    }

    fn question() -> Question {
        Question::Host("cache".to_owned())
    }

    fn found(addresses: &str, ttl: u64) -> Result<Found, String> {
        let addresses = addresses.split_whitespace();
        Ok(Found {
            answer: Answer::Host(addresses.map(|one| one.parse().unwrap()).collect()),
            ttl: Duration::from_secs(ttl),
        })
    }

    fn failed() -> Result<Found, String> {
        Err("no nameserver answered".to_owned())
    }

    impl Scene {
        fn new() -> Scene {
            let mut memory = Memory::default();
            let now = Instant::now();
            memory.follow(&[question()].into(), &Terms::default(), now);
            Scene { memory, now }
        }

        /// Turn the clock to when the question is due, ask it, and let this be
        /// the outcome: the seconds until it is due again, whether anything is
        /// different, and what is known.
        #[track_caller]
        fn check(&mut self, outcome: Result<Found, String>, expected: (f64, bool, &str)) {
            self.now = self.memory.next().unwrap();
            assert_eq!(self.memory.ask(self.now, 9).len(), 1);
            assert_eq!(self.memory.next(), None, "it is asked once at a time");
            let is_new = self.memory.learn(&question(), outcome, self.now, 1.0);
            let due = self.memory.next().unwrap() - self.now;
            let known = self.memory.known();
            let known = match known.answer(&question()) {
                Ok(answer) => answer.to_string(),
                Err(why) => why.to_owned(),
            };
            assert_eq!((due.as_secs_f64(), is_new, known.as_str()), expected);
        }
    }

    #[test]
    fn an_answer_is_believed_for_its_ttl_within_the_bounds() {
        let mut scene = Scene::new();
        scene.check(found("10.0.0.1", 30), (30.0, true, "10.0.0.1"));
        scene.check(found("10.0.0.1", 0), (5.0, false, "10.0.0.1"));
        scene.check(found("10.0.0.1", 1 << 31), (60.0, false, "10.0.0.1"));
    }

    #[test]
    fn a_rotated_answer_is_no_other() {
        let mut scene = Scene::new();
        scene.check(
            found("10.0.0.2 10.0.0.1", 5),
            (5.0, true, "10.0.0.1, 10.0.0.2"),
        );
        scene.check(
            found("10.0.0.1 10.0.0.2 10.0.0.1", 5),
            (5.0, false, "10.0.0.1, 10.0.0.2"),
        );
    }

    #[test]
    fn a_failure_keeps_the_last_good_answer_and_is_tried_ever_later() {
        let mut scene = Scene::new();
        scene.check(found("10.0.0.1", 5), (5.0, true, "10.0.0.1"));
        for due in [10.0, 20.0, 40.0, 60.0, 60.0] {
            scene.check(failed(), (due, false, "10.0.0.1"));
        }
        scene.check(found("", 5), (60.0, false, "10.0.0.1"));
        scene.check(found("10.0.0.2", 5), (5.0, true, "10.0.0.2"));
        scene.check(failed(), (10.0, false, "10.0.0.2"));
    }

    #[test]
    fn a_name_without_an_answer_says_why() {
        let mut scene = Scene::new();
        let unasked = scene.memory.known();
        assert!(unasked.answer(&question()).unwrap_err().contains("yet"));
        assert_eq!(scene.memory.unanswered(), 1);
        scene.check(failed(), (10.0, false, "no nameserver answered"));
        scene.check(found("10.0.0.1", 5), (5.0, true, "10.0.0.1"));
        assert_eq!(scene.memory.unanswered(), 0);
    }

    #[test]
    fn an_answer_that_is_too_large_is_a_failure() {
        let mut scene = Scene::new();
        scene.check(found("10.0.0.1", 5), (5.0, true, "10.0.0.1"));
        let many: Vec<String> = (0..=ANSWER_MAX)
            .map(|at| format!("10.1.{}.{}", at / 256, at % 256))
            .collect();
        scene.check(found(&many.join(" "), 5), (10.0, false, "10.0.0.1"));
    }

    #[test]
    fn pauses_stay_within_the_bounds_whatever_chance_says() {
        let (least, most) = (Duration::from_secs(5), Duration::from_secs(60));
        for failures in [1, 2, 31, 32, u32::MAX] {
            for chance in [-1.0, 0.0, 0.5, 1.0, 2.0] {
                let pause = pause(failures, least, most, chance);
                assert!((least..=most).contains(&pause), "{failures} {chance}");
            }
        }
    }

    #[test]
    fn other_terms_ask_anew_and_what_is_left_out_is_forgotten() {
        let mut scene = Scene::new();
        scene.check(found("10.0.0.1", 60), (60.0, true, "10.0.0.1"));
        let terms = Terms {
            servers: vec!["10.0.0.53:53".parse().unwrap()],
            ..Terms::default()
        };
        let now = scene.now;
        scene
            .memory
            .follow_too(&[question()].into(), &Terms::default(), now);
        assert_ne!(scene.memory.next(), Some(now));
        scene.memory.follow_too(&[question()].into(), &terms, now);
        assert_eq!(scene.memory.next(), Some(now));
        scene.memory.follow(&BTreeSet::new(), &terms, now);
        assert_eq!(scene.memory.next(), None);
        assert!(!scene.memory.learn(&question(), failed(), now, 0.0));
    }

    #[test]
    fn a_refused_answer_gives_way_to_the_one_before() {
        let mut scene = Scene::new();
        scene.check(found("10.0.0.1", 5), (5.0, true, "10.0.0.1"));
        let before = scene.memory.known();
        scene.check(found("10.0.0.2", 5), (5.0, true, "10.0.0.2"));
        let refused = scene.memory.known();
        scene.memory.refuse(&refused, &before, "no");
        assert_eq!(scene.memory.known(), before);
        // It still says so: it is new once more.
        scene.check(found("10.0.0.2", 5), (5.0, true, "10.0.0.2"));
    }
}
