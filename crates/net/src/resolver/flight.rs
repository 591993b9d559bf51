//! One lookup under way: its queries, the servers that were asked, and sending again.
//!
//! It has no time limit of its own: it ends when nobody waits for it any more.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::conf::Families;
use super::line::{Delivery, Line, Ticket};
use super::merge::{Conclusion, Found, Merge};
use super::message::{Question, RecordType, Reply};
use super::table::{Announcer, Known};
use super::tcp::{TcpQuery, TcpServer};
use super::{Kind, ResolveError, Resolver};
use crate::{Deadline, timer};

/// Seconds for which "there is no such name" is kept at most, whatever the server says.
const MAX_NEGATIVE_SEC: u64 = 10;

/// A lookup that others can wait for; dropping it without an outcome takes it off the table.
pub(super) struct Flight {
    pub resolver: Rc<Resolver>,
    pub kind: Kind,
    pub name: Arc<str>,
    pub announcer: Arc<Announcer>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.resolver.table(self.kind).abandon(&self.name, &self.announcer);
    }
}

impl Flight {
    /// Asks until there is an outcome, or nobody is left who waits.
    pub async fn run(self) {
        let mut asking = pin!(conclude(&self.resolver, self.kind, &self.name));
        let conclusion = loop {
            let mut closed = pin!(self.announcer.closed());
            let ended = poll_fn(|cx| match asking.as_mut().poll(cx) {
                Poll::Ready(conclusion) => Poll::Ready(Some(conclusion)),
                Poll::Pending => closed.as_mut().poll(cx).map(|()| None),
            });
            match ended.await {
                Some(conclusion) => break conclusion,
                None if self.is_unwanted() => return,
                None => {}
            }
        };
        let known = Arc::new(self.known(conclusion));
        self.resolver.table(self.kind).land(&self.name, &known, timer::now_ms());
        self.announcer.send_replace(Some(known));
    }

    /// Whether still nobody waits; then it is taken off the table, where nobody can join it any more.
    fn is_unwanted(&self) -> bool {
        let mut table = self.resolver.table(self.kind);
        // Those who come join under the table's lock.
        if self.announcer.receiver_count() > 0 {
            return false;
        }
        table.abandon(&self.name, &self.announcer);
        true
    }

    fn known(&self, conclusion: Conclusion) -> Known {
        let Conclusion { found, keep_sec } = conclusion;
        let keep_ms = u64::from(keep_sec) * 1000;
        let keep_ms = match (&found, self.resolver.shared.identity.valid_ms) {
            (Found::Failed(_), _) => keep_ms.min(MAX_NEGATIVE_SEC * 1000),
            (_, 0) => keep_ms,
            (_, valid_ms) => valid_ms,
        };
        Known { found, valid_until_ms: timer::now_ms().saturating_add(keep_ms) }
    }
}

/// One question and where its answer may come from.
struct Asked {
    question: Rc<Question>,
    over_tcp: bool,
    answered: bool,
    /// At most one for each server; late answers of earlier servers count.
    tickets: Vec<(usize, Ticket)>,
    tcp: Option<TcpQuery>,
}

async fn conclude(resolver: &Rc<Resolver>, kind: Kind, name: &str) -> Conclusion {
    let types = record_types(kind, resolver.shared.identity.families);
    let questions: Option<Vec<_>> = types.iter().map(|which| Question::new(name, *which)).collect();
    let Some(questions) = questions else {
        return Conclusion { found: Found::Failed(ResolveError::NotFound), keep_sec: 0 };
    };
    let asked = questions.into_iter().map(Asked::new).collect();
    let (inbox, mut answers) = unbounded_channel();
    let mut queries = Queries { resolver, asked, server: resolver.next_server(), inbox };
    if !queries.send() {
        // nginx tries the next server at once when the first query cannot be sent.
        queries.turn();
        queries.send();
    }
    let (mut merge, deadline) = (Merge::new(types), Deadline::new());
    let resend_ms = resolver.shared.identity.timings.resend_ms;
    deadline.set_after(resend_ms);
    loop {
        let Some(Delivery { asked, reply }) = next(&mut answers, &deadline).await else {
            queries.turn();
            queries.send();
            deadline.set_after(resend_ms);
            continue;
        };
        if reply == Reply::Truncated {
            queries.go_over_to_tcp(asked);
            deadline.set_after(resend_ms);
        } else if queries.settle(asked)
            && let Some(conclusion) = merge.take(asked, reply)
        {
            return conclusion;
        }
    }
}

/// The next answer; `None` when it is time to send again.
async fn next(answers: &mut UnboundedReceiver<Delivery>, deadline: &Deadline) -> Option<Delivery> {
    poll_fn(|cx| match answers.poll_recv(cx) {
        Poll::Ready(Some(delivery)) => Poll::Ready(Some(delivery)),
        _ => deadline.poll_over(cx).map(|()| None),
    })
    .await
}

fn record_types(kind: Kind, families: Families) -> &'static [RecordType] {
    match (kind, families) {
        (Kind::Service, _) => &[RecordType::Srv],
        (Kind::Pointer, _) => &[RecordType::Ptr],
        (Kind::Address, Families::Ipv4) => &[RecordType::A],
        (Kind::Address, Families::Ipv6) => &[RecordType::Aaaa],
        (Kind::Address, Families::Both) => &[RecordType::A, RecordType::Aaaa],
    }
}

impl Asked {
    fn new(question: Question) -> Self {
        Self { question: Rc::new(question), over_tcp: false, answered: false, tickets: Vec::new(), tcp: None }
    }
}

struct Queries<'a> {
    resolver: &'a Rc<Resolver>,
    asked: Vec<Asked>,
    /// Whose turn it is.
    server: usize,
    inbox: UnboundedSender<Delivery>,
}

impl Queries<'_> {
    /// Lets the next server have its turn.
    fn turn(&mut self) {
        self.server = (self.server + 1) % self.resolver.shared.identity.servers.len().max(1);
    }

    /// Sends what is unanswered to the server whose turn it is. Whether that went well.
    fn send(&mut self) -> bool {
        let (resolver, server, inbox) = (self.resolver, self.server, &self.inbox);
        self.asked.iter_mut().filter(|asked| !asked.answered).all(|asked| {
            if asked.over_tcp {
                asked.ask_tcp(resolver.tcp_server(server), inbox);
                return true;
            }
            let filed = asked.tickets.iter().find(|(at, ticket)| *at == server && ticket.is_alive());
            if let Some((_, ticket)) = filed {
                return ticket.send();
            }
            let Some(line) = resolver.line(server) else { return false };
            let ticket = Line::register(&line, &asked.question, inbox);
            let sent = ticket.send();
            asked.tickets.retain(|(at, _)| *at != server);
            asked.tickets.push((server, ticket));
            sent
        })
    }

    /// Asks the same server again over TCP.
    fn go_over_to_tcp(&mut self, which: RecordType) {
        let (resolver, server, inbox) = (self.resolver, self.server, &self.inbox);
        for asked in self.asked.iter_mut().filter(|asked| asked.is_open(which) && !asked.over_tcp) {
            asked.over_tcp = true;
            asked.ask_tcp(resolver.tcp_server(server), inbox);
        }
    }

    /// Notes that a question is answered; `false` when it was already.
    fn settle(&mut self, which: RecordType) -> bool {
        let Some(asked) = self.asked.iter_mut().find(|asked| asked.is_open(which)) else { return false };
        asked.answered = true;
        asked.tickets.clear();
        asked.tcp = None;
        true
    }
}

impl Asked {
    fn ask_tcp(&mut self, server: Option<TcpServer>, inbox: &UnboundedSender<Delivery>) {
        self.tcp = server.map(|server| server.ask(Rc::clone(&self.question), inbox.clone()));
    }

    fn is_open(&self, which: RecordType) -> bool {
        !self.answered && self.question.record_type == which
    }
}
