//! Which system calls the kernel refuses to the process: those that it has no use for and an intruder has.
//!
//! A deny-list: an allow-list would have to follow every release of the C library and the runtime, and a call that is
//! missing from it would show in production. A refused call fails with `EPERM` and is survived, so that the self-test
//! can see it. Calls of another architecture end the process; calls through the x32 interface are refused one and all.
//!
//! Only the calling thread and those that it starts are bound: this runs while there is one thread.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, sock_filter,
};

use super::Wish;

/// Refused whatever they are called with.
const REFUSED: &[libc::c_long] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Code for the kernel, and ways into it that had more than their share of holes.
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    // Another view of the file systems, and files by handle past every directory.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // Places that are no file and outlive the process, or are one and have no name.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_shmget,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    libc::SYS_memfd_create,
    // The host.
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_personality,
    SETRLIMIT,
];

/// The C library has it for one architecture only, which is the one that uses it.
#[cfg(not(target_arch = "aarch64"))]
const SETRLIMIT: libc::c_long = libc::SYS_setrlimit;
#[cfg(target_arch = "aarch64")]
const SETRLIMIT: libc::c_long = 164;

/// Installs the filter for the calling thread, for good.
pub(super) fn refuse() -> Wish {
    let Ok(arch) = TargetArch::try_from(ARCH) else {
        return Wish::Unsupported;
    };
    let Ok(program) = program(arch) else {
        return Wish::Refused;
    };
    match apply_filter(&program) {
        Ok(()) => Wish::Granted,
        Err(Error::Seccomp(error)) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
            Wish::Unsupported
        }
        Err(_) => Wish::Refused,
    }
}

fn program(arch: TargetArch) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // The process takes back neither of its promises about dumps: a limit may be read, not set.
    let sets_a_limit = SeccompCondition::new(2, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)?;
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(vec![sets_a_limit])?]);
    let sets_dumpable = u64::try_from(libc::PR_SET_DUMPABLE).unwrap_or(u64::MAX);
    let sets_dumpable = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, sets_dumpable)?;
    rules.insert(libc::SYS_prctl, vec![SeccompRule::new(vec![sets_dumpable])?]);
    let eperm = u32::try_from(libc::EPERM).unwrap_or(1);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(eperm), arch)?;
    let rest: BpfProgram = filter.try_into()?;
    Ok(without_x32(eperm).into_iter().chain(rest).collect())
}

/// Refuses numbers from 2^30 on. On x86-64 they name the same calls in the x32 interface (and some under other numbers),
/// of the same architecture to the filter: without this every number above had a second name. Elsewhere there are none.
fn without_x32(errno: u32) -> [sock_filter; 3] {
    const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS: of the call's data, which starts with its number
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const X32: u32 = 0x4000_0000;
    let instruction = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    [
        instruction(LOAD, 0, 0),
        instruction(JUMP_IF_AT_LEAST, 1, X32),
        instruction(RETURN, 0, libc::SECCOMP_RET_ERRNO | errno),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io;
    use std::thread;

    use super::*;

    /// Arguments that no call of the list does anything with.
    const NONSENSE: libc::c_long = -1;

    fn errno(call: libc::c_long, arguments: [libc::c_long; 3]) -> Option<i32> {
        let [first, second, third] = arguments;
        // SAFETY: only called with arguments that the kernel refuses or that ask for nothing but numbers.
        let answer = unsafe { libc::syscall(call, first, second, third, NONSENSE, NONSENSE, NONSENSE) };
        (answer < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap())
    }

    /// In a thread of its own, which the filter ends with: it binds no other.
    fn filtered<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
        let thread = thread::spawn(|| {
            assert_eq!(refuse(), Wish::Granted);
            act()
        });
        thread.join().unwrap()
    }

    #[test]
    fn every_call_of_the_list_is_refused_and_by_its_second_name_too() {
        let answers: Vec<_> = filtered(|| {
            let calls = REFUSED.iter().flat_map(|call| [*call, *call | 0x4000_0000]);
            calls.map(|call| (call, errno(call, [NONSENSE; 3]))).collect()
        });
        for (call, answer) in answers {
            assert_eq!(answer, Some(libc::EPERM), "call {call}");
        }
        // Without the filter the kernel has other reasons.
        for call in [
            libc::SYS_execve,
            libc::SYS_bpf,
            libc::SYS_pidfd_getfd,
            0x4000_0000 | libc::SYS_execve,
        ] {
            assert_ne!(errno(call, [NONSENSE; 3]), Some(libc::EPERM), "call {call}");
        }
    }

    #[test]
    fn limits_and_dumpability_can_be_read_and_not_set() {
        let core = libc::c_long::from(libc::RLIMIT_CORE);
        let [get, set] = [libc::PR_GET_DUMPABLE, libc::PR_SET_DUMPABLE].map(libc::c_long::from);
        let read = move || {
            [
                errno(libc::SYS_prlimit64, [0, core, 0]),
                errno(libc::SYS_prctl, [get, 0, 0]),
            ]
        };
        let write = move || {
            [
                errno(libc::SYS_prlimit64, [0, core, 1]),
                errno(libc::SYS_prctl, [set, 1, 0]),
            ]
        };
        let (reads, writes) = filtered(move || (read(), write()));
        // The room for the old limit is nonsense, which the kernel finds where the filter lets it look.
        assert_eq!(reads, [Some(libc::EFAULT), None]);
        assert_eq!(writes, [Some(libc::EPERM); 2]);
        assert_eq!(write(), [Some(libc::EFAULT), None], "without the filter");
    }

    #[test]
    fn what_the_product_calls_is_let_through() {
        let all_right = filtered(|| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(1).unwrap();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            std::net::TcpStream::connect(address).unwrap();
            thread::spawn(|| true).join().unwrap()
        });
        assert!(all_right);
    }
}
