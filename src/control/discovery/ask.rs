//! Looking names up, by hickory-resolver.

mod turns;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::time::Duration;

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name as Domain, RData, Record, RecordType};
use hickory_resolver::{Resolver, TokioResolver, system_conf};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::parse::printable;
use super::{Answer, Found, MOST};
use crate::config::{Dns, DnsName, Prefer, Resolvers};
pub use turns::MOST_QUESTIONS;
use turns::Turns;

/// Hosts of one service that are looked up: those of the best priority and the greatest weight.
pub const HOSTS_MOST: usize = 64;

/// Descriptors of one question, at most: two resolvers are asked at once, each up to three times, by another socket each time.
pub const DESCRIPTORS: usize = 6;

const NXDOMAIN: &str = "the name does not exist (NXDOMAIN)";
const LATE: &str = "the resolver takes too long";

/// An address that takes longer to answer is given up for the next one.
const SLOW: Duration = Duration::from_millis(500);

/// Looks names up, by the resolvers that the configuration names or the system has.
pub struct Asker {
    dns: Dns,
    /// Who is asked, as soon as that is known: a machine may get its resolv.conf(5) only after us.
    system: OnceLock<System>,
}

/// Who is asked.
struct System {
    resolver: TokioResolver,
    /// What may stand behind a name, in the order in which it is tried.
    search: Vec<Domain>,
    /// A name with so many dots is tried as it is first.
    ndots: usize,
    prefer: Prefer,
    /// One attempt, and how many there are.
    timeout: Duration,
    tries: u8,
    /// The most that a question takes, by all ways and attempts.
    patience: Duration,
    turns: Turns,
}

/// A connection to the first of these addresses that can be reached; else why not. One that is silent is given up for the next.
pub async fn connect_any(all: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut why = "it has no address".to_owned();
    for (place, at) in all.iter().enumerate() {
        let is_last = place + 1 == all.len();
        // Whoever asks has a limit for the whole.
        let limit = if is_last { Duration::MAX } else { SLOW };
        match timeout(limit, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => why = format!("{at}: {error}"),
            Err(_) => why = format!("{at} does not answer"),
        }
    }
    Err(why)
}

/// Records of one name and type.
enum Records {
    Some(Vec<RData>, Duration),
    None(String),
    Failed(String),
}

/// Addresses of one host.
struct Addresses {
    all: Vec<IpAddr>,
    ttl: Duration,
    /// Families of which nothing could be learnt, IPv4 if `true`.
    unknown: Vec<bool>,
    /// Why there are no addresses, or less.
    why: String,
}

impl Asker {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(dns: &Dns) -> Self {
        Self { dns: dns.clone(), system: OnceLock::new() }
    }

    /// Looks a name up. Every question has its time, and others that nobody answers keep it waiting for a moment only.
    pub async fn ask(&self, name: &DnsName) -> Answer {
        let system = match self.system.get() {
            Some(system) => system,
            None => match System::new(&self.dns) {
                Ok(system) => self.system.get_or_init(|| system),
                Err(why) => return Answer::Failed(why),
            },
        };
        system.ask(name).await
    }
}

impl System {
    /// Reads resolv.conf(5) and hosts(5), where those are asked for; or tells what is wrong with these.
    fn new(dns: &Dns) -> Result<Self, String> {
        let (config, options) = match &dns.resolvers {
            Resolvers::System => system_conf::read_system_conf()
                .map_err(|error| format!("the system's resolvers are not known: {error}"))?,
            Resolvers::Listed(all) => {
                let server = |resolver: &crate::config::Resolver| {
                    let at_port = |mut connection: ConnectionConfig| {
                        connection.port = resolver.at.port();
                        connection
                    };
                    let tcp = at_port(ConnectionConfig::tcp());
                    let connections = if resolver.tcp_only {
                        vec![tcp]
                    } else {
                        vec![at_port(ConnectionConfig::udp()), tcp]
                    };
                    NameServerConfig::new(resolver.at.ip(), true, connections)
                };
                let mut options = ResolverOpts::default();
                options.use_hosts_file = ResolveHosts::Never;
                (ResolverConfig::from_parts(None, Vec::new(), all.iter().map(server).collect()), options)
            }
        };
        let mut search = config.search().to_vec();
        search.extend(config.domain().filter(|domain| !search.contains(domain)).cloned());
        let ndots = options.ndots;
        // Which of several names was found, and whether the others failed, is seen here alone.
        let config = ResolverConfig::from_parts(None, Vec::new(), config.name_servers().to_vec());
        let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
        let own = builder.options_mut();
        *own = options;
        own.timeout = dns.timeout;
        own.attempts = usize::from(dns.tries) - 1;
        own.cache_size = 0;
        // Turns are the limit. With one of its own, questions by TCP that nobody answers would keep others waiting.
        own.max_active_requests = usize::from(u16::MAX);
        let resolver = builder.build().map_err(|error| error.to_string())?;
        let (timeout, tries, prefer) = (dns.timeout, dns.tries, dns.prefer);
        let patience = timeout.saturating_mul(u32::from(tries) * 4);
        Ok(Self { resolver, search, ndots, prefer, timeout, tries, patience, turns: Turns::new() })
    }

    async fn ask(&self, name: &DnsName) -> Answer {
        match name {
            DnsName::Host(host, port) => self.host(host, *port).await,
            DnsName::Service(service) => self.service(service).await,
        }
    }

    async fn host(&self, host: &str, port: u16) -> Answer {
        let Addresses { all, ttl, unknown, why } = self.addresses(host).await;
        match (all.is_empty(), unknown.is_empty()) {
            (true, true) => Answer::Missing(why),
            (true, false) => Answer::Failed(why),
            (false, is_whole) => {
                let found = |ip| Found {
                    priority: 0,
                    addr: SocketAddr::new(ip, port),
                    weight: None,
                    host: host.to_owned(),
                };
                let unknown = unknown.into_iter().map(|is_v4| (host.to_owned(), is_v4)).collect();
                let servers = all.into_iter().map(found).collect();
                let error = (!is_whole).then_some(why);
                Answer::Found { servers, ttl, unknown, error, left_out: 0 }
            }
        }
    }

    async fn service(&self, service: &str) -> Answer {
        let (records, mut ttl) = match self.records(service, RecordType::SRV).await {
            Records::Some(records, ttl) => (records, ttl),
            Records::None(why) => return Answer::Missing(why),
            Records::Failed(why) => return Answer::Failed(why),
        };
        // A root as the target says that there is no such service (RFC 2782).
        let mut records: Vec<_> = records
            .iter()
            .filter_map(|record| if let RData::SRV(srv) = record { Some(srv) } else { None })
            .filter(|srv| !srv.target.is_root())
            .map(|srv| (srv.priority, srv.weight, srv.port, srv.target.to_ascii()))
            .collect();
        records.sort_unstable_by(|one, other| {
            let key = |(priority, weight, ..): &(u16, u16, u16, String)| (*priority, Reverse(*weight));
            key(one).cmp(&key(other)).then_with(|| one.cmp(other))
        });
        records.dedup();
        let all = records.len();
        records.truncate(MOST);
        let mut hosts: Vec<&str> = Vec::new();
        for (.., host) in &records {
            if !hosts.contains(&&**host) && hosts.len() < HOSTS_MOST {
                hosts.push(host);
            }
        }
        let left_out = all - records.iter().filter(|(.., host)| hosts.contains(&&**host)).count();
        let mut answers = self.hosts(&hosts).await;
        let (mut servers, mut unknown, mut error) = (Vec::new(), Vec::new(), None);
        for host in hosts {
            let addresses = answers.remove(host).unwrap_or_else(Addresses::late);
            if !addresses.all.is_empty() {
                ttl = ttl.min(addresses.ttl);
            }
            if !addresses.unknown.is_empty() {
                error.get_or_insert(addresses.why);
            }
            unknown.extend(addresses.unknown.into_iter().map(|is_v4| (host.to_owned(), is_v4)));
            for (priority, weight, port, _) in records.iter().filter(|(.., target)| *target == host) {
                servers.extend(addresses.all.iter().map(|ip| Found {
                    priority: *priority,
                    addr: SocketAddr::new(*ip, *port),
                    // It has a small chance (RFC 2782), where ours would have none.
                    weight: Some((*weight).max(1)),
                    host: host.to_owned(),
                }));
            }
        }
        match error {
            Some(why) if servers.is_empty() => Answer::Failed(why),
            None if servers.is_empty() => Answer::Missing("none of its hosts has an address".to_owned()),
            error => Answer::Found { servers, ttl, unknown, error, left_out },
        }
    }

    /// What is answered of these. All are asked at once; as soon as one is found, those that are silent for as long as an attempt
    /// may take, while nobody else answers, are not waited for.
    async fn hosts<'a>(&self, hosts: &[&'a str]) -> BTreeMap<&'a str, Addresses> {
        let mut asked: FuturesUnordered<_> =
            hosts.iter().map(|host| async move { (*host, self.addresses(host).await) }).collect();
        let (mut answers, mut limit) = (BTreeMap::new(), self.patience);
        while let Ok(Some((host, addresses))) = timeout(limit, asked.next()).await {
            if !addresses.all.is_empty() {
                limit = self.timeout;
            }
            answers.insert(host, addresses);
        }
        answers
    }

    async fn addresses(&self, host: &str) -> Addresses {
        let mut result =
            Addresses { all: Vec::new(), ttl: Duration::MAX, unknown: Vec::new(), why: String::new() };
        match self.prefer {
            Prefer::Any => {
                let (v4, v6) =
                    tokio::join!(self.records(host, RecordType::A), self.records(host, RecordType::AAAA));
                result.add(v6, false);
                result.add(v4, true);
            }
            preferred => {
                for is_v4 in [preferred == Prefer::Ipv4, preferred == Prefer::Ipv6] {
                    let kind = if is_v4 { RecordType::A } else { RecordType::AAAA };
                    result.add(self.records(host, kind).await, is_v4);
                    if !result.all.is_empty() || !result.unknown.is_empty() {
                        break;
                    }
                }
            }
        }
        result
    }

    /// The records of the first of the names that `name` may mean. That one of them failed is not covered up by the next.
    async fn records(&self, name: &str, kind: RecordType) -> Records {
        let mut result = Records::None(format!("{name:?} is not a name"));
        for name in self.candidates(name) {
            result = self.question(&name, kind).await;
            if !matches!(result, Records::None(_)) {
                break;
            }
        }
        result
    }

    async fn question(&self, name: &Domain, kind: RecordType) -> Records {
        let ask = || self.resolver.lookup(name.clone(), kind);
        match self.turns.take(ask, self.patience).await {
            Some(Ok(answer)) => read(name, kind, &answer),
            Some(Err(error)) => self.nothing(kind, &error),
            None => Records::Failed(LATE.to_owned()),
        }
    }

    /// What it means that there was no answer with records.
    fn nothing(&self, kind: RecordType, error: &NetError) -> Records {
        let code = match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => none.response_code,
            NetError::Dns(DnsError::ResponseCode(code)) => *code,
            // What cannot be read is thrown away where it comes in, as somebody else may have sent it: no byte of it is known here.
            NetError::Timeout => {
                let (tries, timeout) = (self.tries, self.timeout);
                return Records::Failed(format!("no answer that can be read: {tries} tries of {timeout:?}"));
            }
            error => return Records::Failed(printable(&error.to_string())),
        };
        match code {
            ResponseCode::NXDomain => Records::None(NXDOMAIN.to_owned()),
            ResponseCode::NoError => Records::None(format!("there is no {kind} record")),
            code => Records::Failed(format!("the resolver answers {code}")),
        }
    }

    fn candidates(&self, name: &str) -> Vec<Domain> {
        let Ok(mut plain) = Domain::from_ascii(name) else { return Vec::new() };
        if plain.is_fqdn() {
            return vec![plain];
        }
        let searched = self.search.iter().filter_map(|domain| plain.clone().append_domain(domain).ok());
        let mut all: Vec<Domain> = searched.collect();
        let comes_first = usize::from(plain.num_labels()) > self.ndots;
        plain.set_fqdn(true);
        all.insert(if comes_first { 0 } else { all.len() }, plain);
        all
    }
}

impl Addresses {
    /// Nothing was answered in time.
    fn late() -> Self {
        Self { all: Vec::new(), ttl: Duration::MAX, unknown: vec![true, false], why: LATE.to_owned() }
    }

    fn add(&mut self, records: Records, is_v4: bool) {
        match records {
            Records::Some(records, ttl) => {
                self.ttl = self.ttl.min(ttl);
                self.all.extend(records.iter().filter_map(|record| match record {
                    RData::A(ip) => Some(IpAddr::V4(ip.0)),
                    RData::AAAA(ip) => Some(IpAddr::V6(ip.0).to_canonical()),
                    _ => None,
                }));
            }
            Records::None(why) if self.unknown.is_empty() => self.why = why,
            Records::None(_) => {}
            Records::Failed(why) => {
                self.unknown.push(is_v4);
                self.why = why;
            }
        }
    }
}

/// What an answer says of `name`: what belongs to it or to what it is another name of. Whatever else stands there says nothing.
fn read(name: &Domain, kind: RecordType, answer: &Lookup) -> Records {
    if answer.message().response_code == ResponseCode::NXDomain {
        return Records::None(NXDOMAIN.to_owned());
    }
    let (mut owners, mut ttl) = (vec![name], u32::MAX);
    let alias = |of: &Domain| {
        let is_alias = |record: &&Record| record.name == *of && record.record_type() == RecordType::CNAME;
        answer.answers().iter().find(is_alias)
    };
    while let Some(record) = owners.last().and_then(|owner| alias(owner)) {
        // The names on the way have their times, too.
        ttl = ttl.min(record.ttl);
        match &record.data {
            RData::CNAME(next) if !owners.contains(&&next.0) => owners.push(&next.0),
            _ => break,
        }
    }
    let belongs = |record: &&Record| record.record_type() == kind && owners.contains(&&record.name);
    let own: Vec<&Record> = answer.answers().iter().filter(belongs).collect();
    let Some(shortest) = own.iter().map(|record| record.ttl).min() else {
        return Records::None(format!("there is no {kind} record"));
    };
    let all = own.into_iter().map(|record| record.data.clone()).collect();
    Records::Some(all, Duration::from_secs(ttl.min(shortest).into()))
}
