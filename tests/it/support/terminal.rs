//! A person at a terminal: a command on a pseudo terminal, what it shows, and what is typed.

use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use super::captured::Captured;

/// A command that believes a person is there. Killed when dropped.
pub struct Terminal {
    keyboard: File,
    /// The other end, kept open so that the terminal outlives the command.
    line: File,
    screen: Captured,
    stdout: Captured,
    child: Child,
}

impl Terminal {
    /// Starts a command with its stdin and stderr on a terminal; its stdout is redirected, as for a script.
    pub fn start(mut command: Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let line = File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap();
        let keyboard = File::from(master);
        let screen = Captured::start(keyboard.try_clone().unwrap());
        let end = || Stdio::from(line.try_clone().unwrap());
        let mut child = command
            .stdin(end())
            .stderr(end())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = Captured::start(child.stdout.take().unwrap());
        Self {
            keyboard,
            line,
            screen,
            stdout,
            child,
        }
    }

    /// Waits until this was shown for the n-th time, then types.
    pub fn answer(&mut self, shown: &str, times: usize, typed: &str) {
        self.screen.wait_for(shown, times);
        self.keyboard.write_all(typed.as_bytes()).unwrap();
    }

    /// Waits until this is shown.
    pub fn wait_for(&self, shown: &str) {
        self.screen.wait_for(shown, 1);
    }

    /// Whether the terminal shows what is typed.
    pub fn echoes(&self) -> bool {
        tcgetattr(&self.line).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the end: the exit code, what the screen showed, and what went to stdout.
    pub fn end(mut self) -> (Option<i32>, String, String) {
        self.stdout.wait_for_end();
        let code = self.child.wait().unwrap().code();
        assert!(self.echoes(), "a command left the terminal mute");
        // Through the terminal, so that everything before it has arrived.
        self.line.write_all(b"the end of the show\n").unwrap();
        self.screen.wait_for("the end of the show", 1);
        (code, self.screen.text(), self.stdout.text())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
