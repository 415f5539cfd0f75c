//! The system calls that a replica's processes may make. A list of what is allowed, by purpose; what would change the
//! machine or widen the kernel's surface is refused as not permitted; what nobody here knows does not exist, so that
//! programs which try something newer fall back. 32-bit programs end at their first call.

use libcontainer::{
    oci_spec::runtime::{
        LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
        LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
    },
    seccomp::initialize_seccomp,
};

/// What is allowed whatever its arguments.
const ALLOWED: [(&str, &str); 12] = [
    (
        "files",
        "access faccessat faccessat2 open openat openat2 creat close close_range read write readv writev pread64 \
         pwrite64 preadv pwritev preadv2 pwritev2 lseek stat lstat fstat newfstatat statx statfs fstatfs getdents \
         getdents64 getcwd chdir fchdir mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat \
         symlink symlinkat readlink readlinkat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat truncate \
         ftruncate fallocate fadvise64 readahead utime utimes futimesat utimensat mknod mknodat umask dup dup2 dup3 \
         fcntl ioctl flock fsync fdatasync sync syncfs sync_file_range sendfile splice tee vmsplice copy_file_range \
         memfd_create memfd_secret name_to_handle_at cachestat",
    ),
    (
        "attributes of files",
        "getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr llistxattr flistxattr removexattr \
         lremovexattr fremovexattr",
    ),
    (
        "waiting",
        "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd \
         eventfd2 pipe pipe2 inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark io_setup \
         io_destroy io_submit io_cancel io_getevents io_pgetevents",
    ),
    (
        "processes",
        "fork vfork execve execveat exit exit_group wait4 waitid getpid getppid gettid getpgid getpgrp setpgid getsid \
         setsid prctl arch_prctl set_tid_address set_robust_list get_robust_list rseq set_thread_area \
         get_thread_area modify_ldt restart_syscall membarrier pidfd_open kcmp ptrace process_vm_readv \
         process_vm_writev process_mrelease",
    ),
    (
        "scheduling and limits",
        "sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam sched_getscheduler \
         sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_getattr \
         sched_setattr getpriority setpriority ioprio_get ioprio_set getrlimit setrlimit prlimit64 getrusage times \
         getcpu",
    ),
    (
        "signals",
        "kill tkill tgkill pidfd_send_signal rt_sigaction rt_sigprocmask rt_sigpending rt_sigqueueinfo \
         rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack signalfd signalfd4 pause alarm",
    ),
    (
        "who one is",
        "getuid getgid geteuid getegid getgroups setuid setgid setreuid setregid setresuid setresgid getresuid \
         getresgid setfsuid setfsgid setgroups capget capset",
    ),
    (
        "memory",
        "brk mmap munmap mprotect mremap msync mincore madvise process_madvise mlock mlock2 munlock mlockall munlockall \
         pkey_alloc pkey_free pkey_mprotect remap_file_pages mseal map_shadow_stack",
    ),
    (
        "time",
        "clock_gettime clock_getres clock_nanosleep gettimeofday time nanosleep getitimer setitimer timer_create \
         timer_settime timer_gettime timer_getoverrun timer_delete timerfd_create timerfd_settime timerfd_gettime \
         adjtimex",
    ),
    (
        "one with another",
        "futex futex_waitv futex_wake futex_wait futex_requeue semget semop semctl semtimedop shmget shmat shmdt shmctl \
         msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
    ),
    (
        "network",
        "socketpair bind listen accept accept4 connect getsockname getpeername sendto recvfrom sendmsg recvmsg sendmmsg \
         recvmmsg setsockopt getsockopt shutdown",
    ),
    (
        "what there is, and less of it",
        "uname sysinfo getrandom seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
];

/// What is refused as not permitted.
const REFUSED: [(&str, &str); 7] = [
    (
        "mounts and namespaces",
        "mount umount2 pivot_root chroot unshare setns fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr \
         statmount listmount sethostname setdomainname open_by_handle_at fanotify_init quotactl quotactl_fd",
    ),
    (
        "the kernel itself",
        "bpf perf_event_open userfaultfd kexec_load kexec_file_load init_module finit_module delete_module create_module \
         query_module get_kernel_syms reboot swapon swapoff acct syslog lookup_dcookie",
    ),
    ("keys, which belong to no namespace", "keyctl add_key request_key"),
    ("calls by a ring, which no list of calls sees", "io_uring_setup io_uring_enter io_uring_register"),
    ("the clock", "settimeofday clock_settime clock_adjtime"),
    (
        "hardware and placement",
        "ioperm iopl mbind set_mempolicy get_mempolicy set_mempolicy_home_node migrate_pages move_pages",
    ),
    (
        "others' files, and what nobody needs any more",
        "pidfd_getfd uselib ustat sysfs _sysctl vhangup nfsservctl",
    ),
];

/// New namespaces, of all kinds that this call can make.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// Local, IPv4, IPv6 and the kernel's own news of addresses and routes.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// Linux, its 32-bit flavours, and the question.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Has the calling process and those that it makes keep to the list from now on.
pub(super) fn load() -> Result<(), String> {
    let profile = profile().map_err(|error| error.to_string())?;
    initialize_seccomp(&profile).map(drop).map_err(|error| crate::error::chain(&error))
}

fn profile() -> Result<LinuxSeccomp, libcontainer::oci_spec::OciSpecError> {
    let (allow, errno) = (LinuxSeccompAction::ScmpActAllow, LinuxSeccompAction::ScmpActErrno);
    let mut rules = Vec::new();
    rules.push(rule(names(&ALLOWED), allow, None, None)?);
    rules.push(rule(names(&REFUSED), errno, Some(libc::EPERM), None)?);
    let one = |name: &str| vec![name.to_owned()];
    rules.push(rule(one("clone"), allow, None, Some(masked(NEW_NAMESPACES, 0)?))?);
    for family in FAMILIES {
        let family = u64::try_from(family).unwrap_or_default();
        rules.push(rule(one("socket"), allow, None, Some(masked(0xffff_ffff, family)?))?);
    }
    for persona in PERSONALITIES {
        rules.push(rule(one("personality"), allow, None, Some(masked(u64::MAX, persona)?))?);
    }
    LinuxSeccompBuilder::default()
        .default_action(errno)
        .default_errno_ret(libc::ENOSYS.unsigned_abs())
        .syscalls(rules)
        .build()
}

fn names(groups: &[(&str, &str)]) -> Vec<String> {
    groups.iter().flat_map(|(_, names)| names.split_whitespace()).map(str::to_owned).collect()
}

fn rule(
    names: Vec<String>,
    action: LinuxSeccompAction,
    errno: Option<i32>,
    argument: Option<LinuxSeccompArg>,
) -> Result<LinuxSyscall, libcontainer::oci_spec::OciSpecError> {
    let mut rule = LinuxSyscallBuilder::default().names(names).action(action);
    if let Some(errno) = errno {
        rule = rule.errno_ret(errno.unsigned_abs());
    }
    if let Some(argument) = argument {
        rule = rule.args(vec![argument]);
    }
    rule.build()
}

/// The first argument, under a mask.
fn masked(mask: u64, value: u64) -> Result<LinuxSeccompArg, libcontainer::oci_spec::OciSpecError> {
    LinuxSeccompArgBuilder::default()
        .index(0usize)
        // The library takes them the other way round than the specification has them.
        .value(value)
        .value_two(mask)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_call_is_in_one_list() {
        let (allowed, refused) = (names(&ALLOWED), names(&REFUSED));
        let special = ["clone", "socket", "personality"].map(String::from);
        let all: BTreeSet<_> = allowed.iter().chain(&refused).chain(&special).collect();
        assert_eq!(all.len(), allowed.len() + refused.len() + special.len(), "a call is named twice");
        assert!(!all.contains(&"clone3".to_owned()), "it must look as if it did not exist");
    }

    #[test]
    fn the_profile_can_be_built() {
        let profile = profile().expect("it can be built");
        assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActErrno);
        assert_eq!(profile.default_errno_ret(), Some(libc::ENOSYS.unsigned_abs()));
        let rules = profile.syscalls().clone().unwrap_or_default();
        assert_eq!(rules.len(), 3 + FAMILIES.len() + PERSONALITIES.len());
    }
}
