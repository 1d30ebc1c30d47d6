//! Records what a real ZooKeeper answers to the simulator's requests, for the test of the model:
//!
//! ```text
//! cargo run -p oxkeeper-zk-sim --example record -- HOST:PORT SEED COUNT > zk-proxy/sim/tests/data/recorded.txt
//! ```
//!
//! The server must be new and allow TTL znodes, and the whole must take less than a minute: then it
//! looks for znodes whose time has come.
#![allow(clippy::disallowed_types)]

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use oxkeeper_wire::{ConnectRequest, ConnectResponse};
use oxkeeper_zk_sim::client::Requests;
use oxkeeper_zk_sim::op::Op;
use oxkeeper_zk_sim::reply::{Reply, is_notification};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, seed, count] = arguments.as_slice() else {
        return Err("HOST:PORT SEED COUNT".into());
    };
    let (seed, count): (u64, usize) = (seed.parse()?, count.parse()?);
    let mut socket = TcpStream::connect(address)?;
    let mut out = BytesMut::new();
    let connect = ConnectRequest {
        timeout_ms: 30_000,
        read_only: Some(false),
        ..ConnectRequest::default()
    };
    connect.encode(&mut out);
    socket.write_all(&out)?;
    let response = ConnectResponse::decode(&frame(&mut socket)?)?;
    println!("{seed} {:x}", response.session_id);
    let mut requests = Requests::new(seed);
    for index in 0..count {
        let op = requests.next(index);
        out.clear();
        op.encode(index as i32 + 1, &mut out);
        socket.write_all(&out)?;
        let reply = loop {
            let frame = frame(&mut socket)?;
            if !is_notification(&frame)? {
                break frame;
            }
        };
        let hex: String = reply.iter().map(|byte| format!("{byte:02x}")).collect();
        println!("{hex}");
        requests.on_reply(&op, &Reply::decode(&op, &reply)?);
        if matches!(op, Op::CloseSession) {
            break;
        }
    }
    Ok(())
}

fn frame(socket: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    socket.read_exact(&mut length)?;
    let mut frame = vec![0; u32::from_be_bytes(length) as usize];
    socket.read_exact(&mut frame)?;
    Ok(frame)
}
