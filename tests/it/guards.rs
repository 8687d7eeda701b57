//! Whether the process keeps what it promises about memory and disk, and says so only where it is so.
//!
//! What the kernel has to say comes from `/proc` and from `strace`. What it lacks, or pretends, `strace` injects into
//! the answers that the binary gets: nothing in the product can switch a guard off.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use super::support::captured::Captured;
use super::support::endpoint::Endpoint;
use super::support::instance::invocation;
use super::support::pki::Authority;
use super::support::process::{Home, Process, Settings, kiket, run};
use super::support::tls_endpoint::{H2, Setup};
use super::support::trace::{Call, Traced};

const GUARDS: [&str; 6] = [
    "zero_on_free",
    "landlock",
    "seccomp",
    "no_core_dumps",
    "not_dumpable",
    "locked_keys",
];

/// What drops every capability, so that a user's processes are equals also where that user is root.
const WITHOUT_CAPABILITIES: [&str; 3] = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];

/// What this kernel lets a guard be.
fn possible(guard: &str) -> &'static str {
    let has = match guard {
        "landlock" => landlock_version() >= 3,
        "seccomp" => fs::exists("/proc/sys/kernel/seccomp/actions_avail").unwrap(),
        _ => true,
    };
    if has { "active" } else { "unsupported" }
}

fn landlock_version() -> i64 {
    const ASK_FOR_VERSION: u32 = 1;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: with this flag the kernel takes no pointer and answers with a number.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0, ASK_FOR_VERSION) }
}

/// What readiness, metrics and log say of every guard; they agree.
fn said(process: &Process) -> Vec<(&'static str, String)> {
    let readiness = process.health("/readyz").json();
    let metrics = process.health("/metrics");
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let log = process.log.text();
    assert_eq!(readiness["guards"].as_object().unwrap().len(), GUARDS.len());
    GUARDS
        .iter()
        .map(|guard| {
            let state = readiness["guards"][guard].as_str().unwrap();
            let gauge = format!(
                "kiket_guard_active{{guard=\"{guard}\"}} {}\n",
                u8::from(state == "active")
            );
            assert!(metrics.contains(&gauge), "{guard} is {state}: {metrics}");
            let told = log
                .matches(&format!("\"guard\":\"{guard}\",\"state\":\"{state}\""))
                .count();
            assert_eq!(told, usize::from(state != "active"), "{guard} is {state}: {log}");
            (*guard, state.to_owned())
        })
        .collect()
}

fn all_but(odd: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let state = |guard: &str| {
        let of = |guard: &str| odd.iter().find(|(name, _)| *name == guard).map(|(_, state)| *state);
        let state = match guard {
            // No limit binds a program that takes the cores.
            "no_core_dumps" if cores_go_to_a_program() => of("not_dumpable"),
            _ => of(guard),
        };
        state.unwrap_or_else(|| possible(guard)).to_owned()
    };
    GUARDS.map(|guard| (guard, state(guard))).to_vec()
}

fn cores_go_to_a_program() -> bool {
    fs::read_to_string("/proc/sys/kernel/core_pattern")
        .unwrap()
        .starts_with('|')
}

#[test]
fn every_guard_that_this_kernel_has_is_active_and_may_be_required() {
    let has_all = GUARDS.iter().all(|guard| possible(guard) == "active");
    let process = Process::with(&[("require_guards", if has_all { "true" } else { "false" })]);
    assert_eq!(said(&process), all_but(&[]));
    let swap = process.health("/readyz").json()["swap"].clone();
    assert!(
        [json!("active"), json!("none"), json!("locked")].contains(&swap),
        "{swap}"
    );
}

/// The value of a line of `/proc/<pid>/…`.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}: {text}")).trim()
}

#[test]
fn the_kernel_says_the_same_of_the_process_and_of_every_thread() {
    let (process, endpoint) = (Process::with(&[("workers", "2")]), Endpoint::start());
    process.simple(&endpoint.url(), "value");
    assert_eq!(process.deliver("ins", b"{}").status, 200);
    let of_process = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", process.pid())).unwrap();
    let limits = of_process("limits");
    let core: Vec<&str> = line(&limits, "Max core file size").split_whitespace().collect();
    assert_eq!(core, ["0", "0", "bytes"]);
    let status = of_process("status");
    let locked: u64 = line(&status, "VmLck:").trim_end_matches(" kB").parse().unwrap();
    assert!(
        locked >= 4 * 7,
        "{locked} kB hold four keys and three derived ones, a page each"
    );
    // The filter binds those alone that come after it: none may have come before.
    let mut threads = Vec::new();
    for thread in fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let name = line(&status, "Name:").to_owned();
        assert_eq!(line(&status, "NoNewPrivs:"), "1", "{name}");
        if possible("seccomp") == "active" {
            assert_eq!(line(&status, "Seccomp:"), "2", "{name}");
        }
        threads.push(name);
    }
    for name in ["kiket-log", "kiket-control"] {
        assert!(threads.iter().any(|thread| thread == name), "{name}: {threads:?}");
    }
}

/// A program and its arguments, with the capabilities of an ordinary user.
fn without_capabilities(words: &[&str]) -> Command {
    let is_root = rustix::process::geteuid().is_root();
    let runner = if is_root { &WITHOUT_CAPABILITIES[..] } else { &[] };
    let all: Vec<&str> = runner.iter().chain(words).copied().collect();
    let mut command = Command::new(all[0]);
    command.args(&all[1..]);
    command
}

/// Whether another process of the same user can read this of a process.
fn another_reads(pid: u32, what: &str) -> bool {
    let path = format!("/proc/{pid}/{what}");
    let ended = run(without_capabilities(&["head", "-c", "0", &path]));
    let refused = ended.stderr.contains("Permission denied");
    assert_eq!(ended.code == Some(0), !refused, "{what}: {ended:?}");
    !refused
}

/// A process of the same user that does nothing until its input ends.
fn bystander() -> Child {
    let mut command = without_capabilities(&["sh", "-c", "echo ready; exec cat"]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let said = Captured::start(child.stdout.take().unwrap());
    said.line_with("ready").unwrap();
    child
}

#[test]
fn another_process_of_the_same_user_cannot_read_the_memory() {
    let home = Home::new();
    let is_root = rustix::process::geteuid().is_root();
    let command = home.serve_under(if is_root { &WITHOUT_CAPABILITIES } else { &[] }, &[]);
    let process = Process::spawn(home, command);
    let mut bystander = bystander();
    for what in ["mem", "maps", "environ", "auxv"] {
        assert!(
            another_reads(bystander.id(), what),
            "{what} of a process without the guard"
        );
        assert!(!another_reads(u32::try_from(process.pid()).unwrap(), what), "{what}");
    }
    drop(bystander.stdin.take());
    assert!(bystander.wait().unwrap().success());
    // Nor does it need a privilege for any of its guards.
    assert_eq!(said(&process), all_but(&[]));
}

/// Attempts and their answers in the trace of a start, in this order.
const REFUSED: &[(&str, &str, &str)] = &[
    ("openat", "\"/dev/null\", O_WRONLY", "EACCES"),
    ("openat", "/proc/self/fd/", "EACCES"),
    ("truncate", "/proc/self/fd/", "EACCES"),
    ("openat", "/.kiket-guard-", "EACCES"),
    ("execve", "\"/proc/self/exe\"", "EACCES"),
    ("seccomp", "SECCOMP_SET_MODE_FILTER", "= 0"),
    ("execve", "\"/proc/self/exe\"", "EPERM"),
    ("ptrace", "PTRACE_CONT", "EPERM"),
    ("process_vm_readv", "", "EPERM"),
    ("pidfd_getfd", "", "EPERM"),
    ("prlimit64", "RLIMIT_CORE, {", "EPERM"),
    ("prctl", "PR_SET_DUMPABLE", "EPERM"),
];

#[test]
fn the_self_test_tries_what_is_forbidden_while_there_is_one_thread_and_leaves_nothing_behind() {
    if GUARDS.iter().any(|guard| possible(guard) != "active") {
        return; // then the states say so, and what is not there cannot refuse
    }
    let (traced, endpoint) = (Traced::start(&[("require_guards", "true")]), Endpoint::start());
    traced.process.simple(&endpoint.url(), "value");
    let calls = traced.finish();
    let calls = calls.all();
    let mut at = 0;
    for (name, argument, answer) in REFUSED {
        let is_it = |call: &Call| call.name == *name && call.text.contains(argument) && call.text.contains(answer);
        let found = calls[at..].iter().position(is_it);
        at += found.unwrap_or_else(|| panic!("{name} {argument} {answer} is not seen after {}", calls[at].text)) + 1;
    }
    let makes_a_thread = |call: &Call| call.name.starts_with("clone") && call.text.contains("CLONE_THREAD");
    let first = calls.iter().position(makes_a_thread).unwrap();
    assert!(at <= first, "threads come after");
    // Two attempts at a program were refused in children; whatever succeeded ran the product itself.
    let ran = calls
        .iter()
        .filter(|call| call.name == "execve" && call.text.ends_with("= 0"));
    assert_eq!(ran.count(), 1);
}

/// Starts it under `strace` that answers some of its calls in the kernel's place.
fn where_the_kernel_answers(injections: &[&str], settings: Settings<'_>) -> (Home, Command) {
    let home = Home::new();
    let mut words = vec!["strace", "-f", "-o", "/dev/null", "-e", "signal=none"];
    words.extend(injections.iter().flat_map(|injection| ["-e", injection]));
    let command = home.serve_under(&words, settings);
    (home, command)
}

/// What the kernel says, and what then is not as it could be.
type Answered = (&'static [&'static str], &'static [(&'static str, &'static str)]);

const ANSWERED: &[Answered] = &[
    (
        &["inject=landlock_create_ruleset:error=ENOSYS"],
        &[("landlock", "unsupported")],
    ),
    (
        &["inject=landlock_create_ruleset:error=EOPNOTSUPP"],
        &[("landlock", "unsupported")],
    ),
    (&["inject=seccomp:error=EINVAL"], &[("seccomp", "unsupported")]),
    (&["inject=seccomp:error=EACCES"], &[("seccomp", "off")]),
    // It says yes and does nothing: only who tries can tell.
    (&["inject=landlock_restrict_self:retval=0"], &[("landlock", "off")]),
    (&["inject=seccomp:retval=0"], &[("seccomp", "off")]),
    (&["inject=mlock,mlockall:error=ENOMEM"], &[("locked_keys", "off")]),
    (&["inject=mlock,mlockall:retval=0"], &[("locked_keys", "off")]),
    (&["inject=madvise:error=EINVAL"], &[("locked_keys", "off")]),
    // No promise can be made to the kernel: two of the guards need one.
    (
        &["inject=prctl:error=EINVAL"],
        &[("landlock", "off"), ("seccomp", "off"), ("not_dumpable", "off")],
    ),
];

#[test]
fn what_the_kernel_lacks_or_pretends_is_said_and_the_rest_holds() {
    for (injections, odd) in ANSWERED {
        let (home, command) = where_the_kernel_answers(injections, &[]);
        let process = Process::spawn(home, command);
        // Where this kernel has no such guard anyway, nothing can be pretended of it.
        let odd: Vec<_> = odd
            .iter()
            .map(|(guard, state)| {
                (
                    *guard,
                    if possible(guard) == "active" {
                        *state
                    } else {
                        "unsupported"
                    },
                )
            })
            .collect();
        let expected = all_but(&odd);
        assert_eq!(said(&process), expected, "{injections:?}");
    }
}

#[test]
fn required_guards_that_are_not_active_are_named_and_nothing_starts() {
    let required = [("require_guards", "true")];
    for (injections, odd) in ANSWERED {
        let (home, command) = where_the_kernel_answers(injections, &required);
        let ended = run(command);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(
            ended.stderr.starts_with("kiket: require_guards = true, but"),
            "{ended:?}"
        );
        for (guard, _) in *odd {
            assert!(ended.stderr.contains(&format!("{guard} (")), "{guard}: {ended:?}");
        }
        assert!(!home.path().join("kiket.db").exists(), "nothing was begun");
    }
}

#[test]
fn keys_need_a_little_lockable_memory_and_no_privilege() {
    let is_root = rustix::process::geteuid().is_root();
    let drop = if is_root { &WITHOUT_CAPABILITIES[..] } else { &[] };
    for (limit, odd, swap) in [
        ("--memlock=65536:65536", &[][..], "none"),
        ("--memlock=0:0", &[("locked_keys", "off")], "none"),
    ] {
        let home = Home::new();
        let runner: Vec<&str> = ["prlimit", limit].into_iter().chain(drop.iter().copied()).collect();
        let command = home.serve_under(&runner, &[]);
        let process = Process::spawn(home, command);
        assert_eq!(said(&process), all_but(odd), "{limit}");
        let has_swap = fs::read_to_string("/proc/swaps").unwrap().lines().count() > 1;
        let swap = if has_swap { "active" } else { swap };
        assert_eq!(process.health("/readyz").json()["swap"], swap, "{limit}");
    }
}

#[test]
fn whoever_may_lock_all_memory_does() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = u64::from_str_radix(line(&status, "CapEff:"), 16).unwrap();
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let may = effective & (1 << 14) != 0 || line(&limits, "Max locked memory").starts_with("unlimited");
    let process = Process::start();
    let is_locked = process.health("/readyz").json()["swap"] == "locked";
    assert_eq!(is_locked, may, "CAP_IPC_LOCK is bit 14 of {effective:x}");
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let kib = |name: &str| line(&status, name).trim_end_matches(" kB").parse::<u64>().unwrap();
    assert_eq!(kib("VmLck:") > kib("VmRSS:"), may, "{status}");
}

#[test]
fn a_name_that_is_looked_up_cold_and_an_endpoint_over_tls_are_reached() {
    let authority = Authority::new("dev CA");
    let (roots, secure, plain) = (authority.file(), Setup::new(&authority, H2).start(), Endpoint::start());
    let process = Process::with(&[
        ("egress_ca_file", roots.path().to_str().unwrap()),
        ("egress_allow_cidrs", "127.0.0.0/8,::1/128"),
    ]);
    process.simple(&secure.url(), "value-over-tls");
    assert_eq!(process.deliver("ins", b"{}").status, 200);
    assert_eq!(secure.last().json()["secrets"]["KEY"], "value-over-tls");
    let (callback, keys) = (
        json!({"url": plain.url().replace("127.0.0.1", "localhost")}),
        json!({"KEY": {"secret": true}}),
    );
    process.install("by-name", "com.example.name", &callback, &keys);
    process.enable("by-name");
    let answer = process.deliver("by-name", b"{}");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(plain.last().secret("KEY").as_deref(), Some("value-over-tls"));
    // What it writes is kept, and its log arrives to the end.
    process.set("KEY", "another");
    assert_eq!(process.deliver("by-name", b"{}").status, 200);
    assert_eq!(plain.last().secret("KEY").as_deref(), Some("another"));
    let ended = process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("\"outcome\":\"delivered\"").count(), 3);
    assert!(ended.stderr.contains("\"message\":\"stopped\""), "{}", ended.stderr);
}

#[test]
fn the_store_may_stand_behind_a_link_with_its_log_in_another_directory() {
    let (home, elsewhere) = (Home::new(), tempfile::tempdir().unwrap());
    let real = elsewhere.path().join("real.db");
    fs::write(&real, "").unwrap();
    std::os::unix::fs::symlink(&real, home.path().join("kiket.db")).unwrap();
    let command = home.serve(&[]);
    let process = Process::spawn(home, command);
    process.set("KEY", "value");
    assert!(elsewhere.path().join("real.db-wal").exists());
    assert!(process.home.path().join("kiket.db.lock").exists());
    let home = Arc::clone(&process.home);
    let ended = process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let command = home.serve(&[]);
    let again = Process::spawn_in(home, command);
    let path = "/extensions/secrets/KEY?scope=project&id=proj&organization_id=org";
    assert_eq!(again.call("GET", path, b"").status, 200);
}

#[test]
fn a_unix_socket_away_from_the_store_stays_at_the_end_and_is_replaced_by_the_next_start() {
    let (home, elsewhere) = (Arc::new(Home::new()), tempfile::tempdir().unwrap());
    let outside = elsewhere.path().join("kiket.sock");
    let listen = format!("unix:{}", outside.display());
    for _ in 0..2 {
        let command = home.serve(&[("proxy_listen", &listen)]);
        let process = Process::spawn_in(Arc::clone(&home), command);
        let mut stream = std::os::unix::net::UnixStream::connect(&outside).unwrap();
        std::io::Write::write_all(&mut stream, &invocation("none", b"{}")).unwrap();
        let mut answer = [0; 12];
        std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 404");
        drop(stream);
        let ended = process.stop();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let stays = possible("landlock") == "active";
        assert_eq!(
            ended.stderr.contains("the Unix socket's file stays behind"),
            stays,
            "{}",
            ended.stderr
        );
        assert_eq!(
            fs::symlink_metadata(&outside).is_ok_and(|meta| meta.file_type().is_socket()),
            stays
        );
        let refused = std::os::unix::net::UnixStream::connect(&outside).unwrap_err().kind();
        assert!(
            [ErrorKind::ConnectionRefused, ErrorKind::NotFound].contains(&refused),
            "{refused}"
        );
    }
}

#[test]
fn the_demo_shows_the_guards_that_it_has_and_leaves_no_folder_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = kiket(&["demo", "--once"]);
    command.env("TMPDIR", folder.path());
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let is_root = rustix::process::geteuid().is_root();
    let odd: &[_] = if is_root { &[] } else { &[("not_dumpable", "off")] }; // it counts its own write calls
    for (guard, expected) in all_but(odd) {
        let shown = ended
            .stdout
            .lines()
            .find(|line| line.trim_start().starts_with(guard))
            .unwrap();
        let state = shown.split_whitespace().nth(1).unwrap();
        assert_eq!(state, expected, "{guard}");
    }
    assert!(ended.stdout.contains("\n  swap           "), "{}", ended.stdout);
    let left: Vec<Value> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| json!(entry.unwrap().file_name().to_string_lossy()))
        .collect();
    assert_eq!(left, [] as [Value; 0]);
}
