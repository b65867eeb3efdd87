//! Child processes under a uid of their own, with their output in files.

use std::{
    ffi::OsStr,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Who a process runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The uid.
    pub uid: u32,
    /// The gid.
    pub gid: u32,
}

impl User {
    /// Whoever runs this very process.
    pub fn current() -> Self {
        Self { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw() }
    }

    /// Gives a file or folder to this user and sets its mode.
    pub fn own(self, path: &Path, mode: u32) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("chmod {}", path.display()))?;
        if self != Self::current() {
            std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
                .with_context(|| format!("chown {} to {}:{}", path.display(), self.uid, self.gid))?;
        }
        Ok(())
    }

    /// Makes a folder that belongs to this user.
    pub fn folder(self, path: &Path, mode: u32) -> Result<PathBuf> {
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        self.own(path, mode)?;
        Ok(path.to_owned())
    }

    /// Writes a file that belongs to this user.
    pub fn file(self, path: &Path, mode: u32, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        fs::write(path, content).with_context(|| format!("write {}", path.display()))?;
        self.own(path, mode)?;
        Ok(path.to_owned())
    }
}

/// A running child. It is killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// How a child ended.
#[derive(Debug)]
pub struct Ended {
    /// Its status.
    pub status: ExitStatus,
    /// All that it wrote to standard output.
    pub stdout: String,
    /// All that it wrote to standard error.
    pub stderr: String,
}

impl Ended {
    /// The exit code; None when a signal ended it.
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Both outputs, for messages and for searching.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Process {
    /// Starts `program` as `user` with an empty environment but for `environment` and PATH.
    /// Output goes to `NAME.out` and `NAME.err` in `logs`.
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: &[A],
        environment: &[(&str, String)],
        user: User,
        logs: &Path,
    ) -> Result<Self> {
        let (stdout, stderr) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.err")));
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            .current_dir("/");
        if user != User::current() {
            command.gid(user.gid).uid(user.uid);
        }
        let child = command.spawn().with_context(|| format!("start {name} ({})", program.display()))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The files that hold its output.
    pub fn logs(&self) -> Vec<PathBuf> {
        vec![self.stdout.clone(), self.stderr.clone()]
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), signal).with_context(|| format!("signal {}", self.name))
    }

    /// Waits for its end; kills it and fails when that takes longer than `patience`.
    pub async fn wait(mut self, patience: Duration) -> Result<Ended> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Ended { status, stdout: self.stdout(), stderr: self.stderr() });
            }
            if Instant::now() > deadline {
                drop(self.child.kill());
                bail!("{} did not end within {patience:?}; it said:\n{}", self.name, tail(&self.stderr()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks it to end, waits, and kills it if it does not.
    pub async fn stop(self, patience: Duration) -> Result<Ended> {
        // It may have ended already; then waiting tells how.
        drop(self.signal(Signal::SIGTERM));
        self.wait(patience).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Copies a program to where every user can reach it, unless it lies there already.
///
/// A process of its own does the copying: a file that this process had open for writing could still be open in a
/// child that another thread forked just then, and would be "busy" when it is to be executed.
pub fn copy_program(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        return Ok(());
    }
    let partial = to.with_extension("partial");
    let status = Command::new("cp").arg(from).arg(&partial).status().context("run cp")?;
    anyhow::ensure!(status.success(), "copy {} to {}: {status}", from.display(), to.display());
    fs::rename(&partial, to).with_context(|| format!("rename {}", partial.display()))
}

/// The last lines of a log.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Where a program of this workspace was built: beside the running one.
pub fn built(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let mut folder = own.parent().context("a program without a folder")?;
    if folder.ends_with("deps") {
        folder = folder.parent().context("a build folder without a parent")?;
    }
    let path = folder.join(name);
    anyhow::ensure!(path.is_file(), "{} is not built; run `make build` first", path.display());
    Ok(path)
}
