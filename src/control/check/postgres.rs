//! Whether PostgreSQL takes sessions: what it answers to a startup message
//! (<https://www.postgresql.org/docs/current/protocol-flow.html>).

use super::talk::shown;
use super::wire::{MOST, Wire};
use super::{Found, Trouble};

/// Protocol 3.0.
const VERSION: u32 = 3 << 16;

/// Session parameters: pairs of names and values.
const PARAMETERS: &[u8] = b"user\0tidegate\0database\0postgres\0application_name\0tidegate check\0\0";

/// What says that it can serve nobody now: SQLSTATE classes for a lack of something, for an operator's intervention (a
/// start or a stop among them), and for errors of the system.
const UNFIT: [&str; 4] = ["53", "57", "58", "XX"];

/// As `pg_isready` has it: a server that asks for a password, or does not know the user, is there and works. Who is let in
/// is heard out until the server is ready for a query: only behind "authentication ok" it says that it is full.
pub(super) async fn ask(wire: &mut Wire) -> Found {
    let length = 8 + u32::try_from(PARAMETERS.len()).expect("they are few");
    wire.send(&[&length.to_be_bytes(), &VERSION.to_be_bytes(), PARAMETERS].concat()).await?;
    let mut is_let_in = false;
    loop {
        let head = wire.bytes(5).await?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let length = length.checked_sub(4).filter(|length| *length <= MOST);
        let (kind, Some(length)) = (head[0], length) else { return Err(stranger()) };
        match kind {
            b'R' | b'E' | b'N' | b'v' => {}
            b'S' | b'K' | b'Z' if is_let_in => {}
            _ => return Err(stranger()),
        }
        let body = wire.bytes(length).await?;
        match kind {
            b'R' if body.starts_with(&[0; 4]) => is_let_in = true,
            b'R' => return Ok("it asks for a password".to_owned()),
            // Who is let in says good-bye. While a password is awaited, only a close is no error to the server.
            b'Z' => {
                let _ = wire.send(b"X\0\0\0\x04").await;
                return Ok("it takes sessions".to_owned());
            }
            b'E' => return judge(&body),
            _ => {}
        }
    }
}

fn stranger() -> Trouble {
    Trouble::Said("that is not PostgreSQL".to_owned())
}

/// What an error means: its fields end with a zero each, and begin with their kind.
fn judge(body: &[u8]) -> Found {
    let field = |kind: u8| {
        let field = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&kind));
        field.map_or_else(String::new, |field| shown(&String::from_utf8_lossy(&field[1..])))
    };
    let (code, message) = (field(b'C'), field(b'M'));
    let reason = format!("{message} ({code})");
    if UNFIT.iter().any(|class| code.starts_with(class)) { Err(Trouble::Said(reason)) } else { Ok(reason) }
}
