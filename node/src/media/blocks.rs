//! The blocks of a media thread: taken by taps, filled, sent to writers, and back. Bounded, so that slow writers cost recordings and
//! not the machine's memory; made as they are needed, so that a node without recordings has none.

use crate::limits;
use crate::net::give_memory_back;
use crate::record::{BlockLink, writer_of};
use hookswitch_proto::media::Block;
use std::collections::VecDeque;

/// Spare blocks made ahead while the thread has time, so that a tick seldom has to.
const SPARE: usize = 64;

/// So many (300 KB) are worth the milliseconds to give them back to the kernel.
const MANY: usize = 64;

pub(super) struct Blocks {
    free: Vec<Box<Block>>,
    /// All there are, wherever they are now.
    total: usize,
    links: Vec<BlockLink>,
    /// What a full ring did not take, by writer. Bounded by `total`.
    waiting: Vec<VecDeque<Box<Block>>>,
}

impl Blocks {
    pub fn new(links: Vec<BlockLink>) -> Blocks {
        let waiting = links.iter().map(|_| VecDeque::new()).collect();
        Blocks { free: Vec::new(), total: 0, links, waiting }
    }

    pub fn take(&mut self) -> Option<Box<Block>> {
        if self.free.is_empty() {
            self.collect();
        }
        if let Some(block) = self.free.pop() {
            return Some(block);
        }
        (self.total < limits::BLOCKS).then(|| {
            self.total += 1;
            Block::empty()
        })
    }

    pub fn give(&mut self, block: Box<Block>) {
        // Taken and not used: nothing for a writer.
        if block.frames == 0 && block.last.is_none() {
            self.free.push(block);
            return;
        }
        let writer = writer_of(block.recording, self.links.len());
        let (Some(link), Some(waiting)) = (self.links.get_mut(writer), self.waiting.get_mut(writer)) else {
            self.free.push(block);
            return;
        };
        if !waiting.is_empty() {
            waiting.push_back(block);
        } else if let Err(rtrb::PushError::Full(block)) = link.full.push(block) {
            waiting.push_back(block);
        }
    }

    /// Between phases: sends what waits, takes back what is empty, keeps some spare.
    pub fn tidy(&mut self, legs: usize) {
        for (link, waiting) in self.links.iter_mut().zip(&mut self.waiting) {
            while let Some(block) = waiting.pop_front() {
                if let Err(rtrb::PushError::Full(block)) = link.full.push(block) {
                    waiting.push_front(block);
                    break;
                }
            }
        }
        self.collect();
        if legs == 0 {
            // A quiet hour gives the memory of the busy one back.
            let spare = self.free.len().saturating_sub(SPARE);
            self.total -= spare;
            self.free.truncate(SPARE);
            self.free.shrink_to(SPARE);
            if spare >= MANY {
                give_memory_back();
            }
        } else if self.free.len() < SPARE && self.total < limits::BLOCKS {
            self.free.push(Block::empty());
            self.total += 1;
        }
    }

    pub fn used(&self) -> usize {
        self.total - self.free.len()
    }

    /// Whether everything given has left this thread.
    pub fn sent(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }

    fn collect(&mut self) {
        for link in &mut self.links {
            while let Ok(mut block) = link.empty.pop() {
                block.frames = 0;
                block.last = None;
                self.free.push(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_bounded_and_what_is_given_back_unused_is_free_again() {
        let mut blocks = Blocks::new(Vec::new());
        let block = blocks.take().unwrap();
        assert_eq!((blocks.total, blocks.used()), (1, 1));
        blocks.give(block);
        assert_eq!((blocks.total, blocks.used()), (1, 0));
        blocks.total = limits::BLOCKS;
        let _last = blocks.take().unwrap();
        assert!(blocks.take().is_none());
    }
}
