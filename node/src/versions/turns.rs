//! Whose turn it is to compile: few at a time, tenants by turns, so that one that uploads again and again delays nobody else by more than
//! one compilation. Nobody waits in line for ever: what finds the line full is refused at once.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many may be at work, and in line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub at_work: usize,
    /// At work and in line, of all tenants and of one.
    pub all: usize,
    pub of_tenant: usize,
}

#[derive(Debug)]
pub(super) struct Turns {
    bounds: Bounds,
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    next_ticket: u64,
    /// Whose work is done now.
    at_work: Vec<String>,
    /// Tenants that wait, whose turn is next in front, each with its tickets, oldest first.
    waiting: VecDeque<(String, VecDeque<u64>)>,
}

/// A place at work, given back by its drop.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    domain: String,
}

impl Turns {
    pub fn new(bounds: Bounds) -> Turns {
        Turns { bounds, line: Mutex::default(), changed: Condvar::new() }
    }

    /// Waits for a turn of this tenant. `None`: the line is full.
    pub fn take(&self, domain: &str) -> Option<Turn<'_>> {
        let mut line = self.line();
        let ticket = line.join(domain, &self.bounds)?;
        while !line.may_begin(ticket, &self.bounds) {
            line = self.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
        }
        line.begin(domain);
        drop(line);
        // With more than one at work, the one behind may begin as well.
        self.changed.notify_all();
        Some(Turn { turns: self, domain: domain.to_owned() })
    }

    /// How many of this tenant are at work or in line.
    #[cfg(test)]
    pub fn len(&self, domain: &str) -> usize {
        let line = self.line();
        let waiting = line.waiting.iter().filter(|(waiting, _)| waiting == domain).map(|(_, tickets)| tickets.len()).sum::<usize>();
        waiting + line.at_work.iter().filter(|at_work| *at_work == domain).count()
    }

    /// Each change of a line is one step: a panic leaves none half done.
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.line().end(&self.domain);
        self.turns.changed.notify_all();
    }
}

impl Line {
    fn join(&mut self, domain: &str, bounds: &Bounds) -> Option<u64> {
        let waiting = self.waiting.iter_mut().find(|(waiting, _)| waiting == domain);
        let own =
            waiting.as_ref().map_or(0, |(_, tickets)| tickets.len()) + self.at_work.iter().filter(|at_work| *at_work == domain).count();
        let ticket = self.next_ticket;
        match waiting {
            _ if own >= bounds.of_tenant => return None,
            Some((_, tickets)) => tickets.push_back(ticket),
            None => self.waiting.push_back((domain.to_owned(), VecDeque::from([ticket]))),
        }
        let all = self.at_work.len() + self.waiting.iter().map(|(_, tickets)| tickets.len()).sum::<usize>();
        if all > bounds.all {
            self.leave(ticket);
            return None;
        }
        self.next_ticket += 1;
        Some(ticket)
    }

    fn leave(&mut self, ticket: u64) {
        for (_, tickets) in &mut self.waiting {
            tickets.retain(|waiting| *waiting != ticket);
        }
        self.waiting.retain(|(_, tickets)| !tickets.is_empty());
    }

    fn may_begin(&self, ticket: u64, bounds: &Bounds) -> bool {
        self.at_work.len() < bounds.at_work && self.waiting.front().is_some_and(|(_, tickets)| tickets.front() == Some(&ticket))
    }

    /// The one in front goes to work; the next of its tenant comes after everybody else's.
    fn begin(&mut self, domain: &str) {
        if let Some((front, mut tickets)) = self.waiting.pop_front() {
            tickets.pop_front();
            if !tickets.is_empty() {
                self.waiting.push_back((front, tickets));
            }
        }
        self.at_work.push(domain.to_owned());
    }

    fn end(&mut self, domain: &str) {
        if let Some(place) = self.at_work.iter().position(|at_work| at_work == domain) {
            self.at_work.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { at_work: 1, all: 6, of_tenant: 4 };

    /// Joins, in order; `false`: the line was full.
    fn joined(line: &mut Line, domains: &str) -> Vec<bool> {
        domains.split_whitespace().map(|domain| line.join(domain, &BOUNDS).is_some()).collect()
    }

    /// In which order they go to work, one at a time.
    fn order(line: &mut Line) -> String {
        let mut done = Vec::new();
        while let Some((domain, tickets)) = line.waiting.front().cloned() {
            assert!(line.may_begin(tickets[0], &BOUNDS));
            let others = line.waiting.iter().flat_map(|(_, tickets)| tickets).filter(|ticket| **ticket != tickets[0]);
            assert!(others.clone().all(|ticket| !line.may_begin(*ticket, &BOUNDS)), "only one is in front");
            line.begin(&domain);
            assert!(line.waiting.iter().flat_map(|(_, tickets)| tickets).all(|ticket| !line.may_begin(*ticket, &BOUNDS)), "one at a time");
            line.end(&domain);
            done.push(domain);
        }
        done.join(" ")
    }

    #[test]
    fn tenants_take_turns() {
        for (came, went) in [("a a a b c", "a b c a a"), ("a b a b", "a b a b"), ("a", "a"), ("a a b b b", "a b a b b")] {
            let mut line = Line::default();
            assert!(joined(&mut line, came).into_iter().all(|joined| joined));
            assert_eq!(order(&mut line), went, "{came}");
        }
    }

    #[test]
    fn a_full_line_refuses_a_tenant_and_then_everybody() {
        let mut line = Line::default();
        assert_eq!(joined(&mut line, "a a a a a b c d"), [true, true, true, true, false, true, true, false]);
        // Whoever was refused has left nothing behind.
        assert_eq!(order(&mut line), "a b c a a a");
        // What is at work counts.
        joined(&mut line, "a a a a");
        line.begin("a");
        assert_eq!(joined(&mut line, "a"), [false]);
        line.end("a");
        assert_eq!(joined(&mut line, "a"), [true]);
    }

    #[test]
    fn many_threads_get_their_turns_and_never_too_many_at_once() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let turns = Turns::new(Bounds { at_work: 2, all: 64, of_tenant: 64 });
        let (now, most, done) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for n in 0..32 {
                let (turns, now, most, done) = (&turns, &now, &most, &done);
                scope.spawn(move || {
                    let turn = turns.take(["a", "b", "c"][n % 3]).expect("room in the line");
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    now.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        assert_eq!((done.into_inner(), now.into_inner()), (32, 0));
        assert!((1..=2).contains(&most.into_inner()));
    }
}
