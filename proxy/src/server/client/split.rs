//! Which keys of one request go where.

use emberline_hotkey::KeyHash;
use emberline_routing::{Plan, ServerId, Target};

/// Keys of one request that are answered from memory; each has a reply of its
/// own that has to be put in its place.
const MEMORY_MAX: usize = 128;

/// Where one key of a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where it is planned to, together with others.
    To(Target),
    /// To several places, as its own plan says; a fragment of its own.
    Course {
        /// Where that would go first.
        first: Target,
        /// The key's number.
        key: u32,
        /// Whether the next place is asked when one has not got it.
        steps: bool,
    },
    /// From memory; a fragment of its own.
    Memory {
        /// The key's server.
        server: ServerId,
        /// The key's number.
        key: u32,
    },
}

impl Place {
    /// Whether memory answers it.
    pub fn is_memory(&self) -> bool {
        matches!(self, Place::Memory { .. })
    }

    /// Whether it is carried out in steps.
    pub fn takes_steps(&self) -> bool {
        matches!(self, Place::Course { steps: true, .. })
    }

    /// Where it would go without memory.
    pub fn target(&self) -> Target {
        match *self {
            Place::To(target) => target,
            Place::Course { first, .. } => first,
            Place::Memory { server, .. } => Target::Send(server),
        }
    }
}

/// Groups the keys of a request by their places; reused from one to the next.
///
/// For `MGET a b c` with `a` and `c` on server 1 and `b` on server 2 there are
/// two fragments, `order` is `[0, 1, 0]`, and the fragments' keys are
/// `[0, 2]` and `[1]`.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Where each fragment goes.
    places: Vec<Place>,
    /// The plans among them, with their fragments.
    plans: Vec<(Target, u32)>,
    /// For every key, in the request's order, its fragment.
    order: Vec<u32>,
    /// For every key, in the request's order, its hash, if the pool is watched.
    hashes: Vec<Option<KeyHash>>,
    /// Numbers of keys, grouped by fragment, in the request's order.
    grouped: Vec<u32>,
    /// Where each fragment's group ends.
    ends: Vec<u32>,
    /// What is to be done with keys that go to several places each, by number.
    courses: Vec<(u32, Plan)>,
}

impl Splitter {
    /// Group keys, or whole requests, that have these plans.
    pub fn assign(&mut self, plans: impl Iterator<Item = Target>) {
        self.clear();
        plans.for_each(|plan| self.put(Place::To(plan), None));
        self.group();
    }

    /// Forget the last request.
    pub fn clear(&mut self) {
        self.places.clear();
        self.plans.clear();
        self.order.clear();
        self.hashes.clear();
        self.ends.clear();
        self.courses.clear();
    }

    /// The next key has a plan of its own.
    pub fn put_course(&mut self, first: Target, plan: Plan) {
        let key = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        let steps = plan.takes_steps();
        self.courses.push((key, plan));
        self.put(Place::Course { first, key, steps }, None);
    }

    /// That plan of the key with this number.
    pub fn course(&self, key: u32) -> Option<&Plan> {
        let at = self.courses.binary_search_by_key(&key, |(key, _)| *key);
        at.ok().map(|at| &self.courses[at].1)
    }

    /// The next key goes to this place; [`group`](Self::group) after the last.
    pub fn put(&mut self, place: Place, hash: Option<KeyHash>) {
        let known = match place {
            Place::To(plan) => self.plans.iter().find(|(other, _)| *other == plan),
            Place::Memory { .. } | Place::Course { .. } => None,
        };
        let fragment = match known {
            Some((_, fragment)) => *fragment,
            None => {
                let fragment = self.places.len() as u32;
                if let Place::To(plan) = place {
                    self.plans.push((plan, fragment));
                }
                self.places.push(place);
                self.ends.push(0);
                fragment
            }
        };
        self.ends[fragment as usize] += 1;
        self.order.push(fragment);
        self.hashes.push(hash);
    }

    /// Whether one more key may have a fragment of its own.
    pub fn has_room(&self) -> bool {
        self.places.len() - self.plans.len() - self.courses.len() < MEMORY_MAX
    }

    /// Sort the keys' numbers by fragment: a counting sort.
    pub fn group(&mut self) {
        let mut start = 0;
        for end in &mut self.ends {
            start += std::mem::replace(end, start);
        }
        self.grouped.clear();
        self.grouped.resize(self.order.len(), 0);
        for (number, &fragment) in self.order.iter().enumerate() {
            let place = &mut self.ends[fragment as usize];
            self.grouped[*place as usize] = number as u32;
            *place += 1;
        }
    }

    /// Where the fragments go.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The one plan that everything has, if it is so.
    pub fn sole(&self) -> Option<Target> {
        match *self.places {
            [Place::To(plan)] => Some(plan),
            _ => None,
        }
    }

    /// The hash of the key with this number.
    pub fn hash(&self, key: u32) -> Option<KeyHash> {
        self.hashes.get(key as usize).copied().flatten()
    }

    /// For every key, in the request's order, its fragment.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// The numbers of one fragment's keys, in the request's order.
    pub fn keys(&self, fragment: usize) -> &[u32] {
        let start = match fragment {
            0 => 0,
            _ => self.ends.get(fragment - 1).copied().unwrap_or(0) as usize,
        };
        let end = self.ends.get(fragment).copied().unwrap_or(0) as usize;
        self.grouped.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_grouped_in_the_order_of_the_request() {
        let mut splitter = Splitter::default();
        for _ in 0..2 {
            let plans = [1, 2, 1, 3, 2].map(|id| Target::Send(ServerId(id)));
            splitter.assign(plans.into_iter());
            assert_eq!(
                splitter.places(),
                [1, 2, 3].map(|id| Place::To(Target::Send(ServerId(id))))
            );
            assert_eq!(splitter.order(), [0, 1, 0, 2, 1]);
            assert_eq!(splitter.keys(0), [0, 2]);
            assert_eq!(splitter.keys(1), [1, 4]);
            assert_eq!(splitter.keys(2), [3]);
        }
    }
}
