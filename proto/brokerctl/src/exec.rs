//! `brokerctl exec`: a command that gets the token by its environment, and never by an argument.

mod child;
mod environment;

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use tokio::runtime::Runtime;

use crate::{broker::Broker, failure::Failure, held::Held, link::Link};

pub(crate) const EXAMPLES: &str = "\
Examples:
  brokerctl exec reporting -- dbt run
  brokerctl exec reporting --env DBT_ENV_SECRET_TOKEN -- dbt run     dbt hides variables with this prefix in its logs
  brokerctl exec reporting --file-env TOKEN_FILE -- java -jar service.jar

With --env the command takes this process's place: its process id, its signals and its exit code are its own. The token
serves until its end (about an hour); a command that logs in again after that should take --file-env: then brokerctl stays
beside it, keeps the file current, passes signals on and ends with the command's exit code.

Beside the token the command finds SNOWFLAKE_ACCOUNT, SNOWFLAKE_USER, SNOWFLAKE_HOST, SNOWFLAKE_PORT and
SNOWFLAKE_AUTHENTICATOR, and, unless you have set them, SNOWFLAKE_ROLE and SNOWFLAKE_WAREHOUSE: the grant's own settings.";

/// The variable that holds the token unless another is named.
const VARIABLE: &str = "SNOWFLAKE_TOKEN";

/// What `exec` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArguments {
    /// The grant, as `brokerctl whoami` names it
    #[arg(value_name = "NAME")]
    grant: String,
    /// The variable that holds the token [default: SNOWFLAKE_TOKEN, unless --file-env is given]
    #[arg(long, value_name = "VARIABLE", value_parser = environment::name)]
    env: Option<String>,
    /// The variable that names a file with the token, which is kept current while the command runs
    #[arg(long, value_name = "VARIABLE", value_parser = environment::name)]
    file_env: Option<String>,
    /// Where that file is made, in a folder of its own [default: XDG_RUNTIME_DIR or /dev/shm, if it is a tmpfs]
    #[arg(long, value_name = "FOLDER", requires = "file_env")]
    file_dir: Option<PathBuf>,
    /// Leave out the variables with account, user and so on
    #[arg(long)]
    no_settings: bool,
    /// The token must live at least this long, for example 20m
    #[arg(long, value_name = "TIME", value_parser = crate::link::duration, default_value = "0s")]
    min_ttl: Duration,
    /// The command with its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the command. It returns only when the command could not take this process's place, or has ended.
pub(crate) fn exec(runtime: &Runtime, link: &Link, arguments: &ExecArguments) -> Result<u8, Failure> {
    let Some((program, rest)) = arguments.command.split_first() else {
        return Err(Failure::Usage("no command is given; write it behind `--`".to_owned()));
    };
    let (held, settings) = runtime.block_on(ask(link, arguments))?;
    let mut command = Command::new(program);
    command.args(rest).envs(settings);
    let variable = match (&arguments.env, &arguments.file_env) {
        (Some(name), _) => Some(name.as_str()),
        (None, None) => Some(VARIABLE),
        (None, Some(_)) => None,
    };
    if let Some(name) = variable {
        command.env(name, held.text());
    }
    match &arguments.file_env {
        Some(name) => {
            let file = child::PrivateFile::new(arguments.file_dir.as_deref())?;
            command.env(name, file.path());
            let run = child::Run { link, grant: &arguments.grant, file: &file, program };
            runtime.block_on(run.until_its_end(command, held))
        }
        None => Err(not_started(program, command.exec())),
    }
}

async fn ask(link: &Link, arguments: &ExecArguments) -> Result<(Held, Vec<(&'static str, String)>), Failure> {
    let mut broker = Broker::connect(link).await?;
    let held = broker.token(&arguments.grant, arguments.min_ttl, None).await?;
    let settings = if arguments.no_settings { None } else { broker.settings(&arguments.grant).await? };
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let variables = settings.map(|settings| environment::variables(&settings, held.kind, set));
    Ok((held, variables.unwrap_or_default()))
}

/// Why a command could not be started. A folder in PATH that this user may not enter makes the system say "permission
/// denied" of a command that is nowhere.
pub(crate) fn not_started(program: &OsStr, source: io::Error) -> Failure {
    let bare = Path::new(program).components().count() == 1 && !program.as_encoded_bytes().contains(&b'/');
    let nowhere = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        !std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    };
    let program = program.into();
    if source.kind() == io::ErrorKind::PermissionDenied && bare && nowhere() {
        return Failure::Command { program, source: io::ErrorKind::NotFound.into() };
    }
    Failure::Command { program, source }
}

/// The exit code of a process, as a shell has it.
pub(crate) fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(70)
}
