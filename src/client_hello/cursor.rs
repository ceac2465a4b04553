//! Messages inside of records: reads on behind a record's end as if no header stood there.

/// Type, version and length of a record, in bytes.
pub(super) const RECORD_HEADER: usize = 5;

/// A view of bytes of a message. All of them have arrived, in records that are right and not empty.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    /// From here on.
    rest: &'a [u8],
    /// Bytes of the record that `rest` begins in; 0: it begins with a record's header.
    in_record: usize,
    /// Bytes of the view.
    len: usize,
}

impl<'a> Cursor<'a> {
    /// The first `len` bytes of the messages in `records`.
    pub(super) fn new(records: &'a [u8], len: usize) -> Self {
        Self { rest: records, in_record: 0, len }
    }

    pub(super) fn len(self) -> usize {
        self.len
    }

    pub(super) fn is_empty(self) -> bool {
        self.len == 0
    }

    /// A view of nothing.
    pub(super) fn end(self) -> Self {
        Self { len: 0, ..self }
    }

    /// Takes `len` bytes off.
    pub(super) fn take(&mut self, len: usize) -> Option<Self> {
        let taken = (len <= self.len).then_some(Self { len, ..*self })?;
        let mut left = len;
        while left > 0 {
            left -= self.piece(left).len();
        }
        Some(taken)
    }

    /// Takes a number of `N` bytes off, three at most.
    pub(super) fn number<const N: usize>(&mut self) -> Option<usize> {
        const { assert!(N <= 3) };
        let mut bytes = [0; N];
        let bytes = self.take(N)?.copy_to(&mut bytes)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// Takes a length of `N` bytes off, and as many bytes as it says.
    pub(super) fn vector<const N: usize>(&mut self) -> Option<Self> {
        let len = self.number::<N>()?;
        self.take(len)
    }

    pub(super) fn is(mut self, other: &[u8]) -> bool {
        let mut left = other;
        while let Some(begin) = self.next_piece() {
            let Some(rest) = left.strip_prefix(begin) else { return false };
            left = rest;
        }
        left.is_empty()
    }

    /// Copies all of it to the beginning of `into`; `None`: there is no room.
    pub(super) fn copy_to(mut self, into: &mut [u8]) -> Option<&[u8]> {
        let into = into.get_mut(..self.len)?;
        let mut at = 0;
        while let Some(piece) = self.next_piece() {
            into[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        Some(into)
    }

    fn next_piece(&mut self) -> Option<&'a [u8]> {
        (self.len > 0).then(|| self.piece(self.len))
    }

    /// Takes off what stands in one piece: at least one byte, and at most `most`, which are there.
    fn piece(&mut self, most: usize) -> &'a [u8] {
        if self.in_record == 0 {
            let (header, rest) = self.rest.split_at(RECORD_HEADER);
            self.in_record = usize::from(u16::from_be_bytes([header[3], header[4]]));
            self.rest = rest;
        }
        let (piece, rest) = self.rest.split_at(most.min(self.in_record));
        self.rest = rest;
        self.in_record -= piece.len();
        self.len -= piece.len();
        piece
    }
}

/// By its bytes, wherever they stand.
impl PartialEq for Cursor<'_> {
    fn eq(&self, other: &Self) -> bool {
        let mut own = *self;
        let mut others = *other;
        // The shorter piece of both, over and over.
        while own.len == others.len && own.len > 0 {
            let mut ahead = own;
            let piece = ahead.piece(own.len);
            let Some(begin) = others.take(piece.len()) else { return false };
            if !begin.is(piece) {
                return false;
            }
            own = ahead;
        }
        own.len == others.len
    }
}

/// What it says, not where it stands.
impl std::fmt::Debug for Cursor<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = *self;
        out.write_str("\"")?;
        while let Some(piece) = rest.next_piece() {
            write!(out, "{}", piece.escape_ascii())?;
        }
        out.write_str("\"")
    }
}
