//! Chance that a seed repeats. Each step of a life throws dice of its own, so that a step can be left out of a life and
//! the others stay what they were.

use crate::support::claude_mem::Random;

pub struct Dice(Random);

impl Dice {
    pub fn of_step(seed: u64, step: usize) -> Dice {
        Dice(Random::new(&format!("rows {seed} {step}"), 0))
    }

    /// A number under `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.0.next() % limit as u64) as usize
    }

    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    /// One of the names, each as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, from: &[(T, usize)]) -> T {
        let mut at = self.below(from.iter().map(|(_, weight)| weight).sum());
        for (what, weight) in from {
            if at < *weight {
                return *what;
            }
            at -= weight;
        }
        unreachable!("a number under the sum of the weights")
    }

    /// The numbers under `count` in some order.
    pub fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for at in (1..count).rev() {
            let other = self.below(at + 1);
            order.swap(at, other);
        }
        order
    }
}
