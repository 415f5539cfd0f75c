//! The replica's first process: it runs the program as its child, passes signals on to it, buries whom nobody else does,
//! and ends with it, which ends everything in the replica. It cannot be looked into, and dies with its shim.

use std::{
    ffi::CString,
    os::fd::{AsRawFd, BorrowedFd, RawFd},
    rc::Rc,
};

use libcontainer::{
    oci_spec::runtime::Spec,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use nix::{
    errno::Errno,
    sys::{
        signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, execve, fork, setsid},
};

use super::{
    failure::{Failure, Result},
    seccomp,
};
use crate::embedded::task::Task;

/// What the first process does, and what a command that is run beside it does.
#[derive(Clone)]
pub(super) struct Init {
    args: Rc<Vec<CString>>,
    env: Rc<Vec<CString>>,
    /// Where to say that the program cannot be run; `None`: there is no child, this process becomes the program.
    notice: Option<RawFd>,
}

impl Init {
    /// Runs the task's program as a child.
    pub(super) fn new(task: &Task, env: Vec<String>, notice: BorrowedFd<'_>) -> Result<Self> {
        Ok(Self { notice: Some(notice.as_raw_fd()), ..Self::becoming(&task.args, env)? })
    }

    /// Becomes the program.
    pub(super) fn becoming(args: &[String], env: Vec<String>) -> Result<Self> {
        let text = |text: String| {
            CString::new(text)
                .map_err(|_| Failure::permanent("a zero byte in the command or the environment"))
        };
        let args = args.iter().cloned().map(text).collect::<Result<Vec<_>>>()?;
        let env = env.into_iter().map(text).collect::<Result<Vec<_>>>()?;
        Ok(Self { args: Rc::new(args), env: Rc::new(env), notice: None })
    }
}

impl Executor for Init {
    fn exec(&self, _: &Spec) -> std::result::Result<(), ExecutorError> {
        seccomp::load().map_err(ExecutorError::Other)?;
        match self.notice {
            Some(notice) => self.first(notice),
            None => {
                let (code, words) = self.run();
                eprintln!("{words}");
                std::process::exit(code)
            }
        }
    }

    /// The last step before the process waits to be let go; by then it is who it will be.
    fn validate(&self, _: &Spec) -> std::result::Result<(), ExecutorValidationError> {
        let told = |error: Errno| ExecutorValidationError::ArgValidationError(error.to_string());
        // Not dumpable: neither its memory nor its program, which is the shim's, can be reached from the replica.
        nix::sys::prctl::set_dumpable(false).map_err(told)?;
        // A change of user undoes this, so it comes after that. A shim that has died before is noticed by the next step.
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(told)
    }

    /// The program gets its environment when it is run; this process needs none.
    fn setup_envs(
        &self,
        _: std::collections::HashMap<String, String>,
    ) -> std::result::Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

impl Init {
    fn first(&self, notice: RawFd) -> std::result::Result<(), ExecutorError> {
        let told = |error: Errno| ExecutorError::Other(error.to_string());
        let all = SigSet::all();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&all), None).map_err(told)?;
        match split().map_err(told)? {
            ForkResult::Child => {
                // What the program sends to its group is not for this process's parent.
                setsid().ok();
                let (code, words) = self.run();
                nix::unistd::write(borrowed(notice), words.as_bytes()).ok();
                std::process::exit(code)
            }
            ForkResult::Parent { child } => {
                nix::sys::prctl::set_name(c"tidegate-init").ok();
                nix::unistd::close(notice).ok();
                std::process::exit(stand_by(child, &all))
            }
        }
    }

    /// Becomes the program; returns only if that cannot be done, with the exit code that says so and with words.
    fn run(&self) -> (i32, String) {
        defaults();
        // The shim does without huge pages, which is no business of the program's.
        nix::sys::prctl::set_thp_disable(false).ok();
        let mut last = Errno::ENOENT;
        for candidate in self.candidates() {
            match execve(&candidate, &self.args, &self.env) {
                // Another folder may have it.
                Err(error @ (Errno::ENOENT | Errno::ENOTDIR)) if last == Errno::ENOENT => last = error,
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(error @ Errno::EACCES) => last = error,
                Err(error) => {
                    last = error;
                    break;
                }
                Ok(never) => match never {},
            }
        }
        let name = self.args.first().map(|name| name.to_string_lossy()).unwrap_or_default();
        let code = if matches!(last, Errno::ENOENT | Errno::ENOTDIR) { 127 } else { 126 };
        (code, format!("exec {name}: {}", last.desc().to_lowercase()))
    }

    /// Where the program may be: in the folders of its own PATH, unless it is named by its path.
    fn candidates(&self) -> Vec<CString> {
        let Some(name) = self.args.first() else { return Vec::new() };
        if name.as_bytes().contains(&b'/') || name.is_empty() {
            return vec![name.clone()];
        }
        let path = self.env.iter().rev().find_map(|pair| pair.as_bytes().strip_prefix(b"PATH="));
        let folders = path.unwrap_or_default().split(|byte| *byte == b':');
        let joined = folders.map(|folder| {
            let folder: &[u8] = if folder.is_empty() { b"." } else { folder };
            CString::new([folder, b"/", name.as_bytes()].concat()).unwrap_or_default()
        });
        joined.collect()
    }
}

/// Passes on what comes until the child has ended; its exit code.
fn stand_by(child: Pid, signals: &SigSet) -> i32 {
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = bury(child) {
                    return code;
                }
            }
            // It may have ended in this moment.
            Ok(signal) => drop(kill(child, signal)),
            Err(_) => {}
        }
    }
}

/// Buries all who have ended; the child's exit code if it is among them.
fn bury(child: Pid) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Some(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// What a program may expect of its signals.
#[expect(unsafe_code, reason = "no handler is installed, only taken away")]
fn defaults() {
    // SAFETY: the default action has no code of this program's.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.ok();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).ok();
}

#[expect(unsafe_code, reason = "there is one thread")]
fn split() -> nix::Result<ForkResult> {
    // SAFETY: with one thread the child may do anything.
    unsafe { fork() }
}

#[expect(unsafe_code, reason = "a number that crossed a fork")]
fn borrowed(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the pipe is opened by the shim before the fork and never closed in this process.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_their_own_path() {
        for (name, env, expected) in [
            ("/bin/x", vec!["PATH=/a"], vec!["/bin/x"]),
            ("./x", vec![], vec!["./x"]),
            ("x", vec!["PATH=/a:/b"], vec!["/a/x", "/b/x"]),
            ("x", vec!["PATH=/a", "PATH=/c"], vec!["/c/x"]),
            ("x", vec!["PATH=:/b"], vec!["./x", "/b/x"]),
            ("", vec!["PATH=/a"], vec![""]),
        ] {
            let env = env.into_iter().map(String::from).collect();
            let init = Init::becoming(&[name.to_owned()], env).expect("no zero bytes");
            let found = init.candidates();
            let found: Vec<_> = found.iter().map(|path| path.to_str().expect("text")).collect();
            assert_eq!(found, expected, "{name}");
        }
        assert!(Init::becoming(&["a\0b".to_owned()], vec![]).is_err());
    }
}
