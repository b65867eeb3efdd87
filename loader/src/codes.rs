//! The loader's error codes: what happened, where, and what to do. `docs/errors.md` is made from this table.
//!
//! The first digit is the area: 1 the command and its file, 2 the broker, 3 the connection to SQL Server, 4 the plan,
//! 5 values, 6 Snowflake, 7 files and stage, 8 ledger, commit and publication, 9 the process itself.

mod of;

use keyferry_proto::catalogue;

pub use keyferry_proto::catalogue::Entry;

catalogue! {
    PIPELINE_UNREADABLE = "L101", 66, "the pipeline file cannot be read", "the path and what the system said",
        "check the path and whether the loader's user may read it";
    PIPELINE_INVALID = "L102", 78, "the pipeline file is not as it must be", "file, line, column and the key that was meant",
        "correct that place; docs/configuration.md has every key";
    SHARD = "L103", 78, "`--shard` or the Job's variables do not say which part of the run this is", "the text that was found",
        "write INDEX/COUNT, or give the pods JOB_COMPLETION_INDEX and JOB_COMPLETION_COUNT";
    NO_HOST = "L104", 78, "nothing names the SQL Server", "the grant whose settings have no host",
        "write `source.host`, or let the broker's grant name its `host_key`";
    PORT_CLOSED = "L105", 78, "the grant names a port of SQL Server that the sandbox closed", "the port",
        "list it under `sandbox.connect_ports`, or write `source.port`";
    METRICS_FILE = "L106", 73, "the file of `--metrics-file` cannot be opened", "what the system said",
        "give the loader's user its folder";

    BROKER_UNREACHABLE = "L201", 69, "the broker's socket cannot be reached", "the socket's path",
        "start the broker; in a pod, mount the socket's folder into this container";
    BROKER_WRONG_SERVER = "L202", 77, "somebody else than the broker serves the socket; nothing was sent", "the socket, the uid found and the uid expected",
        "correct `broker.server_uid`, or find out who replaced the socket";
    BROKER_NO_GRPC = "L203", 69, "what answers at the socket is not a broker", "the socket's path",
        "point `broker.socket` at the broker's socket";
    GRANT_DENIED = "L204", 77, "the broker's policy does not allow this grant", "the grant, and the broker's own code (B2..)",
        "ask for it in the broker's `policy`, or correct `grant` or `pipeline`";
    GRANT_REFUSED = "L205", 77, "an upstream refused the broker", "the grant, the upstream and its own code, and the broker's code (B3..)",
        "mend what the message names; trying again does not help";
    GRANT_UNAVAILABLE = "L206", 69, "the broker or one of its upstreams is down", "the grant and the upstream",
        "run again when the broker's /health says ok";
    GRANT_LIMITED = "L207", 75, "the broker's limits for this uid are reached", "the limit",
        "lower `limits.connections` or `limits.committers`, or run fewer loaders under this uid";
    GRANT_INVALID = "L208", 78, "the broker cannot make sense of the request", "the field",
        "correct the pipeline file";
    GRANT_PROTOCOL = "L209", 70, "the broker's answer makes no sense", "the call",
        "use a broker and a loader of the same version";

    SQLSERVER_UNREACHABLE = "L301", 69, "SQL Server cannot be connected to", "host and port",
        "check `source.host`, `source.port` and the network policy";
    SQLSERVER_BROKE = "L302", 69, "the connection to SQL Server broke, too often for `limits.patience_seconds`", "what was going on",
        "look at the network and the server, then run again";
    SQLSERVER_CLOSED = "L303", 69, "SQL Server closed the connection", "what was going on",
        "look into the server's error log, then run again";
    SQLSERVER_SILENT = "L304", 69, "SQL Server did not answer in time", "what was going on, and for how long",
        "look for blocking sessions; `source.silence_seconds` says how long silence may be";
    SQLSERVER_TLS = "L305", 69, "no TLS with SQL Server; nothing was sent in clear instead", "the host and what is wrong with its certificate or protocol",
        "set `source.ca_file` or `source.certificate_sha256`, or mend the certificate as the message says";
    SQLSERVER_ENCRYPTION = "L306", 78, "the server wants another encryption than the file allows", "what either side wants",
        "choose another `source.encrypt`, or change the server's setting";
    KERBEROS_REFUSED = "L307", 77, "the Kerberos login was refused", "the broker's or the server's reason",
        "check the SPN of the grant, the server's service account and the keytab";
    KERBEROS_UNAVAILABLE = "L308", 69, "the Kerberos login could not be made now", "the broker's reason",
        "run again when the broker's /health says ok";
    SQLSERVER_NOT_MUTUAL = "L309", 77, "SQL Server did not prove who it is", "the connection",
        "check that the grant's SPN belongs to the server's service account";
    SQLSERVER_PERMISSION = "L310", 77, "SQL Server does not let this login do that", "SQL Server's number and sentence (229, 262, 297, 300, 4060, 18452, 18456 and the like)",
        "grant what the sentence names; `loader plan` prints the privileges that are needed";
    SQLSERVER_PASSING = "L311", 75, "SQL Server reports a failure that passes, too often for `limits.patience_seconds`", "SQL Server's number and sentence (1205, 1222, 40501, 49918 and the like)",
        "run again";
    SNAPSHOT_OFF = "L312", 78, "the database allows no SNAPSHOT transactions (3952)", "the database",
        "ALTER DATABASE ... SET ALLOW_SNAPSHOT_ISOLATION ON, or `consistency: read_committed`";
    TABLE_CHANGED = "L313", 75, "a table's definition changed after it was planned (207, 3961)", "SQL Server's number and sentence",
        "run again: it plans anew";
    SQLSERVER_ERROR = "L314", 65, "SQL Server reports an error of the statement", "SQL Server's number, severity, state and sentence",
        "look the number up; if the statement itself is wrong, report it";
    SQLSERVER_PROTOCOL = "L315", 70, "SQL Server's bytes do not follow MS-TDS, or exceed a bound", "what was read",
        "look for a proxy in between; if there is none, report it";
    RESULT_CHANGED = "L316", 75, "the result set is not the one that was planned", "the column",
        "run again: it plans anew";
    CONNECTION_SPENT = "L317", 70, "a connection was used after it had failed", "the connection",
        "report it";
    NO_POINT_IN_TIME = "L318", 75, "one point in time for all connections was not reached", "how often it was tried, and what it met",
        "run when writers are done, name a `database_snapshot`, or use `consistency: per_chunk`";

    NO_TABLE = "L401", 66, "the table does not exist, or the login may not see it", "the table, the database and names that are near",
        "correct `tables`, or grant VIEW DEFINITION";
    NOT_A_TABLE = "L402", 78, "the name is not a table's", "what it is",
        "name the tables under it";
    TABLE_UNREADABLE = "L403", 77, "the login may not read the table", "the table",
        "run the GRANT SELECT that the message prints";
    CATALOG_ANSWER = "L404", 70, "the catalog's answer cannot be read", "the question",
        "report it, with the server's version";
    NO_SNAPSHOT_ISOLATION = "L405", 78, "the database does not allow snapshot isolation", "the database",
        "run the ALTER DATABASE that the message prints, or `consistency: read_committed`";
    NO_HASHES = "L406", 78, "the server is too old for `hashes`", "its version",
        "use `verify: sums`";
    NOT_A_SNAPSHOT = "L407", 78, "`database_snapshot` names something else", "the name and what it is",
        "let an administrator make the snapshot as the message prints it";
    COLUMNS = "L408", 65, "columns cannot be carried exactly", "each column with its type, and the line of the pipeline file",
        "exclude the column, or wait for its type";
    TOO_MANY_CHUNKS = "L409", 78, "the table would be cut into too many chunks", "the table and the count",
        "raise `limits.chunk_mib` or `limits.chunk_rows`";
    MEMORY = "L410", 78, "`limits.memory_mib` cannot hold the widest row", "the table, the column and what is needed",
        "raise `limits.memory_mib`, lower `limits.value_mib`, or exclude the column";

    VALUE = "L501", 65, "a value cannot be carried as it is", "table, chunk, key range, column and row",
        "correct the value at the source, or exclude the column";
    WITNESS_SHAPE = "L502", 70, "a batch is not what the plan says", "the column",
        "report it";
    WITNESS_NUMBER = "L503", 65, "a sum cannot be read", "where it came from",
        "report it, with the server's version";
    WITNESS_STORED = "L504", 65, "the ledger's sums belong to other columns", "what does not fit",
        "give the run up (DELETE FROM the ledger WHERE RUN_ID = the one that `loader status` names), and run again";
    MISMATCH = "L505", 65, "source and target are not the same", "table, chunk, the smallest key range that differs, and each difference",
        "the target was not published; look at that range on both sides";

    SNOWFLAKE_REFUSED = "L601", 65, "Snowflake refused a statement", "the statement, Snowflake's code and sentence, the query id",
        "mend what the sentence names";
    SNOWFLAKE_PRIVILEGE = "L602", 77, "an object does not exist or the role may not use it", "the object, the role and the statement",
        "run, as its owner, the GRANT that the message prints";
    SNOWFLAKE_UNKNOWN = "L603", 75, "a reply was lost, and whether the statement took effect is unknown", "the statement",
        "run again: the ledger decides";
    SNOWFLAKE_EXPIRED = "L604", 75, "the Snowflake session is over", "the session and the statement",
        "run again";
    SNOWFLAKE_UNREACHABLE = "L605", 69, "Snowflake cannot be reached", "the host and the statement",
        "check network, proxy and `target.ca_file`";
    SNOWFLAKE_SPENT = "L606", 75, "a session was given up after a lost statement", "the session",
        "run again";
    SNOWFLAKE_ANSWER = "L607", 70, "Snowflake's answer makes no sense", "the statement",
        "look for a proxy in between; if there is none, report it";
    SNOWFLAKE_PART = "L608", 75, "a part of an answer could not be fetched from cloud storage", "the statement",
        "check that the stage's hosts can be reached, and run again";
    SNOWFLAKE_SETUP = "L609", 78, "the connection to Snowflake cannot be set up as configured", "the setting",
        "correct it";
    SNOWFLAKE_PASSING = "L610", 75, "Snowflake reports a failure that passes, too often for `limits.patience_seconds`", "the statement, Snowflake's code and sentence",
        "run again";

    SPOOL_FULL = "L701", 75, "the spool directory is full", "the directory, what is free and what is needed",
        "free space, lower `limits.file_mib` or `limits.connections`, or set `limits.spool_dir`";
    SPOOL = "L702", 75, "the spool directory cannot be used", "the directory and what the system said",
        "let `limits.spool_dir` name a writable directory";
    PARQUET = "L703", 70, "a batch cannot be written as Parquet", "what the encoder said",
        "report it";
    STAGE_REPLY = "L704", 69, "Snowflake's answer to PUT cannot be used", "what is missing",
        "report it, with the cloud and region of the account";
    STAGE_NOT_CARRIED = "L705", 78, "the stage is of a kind that is not carried yet", "the kind",
        "use an internal stage of an account on AWS";
    STAGE_ENDPOINT = "L706", 78, "the stage points to a host that it must not; nothing was sent", "the host",
        "if it is meant, list it under `target.stage_endpoint_allow`";
    STAGE_EXPIRED = "L707", 69, "the stage's credentials expired, again and again", "the file",
        "check this machine's clock and the speed of the network";
    STAGE_REFUSED = "L708", 69, "the stage's storage refused a file", "file, host and the storage's code",
        "check that nothing in between changes requests";
    STAGE_UNREACHABLE = "L709", 69, "the stage's storage cannot be reached", "file and host",
        "check the network; nothing was committed";
    STAGE_SPOOL = "L710", 69, "a spooled file cannot be read", "the file and what the system said",
        "look at the disk of `limits.spool_dir`";

    LEDGER_LOCK_ROW = "L801", 65, "the ledger's lock row is missing or doubled", "the ledger's table",
        "restore the table from Time Travel, or drop it if no run is open";
    LEDGER_SCHEMA = "L802", 78, "an open run was planned for another shape of the table", "the run",
        "undo the change, or give the run up with the statement that the message prints";
    LEDGER_ORIGIN = "L803", 78, "an open run reads from another place", "the run and both places",
        "point `source` back, or give the run up with the statement that the message prints";
    LEDGER_GUARD = "L804", 75, "another loader changed the run meanwhile", "the statement and the rows that it touched",
        "look at `loader status`, and run again";
    LEDGER_CORRUPT = "L805", 65, "the ledger holds what no loader of this version writes", "what was found",
        "use the version that wrote it, or restore the table from Time Travel";
    LEDGER_NO_CHUNKS = "L806", 70, "a plan has no chunks", "the table",
        "report it";
    LOWER_LEVEL = "L807", 78, "an open run was begun at a lower level of verification", "the run and its first chunk without digests",
        "run at the lower level, or give the run up with the statement that the message prints";
    CLAIM_LOST = "L808", 75, "another loader took the chunk over; what this one did was rolled back", "chunk, table and the other loader",
        "wait for it (`loader status`), or give each process a --shard of its own";
    COPY_COUNTS = "L809", 65, "COPY loaded something else than was staged; rolled back", "chunk, key range and both counts",
        "look at the file in the stage and at COPY's errors";
    CHUNK_BUSY = "L810", 75, "another loader holds a chunk of this table", "the table, the chunk, who holds it and until when",
        "wait for it, or see `loader status`";
    NOT_VERIFIED = "L811", 65, "not every chunk is verified, so nothing is published", "the table and the states of its chunks",
        "run again";
    PUBLISHED_ROWS = "L812", 65, "the staging table does not hold what the ledger says; rolled back", "both counts",
        "look for a row access policy on the staging table that hides rows from this role";
    TARGET_SHAPE = "L813", 78, "the target table exists and does not fit", "the column and what is wrong with it",
        "change the target as the message says";

    INTERRUPTED = "L901", 130, "the run was interrupted", "-",
        "run again: it continues";
    LOST_TASK = "L902", 70, "a part of the loader stopped without a word", "which part",
        "report it";
    NO_RUNTIME = "L903", 70, "the process could not start its threads", "what the system said",
        "look at the limits of the container";
    SANDBOX_REFUSED = "L904", 78, "the process was started where its sandbox would be worth nothing", "what was found: root, capabilities, a tracer, a shared process namespace, one uid for both programs",
        "start it as deploy/ does; for a laptop `sandbox: { mode: report }`";
    SANDBOX_FAILED = "L905", 71, "a step of the sandbox failed", "the step, what was attempted and what the system said",
        "mend what the message names; nothing was opened";
    SANDBOX_MISSING = "L906", 71, "the kernel or container cannot take a step that `sandbox.strict` wants", "the step and what is missing",
        "use a newer kernel or another container setting, or live without it: `sandbox.strict: false`";
    NO_SUCH_PROCESS = "L907", 66, "a process cannot be looked at", "its pid and what the system said",
        "give the pid of a running process of this process namespace";
}
