//! Known bugs that can be switched on, one at a time: a test of the simulator, which must catch each.
//!
//! In a build without the feature `sim` every switch is the constant `false`.

/// Whether a known bug is switched on.
#[cfg(feature = "sim")]
macro_rules! mutant {
    ($name:ident) => {
        $crate::mutant::is_on($crate::mutant::Mutant::$name)
    };
}
#[cfg(not(feature = "sim"))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

#[cfg(feature = "sim")]
pub use switches::{Mutant, is_on, switch};

#[cfg(feature = "sim")]
mod switches {
    use std::cell::Cell;

    /// A bug that programs like this one have had.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Mutant {
        /// "Full" is taken for "empty": the read latch is cleared while bytes wait.
        FullClearsLatch,
        /// A short read is believed although a FIN or an urgent byte was reported.
        ShortReadBelieved,
        /// A connection's slot is freed in the middle of a batch, and the late answer frees the next one.
        FreedInBatch,
        /// Keys are used again.
        GenerationDropped,
        /// No FIN is sent when one direction ends.
        FinSkipped,
        /// A connection whose budget is spent is not put in the run queue.
        BudgetForgotten,
        /// The 0 that follows a reset is believed to be the peer's FIN.
        EofAfterResetBelieved,
        /// A reset is passed on while bytes are still queued here.
        QueueDroppedOnReset,
        /// A reset is passed on while the kernel is still delivering.
        DeliveryCutByReset,
        /// A FIN or a hang-up is taken for the end of both directions.
        HangUpEndsBoth,
        /// Those who wait for a buffer are never told that one came back.
        StarvedNeverFed,
        /// After EMFILE nobody tries to accept again.
        DeafAfterShortage,
        /// A listener that rests is tried all the same.
        PausedListenerSpins,
        /// A timer that was set for something else is not checked against the present deadline.
        StaleTimer,
        /// A failed admission is not taken off the counts.
        CountDrifts,
        /// A peer's failure is not asked for while its bytes wait behind a slow target.
        ErrorNotAsked,
        /// Any event proves a connect.
        ConnectBelieved,
        /// What a target did not take is sent from its beginning again.
        TailRepeats,
        /// The last buffer is kept for a failed target.
        BufferForFailed,
        /// Who waits for a buffer is taken for one who has nothing to say.
        StarvedIsIdle,
        /// Reports were lost, and the selector is believed all the same.
        LossBelieved,
        /// A level is asked for although it is known, and nothing can be done about it.
        LevelOfTheStarved,
        /// A write is parked, and nobody asks when it can be done.
        ParkedNotAskedFor,
        /// A socket that is hung up and wants nothing stays with a level-triggered selector.
        HungUpStays,
        /// A one-shot selector that has reported is not asked again.
        NotArmedAgain,
        /// A pipe is given back with bytes in it.
        PipeGivenBackFull,
        /// A connection keeps its pipe although nothing is in it.
        PipeKept,
        /// What is behind an urgent byte is spliced, or the 0 that stands for one believed.
        UrgentByteSpliced,
        /// A splice of 0 bytes is believed to be the end.
        SplicedEndBelieved,
        /// A send that fell short is taken for whole.
        ShortSendBelieved,
        /// A buffer goes back to the ring while a send reads it.
        GivenBackUnderWay,
        /// Who found no buffer in the ring is never told that one came back.
        RingNeverFeeds,
        /// A read that goes on by itself has ended, and nobody begins another.
        EndedReadForgotten,
        /// A worker waits although more is to be done behind a send that says nothing.
        SleepsOverSilentSend,
        /// A peer that nobody reads fails unnoticed.
        StalledNotWatched,
        /// Sockets are closed with operations under way.
        ClosedUnderWay,
        /// The buffers of one read are taken by number instead of by order.
        BundleByNumber,
        /// Nobody tells those who wait that a server has room again.
        QueueForgetsFreedPlace,
        /// A client that leaves the queue keeps its place there.
        QueueKeepsTheGone,
        /// A direction that has nothing left to take is never granted more.
        DryForgotten,
        /// What was gathered of a client before its server was known is not passed on.
        HeadForgotten,
        /// A header that has not come whole is not read on.
        HeadNotReadOn,
        /// A server is told twice who its client is.
        PrefaceTwice,
        /// A client is not told what it is to be told: an answer to a request, or an alert.
        ClientNotTold,
        /// A request that was answered is passed on.
        RequestPassedOn,
        /// A client whose first words do not come is waited for without end.
        PrereadForgotten,
        /// A server gets a hello without having been asked for TLS.
        ServerNotAsked,
        /// Whatever a server answers is taken for "yes".
        AnyAnswerIsYes,
        /// A client that fails while its server is asked is not noticed.
        ResetWhileHearing,
    }

    impl Mutant {
        /// All of them.
        pub const ALL: [Self; 49] = [
            Self::FullClearsLatch,
            Self::ShortReadBelieved,
            Self::FreedInBatch,
            Self::GenerationDropped,
            Self::FinSkipped,
            Self::BudgetForgotten,
            Self::EofAfterResetBelieved,
            Self::QueueDroppedOnReset,
            Self::DeliveryCutByReset,
            Self::HangUpEndsBoth,
            Self::StarvedNeverFed,
            Self::DeafAfterShortage,
            Self::PausedListenerSpins,
            Self::StaleTimer,
            Self::CountDrifts,
            Self::ErrorNotAsked,
            Self::ConnectBelieved,
            Self::TailRepeats,
            Self::BufferForFailed,
            Self::StarvedIsIdle,
            Self::LossBelieved,
            Self::LevelOfTheStarved,
            Self::ParkedNotAskedFor,
            Self::HungUpStays,
            Self::NotArmedAgain,
            Self::PipeGivenBackFull,
            Self::PipeKept,
            Self::UrgentByteSpliced,
            Self::SplicedEndBelieved,
            Self::ShortSendBelieved,
            Self::GivenBackUnderWay,
            Self::RingNeverFeeds,
            Self::EndedReadForgotten,
            Self::SleepsOverSilentSend,
            Self::StalledNotWatched,
            Self::ClosedUnderWay,
            Self::BundleByNumber,
            Self::QueueForgetsFreedPlace,
            Self::QueueKeepsTheGone,
            Self::DryForgotten,
            Self::HeadForgotten,
            Self::HeadNotReadOn,
            Self::PrefaceTwice,
            Self::ClientNotTold,
            Self::RequestPassedOn,
            Self::PrereadForgotten,
            Self::ServerNotAsked,
            Self::AnyAnswerIsYes,
            Self::ResetWhileHearing,
        ];
    }

    thread_local! {
        static ON: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Whether `mutant` is switched on in this thread.
    #[must_use]
    pub fn is_on(mutant: Mutant) -> bool {
        ON.get() == Some(mutant)
    }

    /// Switches one on in this thread, or all off.
    pub fn switch(mutant: Option<Mutant>) {
        ON.set(mutant);
    }
}
