//! The tests' small server alone, to find what the generator itself can do: prints its address and serves.

#[path = "../tests/fake/mod.rs"]
#[allow(dead_code)]
mod fake;

fn main() {
    let server = fake::Fake::start(fake::Fault::None, 0);
    println!("{}", server.address);
    loop {
        std::thread::park();
    }
}
