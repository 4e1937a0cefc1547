//! Processes: those that are waited for, and those that outlive the command that started them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

use crate::signals;

/// How often a process is looked at while its end is awaited.
const POLL: Duration = Duration::from_millis(20);

/// How long a command that is waited for may take to end after a signal.
const GRACE: Duration = Duration::from_secs(10);

/// Starts a command that [`wait`] can end together with all that it starts itself: Ctrl-C in the
/// terminal reaches only this program, which passes it on.
///
/// # Errors
///
/// When the command cannot be started.
pub(crate) fn start(command: &mut Command) -> Result<Child> {
    Ok(command.process_group(0).spawn()?)
}

/// Waits until a command that [`start`] started ends. When a signal asks this program to end, the
/// command and what it started are ended.
///
/// # Errors
///
/// When a signal came.
pub(crate) fn wait(child: &mut Child) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            signals::check()?;
            return Ok(status);
        }
        if signals::received() {
            end_group(child)?;
            signals::check()?;
        }
        thread::sleep(POLL);
    }
}

/// Calls `start` on one of the cores that this thread may use: what it starts stays there. Where the
/// system is not Linux, or does not tell the cores, on all of them.
pub(crate) fn on_one_core<T>(start: impl FnOnce() -> T) -> T {
    #[cfg(target_os = "linux")]
    let all = one_core();
    let started = start();
    #[cfg(target_os = "linux")]
    if let Some(all) = all {
        // It was so before.
        let _ = sched_setaffinity(None, &all);
    }
    started
}

/// Leaves this thread one of its cores. Returns those that it had.
#[cfg(target_os = "linux")]
fn one_core() -> Option<CpuSet> {
    let all = sched_getaffinity(None).ok()?;
    let mut one = CpuSet::new();
    one.set((0..CpuSet::MAX_CPU).find(|core| all.is_set(*core))?);
    sched_setaffinity(None, &one).ok()?;
    Some(all)
}

/// Ends the child and every process of its group.
fn end_group(child: &mut Child) -> Result<()> {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.with_context(|| format!("{} is not a process number", child.id()))?;
    kill_process_group(group, Signal::TERM).context("ending the command")?;
    let deadline = Instant::now() + GRACE;
    let mut ended = false;
    // The child may end before what it started does, so the group is asked after.
    while Instant::now() < deadline {
        ended = ended || child.try_wait()?.is_some();
        if ended && rustix::process::test_kill_process_group(group).is_err() {
            return Ok(());
        }
        thread::sleep(POLL);
    }
    if kill_process_group(group, Signal::KILL).is_ok() && !ended {
        child.wait()?;
    }
    Ok(())
}

/// A process that can be told from a later one that was given the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// The process's number.
    pub(crate) pid: u32,
    /// When it was started, in the system's own terms.
    started: String,
}

impl Identity {
    /// The process that has this number now.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let started = started(pid).with_context(|| format!("process {pid} does not run"))?;
        Ok(Self { pid, started })
    }

    /// Whether that very process still runs. One that has ended and was not yet collected by its
    /// parent does not.
    pub(crate) fn runs(&self) -> bool {
        started(self.pid).is_some_and(|now| now == self.started)
    }

    /// Asks the process to end, and makes it end when it has not after `grace`. Does nothing when
    /// it has ended already, also when its number now belongs to another process.
    ///
    /// # Errors
    ///
    /// When the system refuses the signal, or the process is there even after SIGKILL.
    pub(crate) fn stop(&self, grace: Duration) -> Result<()> {
        for (signal, patience) in [
            (Signal::TERM, grace),
            (Signal::KILL, Duration::from_secs(10)),
        ] {
            if !self.runs() {
                return Ok(());
            }
            self.send(signal)?;
            let deadline = Instant::now() + patience;
            while self.runs() && Instant::now() < deadline {
                thread::sleep(POLL);
            }
        }
        if self.runs() {
            bail!("process {} still runs after SIGKILL", self.pid);
        }
        Ok(())
    }

    fn send(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{} is not a process number", self.pid))?;
        match kill_process(pid, signal) {
            // It ended between the look and the signal.
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => sent.with_context(|| format!("sending {signal:?} to process {}", self.pid)),
        }
    }
}

/// When the process with this number was started, `None` when there is none or it has ended.
fn started(pid: u32) -> Option<String> {
    if Path::new("/proc/self/stat").exists() {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let ticks = start_ticks(&stat)?;
        // The ticks count from the machine's start, so they mean nothing after the next one.
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        return Some(format!("{}:{ticks}", boot.trim()));
    }
    let pid = pid.to_string();
    let output = Command::new("ps")
        .args(["-o", "stat=,lstart=", "-p", &pid])
        .output()
        .ok()?;
    start_from_ps(&String::from_utf8_lossy(&output.stdout))
}

/// The start time in a line of `/proc/PID/stat`, `None` for a process that has ended (state Z or
/// X) or text of another form.
fn start_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses and may itself hold spaces and
    // parentheses; the fields after it are counted from the last one.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // `state` is field 3 and the start time field 22.
    fields.nth(18)?.parse().ok()
}

/// The start time in the output of `ps -o stat=,lstart=`, `None` for a process that has ended.
fn start_from_ps(output: &str) -> Option<String> {
    let (state, start) = output.trim().split_once(char::is_whitespace)?;
    (!state.starts_with('Z')).then(|| start.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Stdio;

    use super::*;

    fn stat(state: &str) -> String {
        format!("42 (a (b) c) {state} 1 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3")
    }

    #[test]
    fn the_start_time_is_found_behind_a_name_with_parentheses() {
        assert_eq!(start_ticks(&stat("S")), Some(987_654));
    }

    #[test]
    fn an_ended_process_has_no_start_time() {
        assert_eq!(start_ticks(&stat("Z")), None);
        assert_eq!(start_ticks(""), None);
        assert_eq!(start_from_ps("Z+   Mon Jan  5 10:00:00 2026\n"), None);
        assert_eq!(start_from_ps(""), None);
    }

    #[test]
    fn ps_gives_the_start_time_behind_the_state() {
        let start = start_from_ps("Ss   Mon Jan  5 10:00:00 2026\n");
        assert_eq!(start.as_deref(), Some("Mon Jan  5 10:00:00 2026"));
    }

    #[test]
    fn a_running_process_is_itself() {
        let identity = Identity::of(std::process::id()).expect("this process runs");
        assert!(identity.runs());
    }

    #[test]
    fn another_process_with_the_same_number_is_not_the_same_and_is_left_alone() {
        let mut child = Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep starts");
        let real = Identity::of(child.id()).expect("it runs");
        let earlier = Identity {
            pid: child.id(),
            started: "an earlier time".to_owned(),
        };
        assert!(!earlier.runs());
        earlier
            .stop(Duration::from_secs(5))
            .expect("nothing to stop");
        assert!(real.runs(), "a stranger was ended");
        child.kill().expect("sleep ends");
        child.wait().expect("sleep is collected");
    }

    #[test]
    fn a_process_that_ended_but_was_not_collected_does_not_run() {
        let mut child = Command::new("sleep")
            .arg("600")
            .spawn()
            .expect("sleep starts");
        let identity = Identity::of(child.id()).expect("it runs");
        identity.stop(Duration::from_secs(10)).expect("it ends");
        assert!(!identity.runs());
        child.wait().expect("sleep is collected");
    }

    #[test]
    fn a_process_that_ignores_sigterm_is_killed_after_the_grace() {
        let mut child = Command::new("sh")
            .args([
                "-c",
                "trap '' TERM; echo ready; for i in 1 2 3 4 5 6 7 8 9; do sleep 3; done",
            ])
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        let mut output = child.stdout.take().expect("a pipe");
        let mut ready = [0; 6];
        std::io::Read::read_exact(&mut output, &mut ready).expect("the trap is set");
        let identity = Identity::of(child.id()).expect("it runs");
        identity.stop(Duration::from_millis(100)).expect("it ends");
        assert!(!identity.runs());
        child.wait().expect("sh is collected");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_started_on_one_core_stays_there_and_this_thread_keeps_all() {
        let before = sched_getaffinity(None).expect("the cores");
        let output = on_one_core(|| {
            let mut command = Command::new("grep");
            command.args(["Cpus_allowed_list", "/proc/self/status"]);
            command.output().expect("grep")
        });
        let list = String::from_utf8(output.stdout).expect("text");
        let list = list.split_whitespace().next_back().expect("the cores");
        assert!(list.parse::<usize>().is_ok(), "{list}");
        assert!(before == sched_getaffinity(None).expect("the cores"));
    }
}
