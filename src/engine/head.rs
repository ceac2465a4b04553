//! The client's first bytes, gathered before it is known where they go, and a server's answer to a request for TLS.

use crate::client_hello::postgres::YES;
use crate::relay::Fault;
use crate::sys::net::Received;
use crate::sys::{Lease, Net, Pool, WouldBlock};

/// Bytes that are read at a time, and of the smallest buffer.
pub(super) const PIECE: usize = 4096;

/// How much of a head is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// More bytes than so many, of which all are there already.
    pub(super) more_than: u16,
    /// And at most so many: more than the above.
    pub(super) max: u16,
}

/// What came of gathering.
#[derive(Debug)]
pub(super) enum Gathered {
    /// As much as was wanted is there, or all that ever will be: then the client has sent FIN. With a proof where it is
    /// known that nothing is behind it.
    Enough { ended: bool, drained: Option<WouldBlock> },
    /// More is to come.
    Waits(WouldBlock),
    /// There is no buffer for it now.
    Starved,
    /// The client has failed.
    Failed,
}

/// Reads what has come, behind what is held.
pub(super) fn gather<N: Net>(
    stream: &N::Stream,
    held: &mut Option<Lease>,
    wanted: Wanted,
    pool: &mut Pool,
    short_is_drained: bool,
) -> Gathered {
    let mut piece = [0; PIECE];
    let mut drained = None;
    loop {
        let len = held.as_ref().map_or(0, |lease| lease.bytes().len());
        if len > usize::from(wanted.more_than) {
            return Gathered::Enough { ended: false, drained };
        }
        if let Some(proof) = drained {
            return Gathered::Waits(proof);
        }
        let room = pool.head_room(held.as_ref(), PIECE.min(usize::from(wanted.max) - len));
        if room == 0 {
            return Gathered::Starved;
        }
        match N::recv(stream, &mut piece[..room], short_is_drained) {
            Received::Bytes(count, proof) => {
                *held = Some(pool.keep_head(held.take(), &piece[..count.get() as usize]));
                drained = proof;
            }
            Received::Eof => return Gathered::Enough { ended: true, drained: None },
            Received::Nothing(proof) => return Gathered::Waits(proof),
            Received::Failed(_) => return Gathered::Failed,
        }
    }
}

/// Takes the answer of a server; a proof, if it has not come.
pub(super) fn hear<N: Net>(stream: &N::Stream) -> Result<Result<(), Fault>, WouldBlock> {
    let mut byte = [0];
    let received = N::recv(stream, &mut byte, false);
    heard(received, byte)
}

/// What such a read has brought.
pub(super) fn heard(received: Received, byte: [u8; 1]) -> Result<Result<(), Fault>, WouldBlock> {
    match received {
        Received::Bytes(..) if byte == YES || mutant!(AnyAnswerIsYes) => Ok(Ok(())),
        Received::Bytes(..) => Ok(Err(Fault::NoTls)),
        Received::Eof => Ok(Err(Fault::Closed)),
        Received::Failed(fault) => Ok(Err(fault)),
        Received::Nothing(proof) => Err(proof),
    }
}
