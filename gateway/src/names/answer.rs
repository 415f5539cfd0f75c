//! What a query for a name is answered with: services are at the gateway's address, everything else is for the machine's
//! own nameservers to say. Called by the resolver for each message. Pure. Absent: sockets, caches, recursion.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, RData, Record, RecordType,
        rdata::{A, AAAA},
    },
};

/// Services come and go; nobody is to remember them for long.
const TTL: u32 = 5;

/// What an answer of ours may take; small enough for any path.
const PAYLOAD: u16 = 1232;

/// Bytes of a message's header.
const HEADER: usize = 12;

/// What is to be done about a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This is the answer.
    Answer(Vec<u8>),
    /// The machine's own nameservers know.
    Forward,
    /// It is no query.
    Ignore,
}

/// Judges a message that came to `at`.
pub(super) fn judge(message: &[u8], at: IpAddr, is_service: impl Fn(&str) -> bool) -> Verdict {
    let Some(kind) = message.get(2).filter(|_| message.len() >= HEADER) else { return Verdict::Ignore };
    if kind & 0x80 != 0 {
        return Verdict::Ignore;
    }
    // Updates and notices would reach the nameservers in this machine's name, and they may trust it.
    if kind & 0x78 != 0 {
        return refuse(message, ResponseCode::NotImp);
    }
    // What is odd but a query is judged by those who answer it.
    let Ok(asked) = Message::from_vec(message) else { return Verdict::Forward };
    let [question] = &asked.queries[..] else { return refuse(message, ResponseCode::FormErr) };
    if matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return refuse(message, ResponseCode::Refused);
    }
    match bare_name(question).filter(|name| is_service(name)) {
        Some(_) => written(&about_service(&asked, question, at)),
        None => Verdict::Forward,
    }
}

/// The answer when nobody could be asked.
pub(super) fn failed(message: &[u8]) -> Verdict {
    refuse(message, ResponseCode::ServFail)
}

/// The name in lower case, if it is a single label.
fn bare_name(question: &Query) -> Option<String> {
    if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
        return None;
    }
    let mut labels = question.name().iter();
    let (label, None) = (labels.next()?, labels.next()) else { return None };
    Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase())
}

/// Its address for who asks for one of that family; that there is no such record for everybody else.
fn about_service(asked: &Message, question: &Query, at: IpAddr) -> Message {
    let mut answer = reply(asked, ResponseCode::NoError);
    answer.metadata.authoritative = true;
    let data = match (at, question.query_type()) {
        (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => Some(RData::A(A(v4))),
        (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => Some(RData::AAAA(AAAA(v6))),
        _ => None,
    };
    if let Some(data) = data {
        answer.add_answer(Record::from_rdata(question.name().clone(), TTL, data));
    }
    answer
}

fn refuse(message: &[u8], code: ResponseCode) -> Verdict {
    match Message::from_vec(message) {
        Ok(asked) => written(&reply(&asked, code)),
        // Nothing of it can be repeated but its id.
        Err(_) => match message {
            [high, low, ..] => {
                written(&Message::error_msg(u16::from_be_bytes([*high, *low]), OpCode::Query, code))
            }
            _ => Verdict::Ignore,
        },
    }
}

fn reply(asked: &Message, code: ResponseCode) -> Message {
    let mut reply = Message::error_msg(asked.metadata.id, asked.metadata.op_code, code);
    reply.metadata.recursion_desired = asked.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.add_queries(asked.queries.iter().cloned());
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(PAYLOAD);
        reply.set_edns(edns);
    }
    reply
}

fn written(answer: &Message) -> Verdict {
    answer.to_vec().map_or(Verdict::Ignore, Verdict::Answer)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use hickory_proto::{op::MessageType, rr::Name};

    use super::*;

    const AT: &str = "10.64.0.1";

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::query();
        message.metadata.id = 0x1234;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
        message
    }

    fn judged(message: &Message, at: &str) -> Verdict {
        let bytes = message.to_vec().expect("a message");
        judge(&bytes, at.parse().expect("an address"), |name| name == "api")
    }

    /// What the answer holds, in words.
    fn said(verdict: &Verdict) -> String {
        let Verdict::Answer(bytes) = verdict else { return format!("{verdict:?}") };
        let answer = Message::from_vec(bytes).expect("an answer");
        assert_eq!((answer.metadata.id, answer.metadata.message_type), (0x1234, MessageType::Response));
        let records = answer.answers.iter().map(|record| format!(" {} {}", record.ttl, record.data));
        format!("{:?}{}", answer.metadata.response_code, records.collect::<String>())
    }

    #[test]
    fn services_are_at_the_gateway_and_the_rest_is_for_others() {
        let rows = [
            ("api", RecordType::A, AT, "NoError 5 10.64.0.1"),
            ("api.", RecordType::A, AT, "NoError 5 10.64.0.1"),
            ("API.", RecordType::A, AT, "NoError 5 10.64.0.1"),
            ("api.", RecordType::ANY, AT, "NoError 5 10.64.0.1"),
            ("api.", RecordType::AAAA, AT, "NoError"),
            ("api.", RecordType::HTTPS, AT, "NoError"),
            ("api.", RecordType::MX, AT, "NoError"),
            ("api.", RecordType::A, "fd00::1", "NoError"),
            ("api.", RecordType::AAAA, "fd00::1", "NoError 5 fd00::1"),
            ("web.", RecordType::A, AT, "Forward"),
            ("api.localhost.", RecordType::A, AT, "Forward"),
            ("www.api.", RecordType::A, AT, "Forward"),
            ("*.api.", RecordType::A, AT, "Forward"),
            ("example.org.", RecordType::AAAA, AT, "Forward"),
            (".", RecordType::NS, AT, "Forward"),
            ("example.org.", RecordType::AXFR, AT, "Refused"),
        ];
        for (name, kind, at, want) in rows {
            assert_eq!(said(&judged(&query(name, kind), at)), want, "{name} {kind} at {at}");
        }
    }

    #[test]
    fn what_is_no_plain_query_goes_no_further() {
        let mut update = query("api.", RecordType::A);
        update.metadata.op_code = OpCode::Update;
        assert_eq!(said(&judged(&update, AT)), "NotImp");
        let response = query("api.", RecordType::A).into_response();
        assert_eq!(judged(&response, AT), Verdict::Ignore);
        let mut two = query("api.", RecordType::A);
        two.add_query(Query::query(Name::from_str("b.").expect("a name"), RecordType::A));
        assert_eq!(said(&judged(&two, AT)), "FormErr");
        let at = AT.parse().expect("an address");
        for junk in [&b""[..], b"\x12\x34", b"\x12\x34\x01\x00\x00\x01"] {
            assert_eq!(judge(junk, at, |_| true), Verdict::Ignore, "{junk:?}");
        }
        // A header that promises more than there is.
        let cut = query("api.", RecordType::A).to_vec().expect("a message");
        assert_eq!(judge(&cut[..14], at, |_| true), Verdict::Forward);
        assert_eq!(said(&failed(&cut)), "ServFail");
        assert_eq!(said(&failed(&cut[..14])), "ServFail");
    }

    #[test]
    fn an_extended_query_gets_an_extended_answer_with_its_own_spelling() {
        let mut asked = query("aPi.", RecordType::A);
        asked.set_edns(Edns::new());
        let Verdict::Answer(bytes) = judged(&asked, AT) else { panic!("no answer") };
        let answer = Message::from_vec(&bytes).expect("an answer");
        assert_eq!(answer.edns.as_ref().map(Edns::max_payload), Some(PAYLOAD));
        assert_eq!(answer.queries[0].name().to_ascii(), "aPi.");
        assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
    }
}
