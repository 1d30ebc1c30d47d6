//! Compiles the .proto files without an installed protoc.

use std::error::Error;

const ROOT: &str = "proto";
const FILES: &[&str] = &["proto/oxkeeper/log/v1/log.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, [ROOT])?;
    let mut config = prost_build::Config::new();
    // Values are shared with the buffer they were decoded from.
    config.bytes(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}
