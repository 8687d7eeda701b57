//! Every system call of a running instance, and which of them put something where it stays.

use std::collections::HashMap;
use std::fs;

use tempfile::TempDir;

use super::http::Client;
use super::process::{Home, Process, Settings};

/// An instance whose system calls are all written down.
pub struct Traced {
    pub process: Process,
    /// Not in the instance's home, where nothing but its own files is.
    dir: TempDir,
}

/// One system call, whole.
#[derive(Debug, Clone)]
pub struct Call {
    /// Of the thread that made it.
    pub thread: String,
    pub name: String,
    /// Arguments and result as `strace` writes them, descriptors with what they stand for.
    pub text: String,
}

/// Calls that change nothing outside of the process's memory and its own descriptors.
const HARMLESS: &[&str] = &[
    "accept",
    "accept4",
    "access",
    "bind",
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "clone",
    "clone3",
    "close",
    "connect",
    "dup",
    "dup2",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "eventfd2",
    "exit",
    "exit_group",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getegid",
    "geteuid",
    "getgid",
    "getpeername",
    "getpid",
    "getrandom",
    "getsockname",
    "getsockopt",
    "gettid",
    "getuid",
    "ioctl",
    "listen",
    "lseek",
    "lstat",
    "madvise",
    "membarrier",
    "mprotect",
    "mremap",
    "munmap",
    "nanosleep",
    "newfstatat",
    "pipe2",
    "poll",
    "ppoll",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "setsockopt",
    "shutdown",
    "sigaltstack",
    "socket",
    "socketpair",
    "stat",
    "statx",
    "sysinfo",
    "tgkill",
    "timerfd_create",
    "timerfd_settime",
    "uname",
];

/// Calls that write to the descriptor they name first.
const WRITES: &[&str] = &[
    "pwrite64", "pwritev", "pwritev2", "sendmmsg", "sendmsg", "sendto", "write", "writev",
];

/// Calls that only create or change a file if they are told to.
const OPENS: &[&str] = &["open", "openat", "openat2"];
const CHANGING_FLAGS: &[&str] = &["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"];

impl Call {
    /// Whether it writes to a file, creates one, or may do anything that no table here knows: everything but socket,
    /// event counter and the log.
    pub fn leaves_something(&self) -> bool {
        let name = self.name.as_str();
        if WRITES.contains(&name) {
            return !self.is_to_socket() && !self.is_to_event_counter() && !self.text.starts_with("2<");
        }
        if OPENS.contains(&name) {
            return CHANGING_FLAGS.iter().any(|flag| self.text.contains(flag));
        }
        if name == "mmap" {
            return self.text.contains("MAP_SHARED") && self.text.contains("PROT_WRITE");
        }
        !HARMLESS.contains(&name)
    }

    /// Whether the descriptor that it names first is a socket.
    pub fn is_to_socket(&self) -> bool {
        self.first_descriptor().is_some_and(|what| what.starts_with("socket:["))
    }

    fn is_to_event_counter(&self) -> bool {
        self.first_descriptor().is_some_and(|what| what.contains("[eventfd]"))
    }

    /// What the first argument stands for.
    fn first_descriptor(&self) -> Option<&str> {
        let (number, rest) = self.text.split_once('<')?;
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
    }
}

impl Traced {
    /// Starts one. Fails where `strace` cannot attach: then nothing would be shown.
    pub fn start(settings: Settings<'_>) -> Self {
        let (home, dir) = (Home::new(), TempDir::new().unwrap());
        let out = dir.path().join("calls").display().to_string();
        // Threads by name, descriptors by what they stand for, texts whole, signals not at all.
        let strace = [
            "strace",
            "-f",
            "-y",
            "--decode-pids=comm",
            "-s",
            "262144",
            "-e",
            "signal=none",
            "-o",
            &out,
        ];
        let command = home.serve_under(&strace, settings);
        let process = Process::spawn(home, command);
        Self { process, dir }
    }

    /// Puts a mark into the trace: what was answered before stands before it.
    pub fn mark(&self, name: &str) {
        assert_eq!(self.process.health(&format!("/livez?{name}")).status, 200);
    }

    /// Delivers until it succeeds. A value is only released once its audit entry is stored, for which a delivery waits a
    /// quarter of a second; under `strace` on a busy machine that is not always enough, and the dispatcher tries again.
    pub fn deliver_cold(&self, dispatcher: &mut Client, request: &[u8]) {
        for _ in 0..50 {
            let answer = dispatcher.exchange(request);
            match answer.status {
                200 => return,
                503 => assert_eq!(answer.json()["retryable"], true, "{answer:?}"),
                _ => panic!("{answer:?}"),
            }
        }
        panic!("no delivery succeeds");
    }

    /// Ends the instance and gives all it called, in order.
    pub fn finish(self) -> Calls {
        let ended = self.process.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let text = fs::read_to_string(self.dir.path().join("calls")).unwrap();
        Calls(calls(&text))
    }
}

/// A trace, in order.
pub struct Calls(Vec<Call>);

impl Calls {
    pub fn all(&self) -> &[Call] {
        &self.0
    }

    /// The calls between two marks.
    pub fn between(&self, from: &str, to: &str) -> &[Call] {
        let at = |name: &str| {
            let request = format!("GET /livez?{name} ");
            let found = self.0.iter().position(|call| call.text.contains(&request));
            found.unwrap_or_else(|| panic!("no mark {name}"))
        };
        &self.0[at(from) + 1..at(to)]
    }
}

/// Reads `1234<thread> name(arguments) = result`, and calls that another thread's came into the middle of.
fn calls(text: &str) -> Vec<Call> {
    let mut unfinished: HashMap<&str, Call> = HashMap::new();
    let mut calls = Vec::new();
    for line in text.lines() {
        let (thread, what) = line.split_once("> ").unwrap_or_else(|| panic!("{line}"));
        let (id, name) = thread.split_once('<').unwrap();
        let what = what.trim_start();
        if what.starts_with("+++") {
            continue; // the thread ended
        }
        if let Some(resumed) = what.strip_prefix("<... ") {
            let (_, rest) = resumed.split_once(" resumed>").unwrap();
            let mut call = unfinished.remove(id).unwrap();
            call.text.push_str(rest);
            calls.push(call);
            continue;
        }
        let (called, arguments) = what.split_once('(').unwrap_or_else(|| panic!("{line}"));
        let call = Call {
            thread: name.to_owned(),
            name: called.to_owned(),
            text: arguments.trim_end_matches(" <unfinished ...>").to_owned(),
        };
        if arguments.ends_with("<unfinished ...>") {
            unfinished.insert(id, call);
        } else {
            calls.push(call);
        }
    }
    calls
}
