//! A nameserver that says what a test tells it to, over UDP and TCP, on a free
//! loopback port.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// What is said of a name.
#[derive(Clone, Debug)]
pub enum Says {
    /// These records, of which the fitting are sent.
    Records(Vec<RData>),
    /// This error.
    Code(ResponseCode),
    /// These bytes behind the number of the question, whatever they mean.
    Bytes(Vec<u8>),
    /// Nothing at all.
    Silence,
}

/// The addresses of a host.
pub fn host(addresses: &[&str]) -> Says {
    let record = |text: &&str| match text.parse().unwrap() {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    };
    Says::Records(addresses.iter().map(record).collect())
}

/// The targets of a service, all of this port: priority and name.
pub fn service(targets: &[(u16, &str)], port: u16) -> Says {
    let record = |(priority, name): &(u16, &str)| {
        let target = Name::from_ascii(format!("{name}.")).unwrap();
        RData::SRV(SRV::new(*priority, 1, port, target))
    };
    Says::Records(targets.iter().map(record).collect())
}

/// Another name for it.
pub fn alias(name: &str) -> Says {
    let target = Name::from_ascii(format!("{name}.")).unwrap();
    Says::Records(vec![RData::CNAME(CNAME(target))])
}

/// See the module's description. What it was not told of does not exist.
pub struct Nameserver {
    address: SocketAddr,
    zone: Arc<Zone>,
}

#[derive(Default)]
struct Zone {
    names: Mutex<HashMap<String, Says>>,
    asked: AtomicU64,
    stopped: AtomicBool,
}

impl Nameserver {
    pub fn start() -> Nameserver {
        // The same port for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let zone = Arc::<Zone>::default();
        udp.set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        let shared = Arc::clone(&zone);
        std::thread::spawn(move || shared.serve_udp(&udp));
        let shared = Arc::clone(&zone);
        std::thread::spawn(move || shared.serve_tcp(&tcp));
        Nameserver { address, zone }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Say this of a name from now on.
    pub fn say(&self, name: &str, says: Says) {
        self.zone
            .names
            .lock()
            .unwrap()
            .insert(name.to_owned(), says);
    }

    /// Questions so far.
    pub fn asked(&self) -> u64 {
        self.zone.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Nameserver {
    fn drop(&mut self) {
        self.zone.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Zone {
    fn serve_udp(&self, socket: &UdpSocket) {
        let mut buffer = [0; 4096];
        while !self.stopped.load(Ordering::Relaxed) {
            let Ok((count, client)) = socket.recv_from(&mut buffer) else {
                continue;
            };
            let answer = self.answer(&buffer[..count], 1232);
            if let Some(answer) = answer {
                let _ = socket.send_to(&answer, client);
            }
        }
    }

    fn serve_tcp(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let _ = stream.and_then(|stream| self.converse(stream));
        }
    }

    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        loop {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question)?;
            if let Some(answer) = self.answer(&question, usize::from(u16::MAX)) {
                let length = u16::try_from(answer.len()).unwrap();
                stream.write_all(&length.to_be_bytes())?;
                stream.write_all(&answer)?;
            }
        }
    }

    fn answer(&self, question: &[u8], most: usize) -> Option<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let question = Message::from_vec(question).unwrap();
        let query = question.queries[0].clone();
        let name = query.name().to_ascii().to_lowercase();
        let names = self.names.lock().unwrap();
        let says = names.get(name.trim_end_matches('.'));
        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.add_query(query.clone());
        match says {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some(Says::Code(code)) => answer.metadata.response_code = *code,
            Some(Says::Silence) => return None,
            Some(Says::Bytes(bytes)) => {
                let id = question.metadata.id.to_be_bytes();
                return Some(id.iter().chain(bytes).copied().collect());
            }
            Some(Says::Records(records)) => {
                let fits = |record: &&RData| {
                    [query.query_type(), RecordType::CNAME].contains(&record.record_type())
                };
                for data in records.iter().filter(fits) {
                    let record = Record::from_rdata(query.name().clone(), 0, data.clone());
                    answer.add_answer(record);
                }
            }
        }
        let bytes = answer.to_vec().unwrap();
        if bytes.len() <= most {
            return Some(bytes);
        }
        answer.answers.clear();
        answer.metadata.truncation = true;
        Some(answer.to_vec().unwrap())
    }
}
