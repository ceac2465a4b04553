//! Whether MySQL or MariaDB takes sessions
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase.html>).
//!
//! Who goes away after the greeting is counted against its host, which is locked out after `max_connect_errors` of them.
//! So the handshake is finished, as a user that need not exist.

use super::talk::shown;
use super::wire::{MOST, Wire};
use super::{Found, Trouble};

/// Long password, protocol 4.1, secure connection, named plugins.
const CAPABILITIES: u32 = 0x1 | 0x200 | 0x8000 | 0x8_0000;

/// Errors that say that the user may not come in, and so that others may: access denied in its kinds, and locked accounts.
const OF_THE_USER: [u16; 7] = [1044, 1045, 1251, 1698, 1862, 3118, 4151];

pub(super) async fn ask(wire: &mut Wire) -> Found {
    let (_, greeting) = packet(wire).await?;
    let version = match greeting.split_first() {
        Some((10, rest)) => rest.split(|byte| *byte == 0).next().unwrap_or_default(),
        Some((0xff, rest)) => return Err(Trouble::Said(error(rest).1)),
        _ => return Err(stranger()),
    };
    let version = shown(&String::from_utf8_lossy(version));
    let mut answer = CAPABILITIES.to_le_bytes().to_vec();
    answer.extend((1_u32 << 24).to_le_bytes());
    // utf8, and nothing where nothing is.
    answer.push(33);
    answer.extend([0; 23]);
    answer.extend(b"tidegate\0\0mysql_native_password\0");
    send(wire, 1, &answer).await?;
    for _ in 0..3 {
        let (number, body) = packet(wire).await?;
        match body.split_first() {
            Some((0, _)) => {
                // COM_QUIT
                let _ = send(wire, 0, &[1]).await;
                return Ok(version);
            }
            // Another plugin: it gets no password either.
            Some((0xfe, _)) => send(wire, number.wrapping_add(1), &[]).await?,
            Some((0xff, rest)) => {
                let (code, text) = error(rest);
                let is_well = OF_THE_USER.contains(&code);
                return if is_well { Ok(format!("{version}; {text}")) } else { Err(Trouble::Said(text)) };
            }
            _ => break,
        }
    }
    Err(Trouble::Said("it does not finish its handshake".to_owned()))
}

/// A packet's number and its body. None of a handshake is long; text, read as a length, is.
async fn packet(wire: &mut Wire) -> Result<(u8, Vec<u8>), Trouble> {
    let head = wire.bytes(4).await?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
    if length > MOST {
        return Err(stranger());
    }
    Ok((head[3], wire.bytes(length).await?))
}

fn stranger() -> Trouble {
    Trouble::Said("that is not MySQL".to_owned())
}

async fn send(wire: &mut Wire, number: u8, body: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(body.len()).expect("it is short").to_le_bytes();
    wire.send(&[&[length[0], length[1], length[2], number], body].concat()).await
}

/// An error's code, and it in words. Its message may have `#` and five letters before it.
fn error(rest: &[u8]) -> (u16, String) {
    let (code, text) = rest.split_at_checked(2).unwrap_or((&[0, 0], rest));
    let code = u16::from_le_bytes([code[0], code[1]]);
    let text = if text.first() == Some(&b'#') { text.get(6..).unwrap_or_default() } else { text };
    (code, format!("{} ({code})", shown(&String::from_utf8_lossy(text))))
}
