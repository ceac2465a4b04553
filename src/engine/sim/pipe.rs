//! Pipes of the simulated kernel, with the bad manners of splice(2).

use std::collections::VecDeque;
use std::num::NonZeroU32;

use super::calls::count;
use super::kernel::{OURS, PEER, World};
use crate::sys::WouldBlock;
use crate::sys::net::Sent;
use crate::sys::pipe::Spliced;

/// A pipe: full when its slots are, however few bytes are in them.
#[derive(Debug, Default)]
pub(super) struct PipeState {
    segments: VecDeque<Vec<u8>>,
    open: bool,
}

impl World {
    /// The number of a new pipe.
    pub(super) fn pipe(&mut self) -> Option<usize> {
        let open = self.pipes.iter().filter(|pipe| pipe.open).count();
        if self.descriptors + 2 * open >= self.plan.descriptors || self.is_short().is_some() {
            self.note(0, "no pipe", 0);
            return None;
        }
        self.pipes.push(PipeState { segments: VecDeque::new(), open: true });
        Some(self.pipes.len() - 1)
    }

    pub(super) fn close_pipe(&mut self, pipe: usize) {
        self.pipes[pipe] = PipeState::default();
    }

    pub(super) fn is_pipe_empty(&self, pipe: usize) -> bool {
        self.pipes[pipe].segments.is_empty()
    }

    /// Pipes with bytes in them.
    pub(super) fn filled_pipes(&self) -> usize {
        self.pipes.iter().filter(|pipe| !pipe.segments.is_empty()).count()
    }

    pub(super) fn splice_in(&mut self, conn: usize, pipe: usize) -> Spliced {
        self.law_proven(conn);
        if self.conns[conn].laws.refused_splice {
            self.laws.fail(format!("#{conn} was spliced again although it cannot be"));
        }
        if !self.is_pipe_empty(pipe) {
            self.laws.fail(format!("#{conn} was spliced into a pipe with bytes in it"));
        }
        if self.dice.chance(self.plan.refused_splice) {
            self.note(conn, "splice refused", 0);
            self.conns[conn].laws.refused_splice = true;
            return Spliced::Refused;
        }
        let it = &self.conns[conn];
        let (read, arrived, ended) =
            (it.ends[OURS].read, it.ends[OURS].arrived, it.ends[OURS].fin_arrived || it.ends[OURS].dead);
        // It stops in front of an urgent byte, and at one.
        let stop =
            it.urgent.iter().copied().filter(|at| (read..arrived).contains(at)).min().unwrap_or(arrived);
        if stop == read {
            return self.splice_nothing(conn, arrived > read, ended);
        }
        let mut most = stop - read;
        if most > 1 && self.dice.chance(self.plan.short_read) {
            most = self.dice.between(1, most - 1);
        }
        let mut at = read;
        for _ in 0..self.plan.pipe_slots {
            let long = self.dice.between(1, self.plan.segment).min(read + most - at);
            if long > 0 {
                let segment = (at..at + long).map(|offset| self.byte(conn, offset)).collect();
                self.pipes[pipe].segments.push_back(segment);
                at += long;
            }
        }
        self.conns[conn].ends[OURS].read = at;
        self.law_taken(conn, at - read);
        self.note(conn, "splice in", at - read);
        self.laws.activity += 1;
        self.transmit(conn, PEER);
        Spliced::Bytes(count(at - read))
    }

    /// No byte could be taken.
    fn splice_nothing(&mut self, conn: usize, urgent: bool, ended: bool) -> Spliced {
        let finished = self.conns[conn].ends[OURS].fin_arrived;
        if !urgent
            && !finished
            && let Some(fault) = self.take_error(conn)
        {
            return Spliced::Failed(fault);
        }
        self.conns[conn].laws.spliced_end |= !urgent && finished;
        if ended { Spliced::Ended } else { Spliced::Nothing(WouldBlock::simulated()) }
    }

    pub(super) fn splice_out(&mut self, conn: usize, pipe: usize) -> Sent {
        let bytes: Vec<u8> = self.pipes[pipe].segments.iter().flatten().copied().collect();
        let sent = self.send(conn, &bytes);
        if let Sent::Bytes(taken) = sent {
            self.pipes[pipe].advance(taken);
        }
        sent
    }
}

impl PipeState {
    /// Bytes are gone from its front, and slots with them.
    fn advance(&mut self, taken: NonZeroU32) {
        let mut taken = taken.get() as usize;
        while let Some(first) = self.segments.front_mut() {
            if first.len() > taken {
                first.drain(..taken);
                return;
            }
            taken -= first.len();
            self.segments.pop_front();
        }
    }
}
