//! How a person is asked at a terminal: in the open, or for a value that does not show.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::Failure;
use crate::domain::secret::VALUE_BYTES_MAX;

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const KILL_LINE: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// Whether there is a person to ask.
pub(super) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks for a value twice. Empty where nothing was typed the first time.
pub(super) fn value(what: &str) -> Result<SecretString, Failure> {
    loop {
        let first = hidden(&format!("{what}: "))?;
        if first.expose_secret().is_empty() {
            return Ok(first);
        }
        let second = hidden("the same again: ")?;
        if first.expose_secret() == second.expose_secret() {
            return Ok(first);
        }
        say("these differ; once more\n");
    }
}

/// Asks a question that is answered with yes or no; what an empty answer means is in capitals.
pub(super) fn agreed(question: &str, default: bool) -> Result<bool, Failure> {
    let choice = if default { "[Y/n]" } else { "[y/N]" };
    loop {
        say(&format!("{question} {choice} "));
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        if read.map_err(|_| gone())? == 0 {
            return Err(gone());
        }
        match line.trim().to_ascii_lowercase().as_str() {
            "" => return Ok(default),
            "y" | "yes" => return Ok(true),
            "n" | "no" => return Ok(false),
            _ => say("y or n\n"),
        }
    }
}

/// Says something to the person: on stderr, so that stdout stays the command's result.
pub(super) fn say(text: &str) {
    let mut terminal = io::stderr().lock();
    let _ = terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush());
}

fn gone() -> Failure {
    Failure::usage("the terminal is gone; nothing more was written")
}

/// A terminal that neither shows nor edits what is typed. As it was before, once dropped.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        // Not by lines: a terminal's line is cut at 4096 bytes, and an interrupt has to restore the echo.
        quiet
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

fn hidden(prompt: &str) -> Result<SecretString, Failure> {
    let no_terminal = |_| Failure::usage("the terminal cannot be told to hide what is typed");
    let _hidden = Hidden::begin().map_err(no_terminal)?;
    say(prompt);
    let line = typed(io::stdin().lock());
    say("\n");
    match line? {
        Some(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(SecretString::from(text)),
            Err(_) => Err(Failure::usage("what was typed is not UTF-8; use --value-file")),
        },
        None => Err(Failure::usage("interrupted; nothing was written")),
    }
}

/// The bytes up to the end of the line; `None` where it was interrupted.
fn typed(mut keyboard: impl Read) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let mut line = Zeroizing::new(Vec::with_capacity(VALUE_BYTES_MAX.saturating_add(1)));
    let mut byte = Zeroizing::new([0_u8; 1]);
    loop {
        if keyboard.read(byte.as_mut_slice()).map_err(|_| gone())? == 0 {
            return Err(gone());
        }
        let [typed] = *byte;
        match typed {
            b'\n' | b'\r' => return Ok(Some(line)),
            END if line.is_empty() => return Ok(Some(line)),
            INTERRUPT => return Ok(None),
            BACKSPACE | DELETE => {
                // A character, not a byte of it.
                while line.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {}
            }
            KILL_LINE => line.clear(),
            other if line.len() <= VALUE_BYTES_MAX => line.push(other),
            _ => {} // too long already: told when it is checked
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_hidden_line_is_edited_like_any_other() {
        let line = |keys: &[u8]| {
            typed(keys)
                .unwrap()
                .map(|line| String::from_utf8(line.to_vec()).unwrap())
        };
        for (keys, expected) in [
            (&b"secret\n"[..], "secret"),
            (b"secret\r", "secret"),
            (b"\n", ""),
            (b"\x04", ""),
            (b"sex\x7fcret\n", "secret"),
            ("g\u{fc}\x7fo\n".as_bytes(), "go"),
            (b"\x7fa\n", "a"),
            (b"wrong\x15right\n", "right"),
        ] {
            assert_eq!(line(keys).as_deref(), Some(expected), "{keys:?}");
        }
        assert_eq!(line(b"sec\x03ret\n"), None);
        assert!(typed(&b"no end"[..]).is_err());
        let long = [vec![b'x'; 5_000], b"\n".to_vec()].concat();
        assert_eq!(line(&long).map(|line| line.len()), Some(5_000));
    }
}
