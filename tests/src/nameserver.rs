//! A name server whose answer a test can change: every name has the same addresses, or does not exist.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use hickory_proto::{
    op::{Message, OpCode, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
};
use parking_lot::Mutex;
use tokio::{net::UdpSocket, task::JoinSet};

use crate::eventually::found;

/// A name server.
pub struct NameServer {
    /// Where it is asked.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

struct State {
    answer: Answer,
    /// Questions for addresses that were asked so far.
    asked: usize,
}

/// What it says.
#[derive(Debug, Clone)]
pub enum Answer {
    /// These, good for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// There is no such name.
    NoSuchName,
    /// It cannot say.
    Failure,
    /// Nothing at all.
    Silence,
}

impl NameServer {
    /// One that answers so.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn new(answer: Answer) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = socket.local_addr().expect("a bound socket's address");
        let state = Arc::new(Mutex::new(State { answer, asked: 0 }));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(socket, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    /// Answers so from here on.
    pub fn set(&self, answer: Answer) {
        self.state.lock().answer = answer;
    }

    /// Waits until it was asked again, and again: what it said to the first of those has been heard by then.
    pub async fn until_asked_twice(&self) {
        let before = self.state.lock().asked;
        found("questions", async || {
            let asked = self.state.lock().asked;
            if asked >= before + 2 { Ok(()) } else { Err(format!("{asked} after {before}")) }
        })
        .await;
    }
}

async fn serve(socket: UdpSocket, state: Arc<Mutex<State>>) {
    let mut query = vec![0; 4096];
    while let Ok((length, peer)) = socket.recv_from(&mut query).await {
        let asked = Message::from_vec(&query[..length]).expect("a query");
        let answer = {
            let mut state = state.lock();
            state.asked += usize::from(asked.queries[0].query_type() == RecordType::A);
            state.answer.clone()
        };
        if let Some(answer) = reply(&asked, &answer) {
            // Whoever asked may have gone.
            drop(socket.send_to(&answer.to_vec().expect("an answer"), peer).await);
        }
    }
}

fn reply(asked: &Message, answer: &Answer) -> Option<Message> {
    let mut message = Message::response(asked.metadata.id, OpCode::Query);
    message.metadata.recursion_available = true;
    let question = asked.queries[0].clone();
    match answer {
        Answer::Addresses(addresses, ttl) if question.query_type() == RecordType::A => {
            for address in addresses {
                let data = RData::A(A(*address));
                message.add_answer(Record::from_rdata(question.name().clone(), *ttl, data));
            }
        }
        Answer::Addresses(..) => {}
        Answer::NoSuchName => message.metadata.response_code = ResponseCode::NXDomain,
        Answer::Failure => message.metadata.response_code = ResponseCode::ServFail,
        Answer::Silence => return None,
    }
    message.add_query(question);
    Some(message)
}

/// An address as a name server gives it.
///
/// # Panics
/// When it is one of IPv6.
#[must_use]
pub fn v4(address: SocketAddr) -> Ipv4Addr {
    match address.ip() {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(v6) => panic!("{v6} has no A record"),
    }
}
