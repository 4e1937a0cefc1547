//! A set of servers that is started and stopped together.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Server;
use super::probe::probe;
use super::state::{self, Running};
use crate::process::{self, Identity};
use crate::tools::Tools;
use crate::{port, signals};

/// The longest a server may take from its start to its first answer. Two Java servers on a busy
/// machine with two cores need about twenty seconds.
const START: Duration = Duration::from_secs(120);
/// How long a server may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// How often a server that starts is asked.
const POLL: Duration = Duration::from_millis(100);
/// How much of a log an error shows.
const LOG_LINES: usize = 30;

/// How the folders of instances begin that end with a process.
const OWN: &str = "test-";
/// The file that says which process.
const OWNER: &str = "owner.json";

/// The servers whose state and logs are in one folder.
#[derive(Debug)]
pub(crate) struct Instance {
    folder: PathBuf,
}

/// A server that this process has just started.
struct Started {
    server: Server,
    child: Child,
    port: u16,
    since: Instant,
}

impl Instance {
    /// The one of `emulators up`, which stays until `emulators down`.
    pub(crate) fn shared(tools: &Tools) -> Self {
        Self {
            folder: tools.path("run"),
        }
    }

    /// One that ends with this process. Servers of processes that were killed before they could
    /// stop theirs are stopped first.
    ///
    /// # Errors
    ///
    /// When its folder cannot be written, or such a server cannot be stopped.
    pub(crate) fn own(tools: &Tools) -> Result<Self> {
        let _lock = tools.lock()?;
        Self::stop_abandoned(tools)?;
        let owner = Identity::of(std::process::id())?;
        let folder = tools.path("run").join(format!("{OWN}{}", owner.pid));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let path = folder.join(OWNER);
        fs::write(&path, serde_json::to_vec(&owner)?)
            .with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { folder })
    }

    /// Stops the servers whose owner has ended, and removes their folders. The lock is held.
    fn stop_abandoned(tools: &Tools) -> Result<()> {
        let run = tools.path("run");
        let Ok(entries) = fs::read_dir(&run) else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry.with_context(|| format!("reading {}", run.display()))?;
            if !entry.file_name().to_string_lossy().starts_with(OWN) {
                continue;
            }
            let instance = Self {
                folder: entry.path(),
            };
            if !instance.has_owner() {
                instance.stop_all()?;
                instance.remove()?;
            }
        }
        Ok(())
    }

    fn has_owner(&self) -> bool {
        let owner = fs::read(self.folder.join(OWNER)).ok();
        let owner = owner.and_then(|text| serde_json::from_slice::<Identity>(&text).ok());
        owner.is_some_and(|owner| owner.runs())
    }

    /// Stops the servers of an instance that [`own`](Self::own) made. Their logs are kept when
    /// something failed, until the next time.
    ///
    /// # Errors
    ///
    /// When a server cannot be stopped or a file cannot be removed.
    pub(crate) fn end(&self, tools: &Tools, passed: bool) -> Result<()> {
        self.down(tools)?;
        if passed {
            return self.remove();
        }
        say!("the servers' logs are in {}", self.folder.display());
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        fs::remove_dir_all(&self.folder)
            .with_context(|| format!("removing {}", self.folder.display()))
    }

    fn state(&self) -> PathBuf {
        self.folder.join("emulators.json")
    }

    fn log(&self, server: Server) -> PathBuf {
        self.folder.join(format!("{}.log", server.name()))
    }

    /// Installs and starts these servers and waits until each answers. One that runs already and
    /// answers is kept.
    ///
    /// # Errors
    ///
    /// When one cannot be installed or does not come to answer. Those that this call started are
    /// stopped again then.
    pub(crate) fn up(&self, tools: &Tools, wanted: &[Server]) -> Result<Vec<Running>> {
        let _lock = tools.lock()?;
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("creating {}", self.folder.display()))?;
        let mut running = state::read(&self.state())?;
        let mut started = Vec::new();
        let done = self.start(tools, wanted, &mut running, &mut started);
        if let Err(error) = done {
            for one in &started {
                if let Err(error) = self.stop(one.server.name(), &mut running) {
                    say!("warning: {error:#}");
                }
            }
            collect(started);
            return Err(error);
        }
        let is_wanted = |entry: &Running| wanted.iter().any(|server| server.name() == entry.name);
        running.retain(is_wanted);
        Ok(running)
    }

    fn start(
        &self,
        tools: &Tools,
        wanted: &[Server],
        running: &mut Vec<Running>,
        started: &mut Vec<Started>,
    ) -> Result<()> {
        // Everything is installed before anything is started, so that a missing tool leaves
        // nothing behind.
        let mut programs = Vec::new();
        for &server in wanted {
            programs.push((server, server.install(tools)?));
            signals::check()?;
        }
        for (server, program) in &programs {
            let server = *server;
            if let Some(entry) = running.iter().find(|entry| entry.name == server.name()) {
                let same = entry.process.runs() && entry.version == program.version();
                if same && probe(server, entry.port).is_ok() {
                    continue;
                }
                self.stop(server.name(), running)?;
            }
            let taken: Vec<u16> = running.iter().map(|entry| entry.port).collect();
            let port = port::free(&taken)?;
            let folder = self.folder.join(server.name());
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
            let log = self.log(server);
            let output =
                File::create(&log).with_context(|| format!("creating {}", log.display()))?;
            let mut command = program.command(port, &folder)?;
            command
                .current_dir(&folder)
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                // Ctrl-C in the terminal must not reach a server that is to stay, nor one that
                // tests still use while they end.
                .process_group(0);
            let child = if program.takes_one_core() {
                process::on_one_core(|| command.spawn())
            } else {
                command.spawn()
            };
            let child = child.with_context(|| format!("starting {}", server.name()))?;
            let pid = child.id();
            started.push(Started {
                server,
                child,
                port,
                since: Instant::now(),
            });
            let process = Identity::of(pid).with_context(|| {
                self.with_log(server, format!("{} ended at once", server.name()))
            })?;
            let mut entry = Running::new(server, program.version(), process, port);
            let further = program.environment().into_iter();
            entry
                .env
                .extend(further.map(|(name, value)| (name.to_owned(), value)));
            running.push(entry);
            // Written at once: what was started can be stopped even when this process is killed.
            state::write(&self.state(), running)?;
        }
        for one in started {
            self.wait(one)?;
            let seconds = one.since.elapsed().as_secs_f64();
            say!(
                "{} answers on port {} ({seconds:.1} s)",
                one.server.name(),
                one.port
            );
        }
        Ok(())
    }

    /// Waits until the server answers.
    fn wait(&self, one: &mut Started) -> Result<()> {
        let server = one.server;
        let deadline = one.since + START;
        loop {
            let answer = probe(server, one.port);
            // Looked at after the answer: only a server that runs now can have given it.
            if let Some(status) = one.child.try_wait()? {
                bail!(self.with_log(server, format!("{} ended ({status})", server.name())));
            }
            match answer {
                Ok(()) => return Ok(()),
                Err(error) if Instant::now() >= deadline => {
                    let seconds = START.as_secs();
                    let text = format!("{} does not answer after {seconds} s", server.name());
                    return Err(error.context(self.with_log(server, text)));
                }
                Err(_) => {
                    signals::check()?;
                    thread::sleep(POLL);
                }
            }
        }
    }

    fn with_log(&self, server: Server, text: String) -> String {
        let log = self.log(server);
        format!(
            "{text}; the end of {}:\n{}",
            log.display(),
            tail(&log, LOG_LINES)
        )
    }

    /// Stops every server of the instance.
    ///
    /// # Errors
    ///
    /// When one does not end; the others are stopped all the same.
    pub(crate) fn down(&self, tools: &Tools) -> Result<()> {
        let _lock = tools.lock()?;
        self.stop_all()
    }

    /// Stops every server. The lock is held.
    fn stop_all(&self) -> Result<()> {
        let mut running = state::read(&self.state())?;
        let names: Vec<String> = running.iter().map(|entry| entry.name.clone()).collect();
        let mut failed = None;
        for name in names {
            match self.stop(&name, &mut running) {
                Ok(()) => say!("{name} is stopped"),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// Stops one server and takes it off the list.
    fn stop(&self, name: &str, running: &mut Vec<Running>) -> Result<()> {
        if let Some(index) = running.iter().position(|entry| entry.name == name) {
            running[index]
                .process
                .stop(GRACE)
                .with_context(|| format!("stopping {name}"))?;
            running.remove(index);
            state::write(&self.state(), running)?;
        }
        Ok(())
    }

    /// A line about the server, and whether it runs and answers.
    ///
    /// # Errors
    ///
    /// When the list of what runs cannot be read.
    pub(crate) fn status(&self, server: Server) -> Result<(String, bool)> {
        let running = state::read(&self.state())?;
        let name = server.name();
        let Some(entry) = running.iter().find(|entry| entry.name == name) else {
            return Ok((format!("{name:10} not started"), false));
        };
        let (port, pid) = (entry.port, entry.process.pid);
        if !entry.process.runs() {
            let log = self.log(server);
            return Ok((format!("{name:10} has ended, see {}", log.display()), false));
        }
        Ok(match probe(server, port) {
            Ok(()) => (
                format!("{name:10} answers on port {port} (process {pid})"),
                true,
            ),
            Err(error) => (
                format!("{name:10} runs (process {pid}) but does not answer: {error:#}"),
                false,
            ),
        })
    }
}

/// Collects children that have ended, so that they do not stay in the process table.
fn collect(started: Vec<Started>) {
    for mut one in started {
        if let Err(error) = one.child.try_wait() {
            say!("warning: collecting {}: {error}", one.server.name());
        }
    }
}

/// The last lines of a file.
fn tail(path: &Path, lines: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    if all.is_empty() {
        return "(it is empty)".to_owned();
    }
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("log");
        fs::write(&path, "one\ntwo\nthree\n").expect("written");
        assert_eq!(tail(&path, 2), "two\nthree");
        assert_eq!(tail(&path, 9), "one\ntwo\nthree");
        assert_eq!(tail(&folder.path().join("missing"), 2), "(it is empty)");
    }
}
