//! What another process prints: kept as it comes, and waited for.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// Longer than anything takes; what is not there by then hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// All that came through one pipe so far.
#[derive(Clone)]
pub struct Captured(Arc<(Mutex<Output>, Condvar)>);

#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    ended: bool,
}

impl Captured {
    /// Keeps what comes out of `pipe`, until nobody holds its other end any more.
    pub fn start(mut pipe: impl Read + Send + 'static) -> Self {
        let captured = Self(Arc::default());
        let kept = captured.clone();
        thread::spawn(move || {
            let mut chunk = [0; 64 * 1024];
            loop {
                let read = pipe.read(&mut chunk).unwrap_or(0);
                let mut output = kept.0.0.lock().unwrap();
                output.bytes.extend_from_slice(&chunk[..read]);
                output.ended = read == 0;
                kept.0.1.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
        captured
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.0.lock().unwrap().bytes).into_owned()
    }

    /// The first whole line with `what` in it; `None` where the output ended without one.
    pub fn line_with(&self, what: &str) -> Option<String> {
        let found = |output: &Output| {
            let text = String::from_utf8_lossy(&output.bytes);
            let whole = &text[..text.rfind('\n')?];
            whole.lines().find(|line| line.contains(what)).map(str::to_owned)
        };
        self.wait(|output| output.ended || found(output).is_some(), what);
        found(&self.0.0.lock().unwrap())
    }

    /// Waits until this text came so many times.
    pub fn wait_for(&self, what: &str, times: usize) {
        let enough = |output: &Output| String::from_utf8_lossy(&output.bytes).matches(what).count() >= times;
        self.wait(enough, what);
    }

    /// Waits until nothing can come any more.
    pub fn wait_for_end(&self) {
        self.wait(|output| output.ended, "the end");
    }

    fn wait(&self, done: impl Fn(&Output) -> bool, what: &str) {
        let (output, changed) = &*self.0;
        let waiting = output.lock().unwrap();
        let (output, timeout) = changed
            .wait_timeout_while(waiting, PATIENCE, |output| !done(output))
            .unwrap();
        let so_far = String::from_utf8_lossy(&output.bytes);
        assert!(!timeout.timed_out(), "`{what}` did not come; so far: {so_far}");
    }
}
