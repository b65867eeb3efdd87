//! `brokerctl watch`: a file that holds a valid token at every moment, for programs that read it when they connect.

pub(crate) mod place;

use std::{
    ffi::OsString,
    path::PathBuf,
    process::Stdio,
    time::{Duration, SystemTime},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use self::place::Place;
use crate::{
    broker::Broker,
    cli::say,
    failure::Failure,
    held::{Held, left},
    link::Link,
};

pub(crate) const EXAMPLES: &str = "\
Examples:
  brokerctl watch reporting --file /run/reports/token
  brokerctl watch reporting --file /run/reports/token --mode 0640 --group reports --remove-on-exit
  brokerctl watch reporting --file /run/reports/token -- systemctl reload reports

The file is replaced as a whole: a reader finds the old token or the new one, never a part. It holds the token and nothing
else, no newline. Its folder must belong to this user or root, and nobody else may write there; it is made (0700) if
only it itself is missing. SIGTERM ends the watch with exit code 0.";

/// The first pause after the broker could not be asked; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the command after a rewrite may take.
const AFTER: Duration = Duration::from_secs(60);

/// What `watch` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArguments {
    /// The grant, as `brokerctl whoami` names it
    #[arg(value_name = "NAME")]
    grant: String,
    /// The file to keep
    #[arg(long, value_name = "PATH")]
    file: PathBuf,
    /// The file's mode: 0600, 0400, 0640 or 0440
    #[arg(long, value_name = "MODE", value_parser = place::mode, default_value = "0600")]
    mode: u32,
    /// The group that the file is given to, for the modes that let a group read it
    #[arg(long, value_name = "GROUP", value_parser = place::group)]
    group: Option<nix::unistd::Gid>,
    /// Write the file once and end
    #[arg(long)]
    once: bool,
    /// Remove the file at the end
    #[arg(long)]
    remove_on_exit: bool,
    /// A command to run after each rewrite, without a shell; KEYFERRY_TOKEN_FILE names the file
    #[arg(last = true, value_name = "CMD")]
    after: Vec<OsString>,
}

/// Watches until SIGTERM (0) or SIGINT (130), or until nothing can come any more.
pub(crate) async fn watch(link: &Link, arguments: &WatchArguments) -> Result<u8, Failure> {
    let place = Place::new(&arguments.file, arguments.mode, arguments.group)?;
    place.check()?;
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut watcher = Watcher {
        link,
        grant: &arguments.grant,
        place: &place,
        after: &arguments.after,
        once: arguments.once,
        written: None,
    };
    let outcome = tokio::select! {
        outcome = watcher.keep() => outcome,
        _ = terminate.recv() => Ok(0),
        _ = interrupt.recv() => Ok(130),
    };
    if arguments.remove_on_exit {
        place.remove();
    }
    outcome
}

pub(crate) fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|source| Failure::System { attempted: "listen for signals", source })
}

/// Keeps one file.
pub(crate) struct Watcher<'a> {
    pub(crate) link: &'a Link,
    pub(crate) grant: &'a str,
    pub(crate) place: &'a Place,
    pub(crate) after: &'a [OsString],
    pub(crate) once: bool,
    pub(crate) written: Option<Written>,
}

/// What the file holds.
pub(crate) struct Written {
    pub(crate) generation: String,
    pub(crate) end: SystemTime,
}

impl Watcher<'_> {
    /// Ends with an exit code when one rewrite was wanted, and with a failure when trying again is of no use.
    pub(crate) async fn keep(&mut self) -> Result<u8, Failure> {
        let mut pause = FIRST_PAUSE;
        loop {
            let before = self.generation();
            let failure = match self.follow().await {
                Ok(code) => return Ok(code),
                Err(failure) => failure,
            };
            // A full disk may have room again; where a file was never written the place is wrong.
            let may_pass = matches!(failure, Failure::Place(_)) && self.written.is_some();
            if self.once || (failure.ends_a_watch() && !may_pass) {
                return Err(failure);
            }
            if self.generation() != before {
                pause = FIRST_PAUSE;
            }
            let wait = pause.mul_f64(0.5 + fastrand::f64());
            say(&format!("{failure}; {}; next try in {:.1} s", self.state(), wait.as_secs_f64()));
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn generation(&self) -> Option<String> {
        self.written.as_ref().map(|written| written.generation.clone())
    }

    fn state(&self) -> String {
        match &self.written {
            None => "no token is in the file yet".to_owned(),
            Some(written) if left(written.end).is_zero() => "the token in the file has ended".to_owned(),
            Some(written) => {
                format!("the token in the file serves for {}", humantime::format_duration(left(written.end)))
            }
        }
    }

    /// One connection: writes each token that comes.
    async fn follow(&mut self) -> Result<u8, Failure> {
        let mut link = self.link.clone();
        if !self.once {
            // Pauses and their jitter are made above.
            link.address.patience = Duration::ZERO;
        }
        let mut tokens = Broker::connect(&link).await?.watch(self.grant).await?;
        loop {
            let held = tokio::select! {
                held = tokens.next() => held?,
                () = ended(self.written.as_ref()) => {
                    say("the token in the file has ended and the broker has no newer one; its /health says why");
                    tokens.next().await?
                }
            };
            let same = self.written.as_ref().is_some_and(|written| written.generation == held.generation());
            if !(same && self.place.holds_a_file()) {
                let code = self.rewrite(&held).await?;
                if self.once {
                    return Ok(code);
                }
            }
        }
    }

    async fn rewrite(&mut self, held: &Held) -> Result<u8, Failure> {
        self.place.write(held.text())?;
        self.written =
            Some(Written { generation: held.generation().to_owned(), end: SystemTime::now() + held.left() });
        say(&format!(
            "{} holds a token until {} (generation {}, audit id {})",
            self.place.path().display(),
            held.expires(),
            held.generation(),
            held.audit_id
        ));
        let Some((program, arguments)) = self.after.split_first() else { return Ok(0) };
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .env("KEYFERRY_TOKEN_FILE", self.place.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let name = program.display();
        let status = match tokio::time::timeout(AFTER, command.status()).await {
            Ok(Ok(status)) => status,
            Ok(Err(source)) => return Err(crate::exec::not_started(program, source)),
            Err(_) => {
                say(&format!("{name} did not end within {} s and was killed", AFTER.as_secs()));
                return Ok(1);
            }
        };
        if !status.success() {
            say(&format!("{name} ended with {status}; the file holds the new token all the same"));
        }
        Ok(crate::exec::code(status))
    }
}

/// Waits for the end of the token in the file; for ever when there is none.
async fn ended(written: Option<&Written>) {
    match written.map(|written| left(written.end)) {
        Some(left) if !left.is_zero() => tokio::time::sleep(left + Duration::from_secs(1)).await,
        _ => std::future::pending().await,
    }
}
