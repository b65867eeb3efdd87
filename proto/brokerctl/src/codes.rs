//! brokerctl's error codes: what happened, where, and what to do. `docs/errors.md` is made from this table.
//!
//! The first digit is the area: 1 brokerctl itself, 2 the broker, 3 the token's file, 4 the command that it runs.

use keyferry_proto::catalogue;
pub use keyferry_proto::catalogue::Entry;

catalogue! {
    USAGE = "C101", 64, "the arguments cannot be right", "the option", "correct it; `brokerctl --help` has examples";
    SYSTEM = "C102", 71, "the system refused something", "what was attempted", "do what the system's message says";
    OUTPUT = "C103", 74, "standard output cannot be written", "what the system said", "look at what reads it";

    UNREACHABLE = "C201", 69, "the broker's socket cannot be reached", "the socket's path",
        "start the broker; in a pod, mount the socket's folder into this container; or give --patience more time";
    SOCKET_CLOSED = "C202", 77, "this user may not open the broker's socket", "the socket's path",
        "put the user into the group that `socket.group` names in broker.yaml";
    NOT_A_SOCKET = "C203", 78, "the path is something else than a socket", "the path", "correct --socket";
    WRONG_SERVER = "C204", 77, "somebody else than the broker serves the socket; nothing was sent",
        "the socket, the uid found and the uid expected", "correct --server-uid, or find out who replaced the socket";
    NOT_A_BROKER = "C205", 69, "what answers at the socket is not a broker", "the socket's path", "correct --socket";
    BROKEN = "C206", 69, "the connection to the broker broke", "the call", "try again; look whether the broker runs";
    UNAVAILABLE = "C207", 75, "the broker or one of its upstreams is down", "the call and the upstream",
        "try again when the broker's /health says ok";
    LIMITED = "C208", 75, "the broker's limits for this uid are reached", "the limit",
        "ask less often, run fewer at once, or raise the limit in broker.yaml";
    DENIED = "C209", 77, "the broker's policy does not allow this", "the caller, and the broker's own code (B2..)",
        "look at `brokerctl whoami`; ask for an entry with the use `token` under `policy`";
    REFUSED = "C210", 77, "an upstream refused the broker", "the upstream and its own code, and the broker's code (B3..)",
        "mend what the message names; trying again does not help";
    INVALID = "C211", 64, "the broker cannot make sense of the request", "the field", "correct the argument";
    PROTOCOL = "C212", 70, "the broker's answer makes no sense", "the call",
        "use a broker and a brokerctl of the same version";

    NO_FILE = "C301", 73, "the path names no file", "the path", "give --file a path like /run/me/token";
    UNSAFE_FOLDER = "C302", 73, "the folder is missing, or others could change what lies there", "the folder and why",
        "use a folder that only this user may write; brokerctl makes the last one itself";
    OCCUPIED = "C303", 73, "something else lies where the token's file should", "the path and what it is",
        "remove it or choose another path";
    WRITE = "C304", 73, "the token's file cannot be written", "the path and the step",
        "make room, or mend what the system says; what it held before is still there";

    NOT_FOUND = "C401", 127, "the command is not found", "its name", "correct the name, or PATH";
    NOT_RUN = "C402", 126, "the command cannot be run", "its name and what the system said", "look at its mode and format";
}
