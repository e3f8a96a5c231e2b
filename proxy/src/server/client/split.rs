//! Which keys of one request go where.

use emberline_routing::Plan;

/// Groups the keys of a request by their plans; reused from one to the next.
///
/// For `MGET a b c` with `a` and `c` on server 1 and `b` on server 2 there are
/// two fragments, `order` is `[0, 1, 0]`, and the fragments' keys are
/// `[0, 2]` and `[1]`.
#[derive(Debug, Default)]
pub struct Splitter {
    /// Where each fragment goes.
    plans: Vec<Plan>,
    /// For every key, in the request's order, its fragment.
    order: Vec<u32>,
    /// Numbers of keys, grouped by fragment, in the request's order.
    grouped: Vec<u32>,
    /// Where each fragment's group ends.
    ends: Vec<u32>,
}

impl Splitter {
    /// Group the keys whose plans these are.
    pub fn assign(&mut self, plans: impl Iterator<Item = Plan>) {
        self.plans.clear();
        self.order.clear();
        self.ends.clear();
        for plan in plans {
            let fragment = match self.plans.iter().position(|other| *other == plan) {
                Some(fragment) => fragment,
                None => {
                    self.plans.push(plan);
                    self.ends.push(0);
                    self.plans.len() - 1
                }
            };
            self.ends[fragment] += 1;
            self.order.push(fragment as u32);
        }
        self.group();
    }

    /// Sort the keys' numbers by fragment: a counting sort.
    fn group(&mut self) {
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
    pub fn plans(&self) -> &[Plan] {
        &self.plans
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
    use emberline_routing::ServerId;

    use super::*;

    #[test]
    fn keys_are_grouped_in_the_order_of_the_request() {
        let mut splitter = Splitter::default();
        for _ in 0..2 {
            let plans = [1, 2, 1, 3, 2].map(|id| Plan::Send(ServerId(id)));
            splitter.assign(plans.into_iter());
            assert_eq!(
                splitter.plans(),
                [1, 2, 3].map(|id| Plan::Send(ServerId(id)))
            );
            assert_eq!(splitter.order(), [0, 1, 0, 2, 1]);
            assert_eq!(splitter.keys(0), [0, 2]);
            assert_eq!(splitter.keys(1), [1, 4]);
            assert_eq!(splitter.keys(2), [3]);
        }
    }
}
