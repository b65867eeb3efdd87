//! Compiles the contract with protox, so that nobody needs a protoc.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=keyferry/v1/credentials.proto");
    let descriptors = protox::compile(["keyferry/v1/credentials.proto"], ["."])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // prost prints every field with {:?}: the messages that carry a token get a hand-written Debug.
    tonic_prost_build::configure()
        .skip_debug(
            ["Token", "GssClient", "GssServer", "SnowflakeSession"]
                .map(|m| format!("keyferry.v1.{m}"))
                .as_slice(),
        )
        .compile_fds(descriptors)?;
    Ok(())
}
