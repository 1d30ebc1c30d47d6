//! Hands the time of the build to the four-letter words, in the form that ZooKeeper prints: some
//! clients parse it. SOURCE_DATE_EPOCH overrides it, for builds that are to come out the same.

use time::OffsetDateTime;
use time::macros::format_description;

fn main() -> Result<(), time::error::Format> {
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let given = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok())
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    let built = given.unwrap_or_else(OffsetDateTime::now_utc);
    let format = format_description!("[year]-[month]-[day] [hour]:[minute] UTC");
    println!("cargo:rustc-env=OXKEEPER_BUILT={}", built.format(format)?);
    Ok(())
}
