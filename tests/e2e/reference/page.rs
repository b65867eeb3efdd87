//! `docs/configuration.md`.

use std::fmt::Write as _;

use super::keys::Key;

const OPENING: &str = "\
# Configuration

Made from the code by `make reference`; a test holds it to the code, and each default to what the program really does.

Both files are YAML. A key that is not in these tables is refused with line, column and the nearest right key. A relative path counts
from the folder of its file. `[]` stands for each entry of a list, `NAME` for a name of your own.
";

pub(super) fn configuration(broker: &[Key], pipeline: &[Key]) -> String {
    let mut page = OPENING.to_owned();
    part(
        &mut page,
        "broker.yaml",
        "Paths and names, never a secret. A key that ends in `_key` names a field of the Vault secret. `broker check --config broker.yaml` \
         validates the file and asks every upstream once.",
        broker,
    );
    part(
        &mut page,
        "pipeline.yaml",
        "One pipeline of one source and one target. `loader plan pipeline.yaml` validates the file, and shows what a run would do.",
        pipeline,
    );
    page
}

fn part(page: &mut String, file: &str, about: &str, keys: &[Key]) {
    let _ = write!(page, "\n## {file}\n\n{about}\n\n| key | | type | default |\n| --- | --- | --- | --- |\n");
    for key in keys {
        let default = match (&key.default, key.required) {
            (Some(default), _) => format!("`{default}`"),
            (None, true) => "**required**".to_owned(),
            (None, false) => "-".to_owned(),
        };
        let name =
            if key.kind.is_empty() { format!("**`{}`**", key.path) } else { format!("`{}`", key.path) };
        let kind = if key.kind.is_empty() { "section" } else { &key.kind };
        let _ = writeln!(page, "| {name} | {} | {kind} | {default} |", key.what.replace('|', "\\|"));
    }
}
