use super::*;

const MAGLEV: Spread =
    Spread { key: HashKey::Source, table: Table::Maglev(65_537), ipv6_prefix: 64, bound: None };
const RING: Spread = Spread { table: Table::Ring, ..MAGLEV };
const CLIENTS: u32 = 100_000;

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("server-{number}")).collect()
}

/// Servers of weight 1 whose ids are `first` and those after it.
fn table(names: &[String], first: u32, spread: Spread) -> BySource {
    BySource::new((first..).map(ServerId).zip(names).map(|(id, name)| (id, 20, name.as_str())), spread)
}

fn client(number: u32) -> Client {
    from(IpAddr::from((0x0a00_0000 + number).to_be_bytes()))
}

fn from(address: IpAddr) -> Client {
    Client { address: Some(address), name: None }
}

fn picked(table: &BySource, client: Client) -> u32 {
    match table.pick(&[], (client, 0), &|_| Some(0)) {
        Pick::Server(server) => server.0,
        other => panic!("{other:?}"),
    }
}

/// How many of the clients of servers that stay go to another one, of 100,000 clients, when one leaves; and the least and the
/// greatest share.
fn disruption(spread: Spread, count: usize) -> (usize, f64, f64) {
    let names = names(count);
    let before = table(&names, 0, spread);
    let after = table(&names[..count - 1], 0, spread);
    let (mut moved, mut shares) = (0, vec![0_u32; count]);
    for number in 0..CLIENTS {
        let was = picked(&before, client(number));
        shares[was as usize] += 1;
        if was as usize != count - 1 && picked(&after, client(number)) != was {
            moved += 1;
        }
    }
    let even = f64::from(CLIENTS) / count as f64;
    let of = |share: Option<&u32>| f64::from(*share.unwrap()) / even;
    (moved, of(shares.iter().min()), of(shares.iter().max()))
}

#[test]
fn a_server_that_leaves_takes_its_own_clients_along_and_few_others() {
    for (count, most, uneven) in [(3, 2_000, 0.03), (10, 2_000, 0.06), (100, 3_000, 0.20)] {
        let (moved, least, greatest) = disruption(MAGLEV, count);
        println!(
            "maglev, one of {count} leaves: {moved} of {CLIENTS} others move; shares {least:.2} to {greatest:.2}"
        );
        assert!(moved < most && least > 1.0 - uneven && greatest < 1.0 + uneven);
        let (moved, least, greatest) = disruption(RING, count);
        println!(
            "ring, one of {count} leaves: {moved} of {CLIENTS} others move; shares {least:.2} to {greatest:.2}"
        );
        assert!(moved == 0 && least > 0.6 && greatest < 1.4);
    }
}

/// Clients of servers that stay as they are, and go to another one of those, of 100,000.
fn moved(before: &[u32], after: &[u32]) -> usize {
    let names = names(before.len());
    let table = |weights: &[u32]| {
        let servers = (0..).map(ServerId).zip(weights).zip(&names);
        BySource::new(servers.map(|((id, weight), name)| (id, *weight, name.as_str())), RING)
    };
    let is_same = |server: u32| before[server as usize] == after[server as usize];
    let (one, other) = (table(before), table(after));
    let both = (0..CLIENTS).map(|number| (picked(&one, client(number)), picked(&other, client(number))));
    both.filter(|(was, is)| was != is && is_same(*was) && is_same(*is)).count()
}

#[test]
fn on_a_ring_no_client_moves_between_servers_that_stay_as_they_are() {
    let cases: [(&[u32], &[u32]); 5] = [
        (&[20, 20, 80], &[20, 20, 0]),
        (&[40, 20, 20, 20], &[0, 20, 20, 20]),
        // A slow start begins, goes on and ends.
        (&[20, 20, 0], &[20, 20, 1]),
        (&[20, 20, 1], &[20, 20, 2]),
        (&[20, 20, 19], &[20, 20, 20]),
    ];
    for (before, after) in cases {
        assert_eq!(moved(before, after), 0, "{before:?} -> {after:?}");
    }
}

#[test]
fn a_ring_has_a_million_points_at_most_and_weights_hold() {
    let names = names(40);
    let weights = |id: u32| if id == 0 { 20 * 20_000 } else { 20 * 10_000 };
    let servers = (0..).map(ServerId).zip(&names).map(|(id, name)| (id, weights(id.0), name.as_str()));
    let table = BySource::new(servers, RING);
    assert!(table.places.len() as u64 <= POINTS_MAX && table.places.len() as u64 > POINTS_MAX / 2);
    let of = |server| table.places.iter().filter(|place| **place == server).count();
    assert_eq!(of(0) / of(1), 2);
}

#[test]
fn a_bound_counts_the_connections_of_who_is_full_too() {
    struct Full;
    impl Loads for Full {
        fn load(&self, server: ServerId) -> Option<u32> {
            (server.0 > 0).then_some(10)
        }
        fn connections(&self, _: ServerId) -> u32 {
            10
        }
    }
    let table = table(&names(4), 0, Spread { bound: Some(125), ..MAGLEV });
    let _ = table.pick(&[], (client(1), 0), &Full);
    assert_eq!(table.total.load(Ordering::Relaxed), 40);
}

#[test]
fn the_same_names_are_the_same_table_in_any_order_under_any_ids_and_for_ever() {
    for (spread, committed) in [(MAGLEV, [3, 3, 0, 3]), (RING, [4, 1, 4, 3])] {
        let names = names(5);
        let one = table(&names, 0, spread);
        let mut turned: Vec<_> =
            (0..).map(ServerId).zip(&names).map(|(id, name)| (id, 20, name.as_str())).collect();
        turned.reverse();
        let other = BySource::new(turned, spread);
        let later = table(&names, 900, spread);
        for number in 0..1_000 {
            let server = picked(&one, client(number));
            assert_eq!(
                (picked(&other, client(number)), picked(&later, client(number)) - 900),
                (server, server)
            );
        }
        assert_eq!([0, 1, 2, 3].map(|number| picked(&one, client(number))), committed, "{:?}", spread.table);
    }
}

#[test]
fn shares_follow_weights_and_weight_zero_has_none() {
    for spread in [MAGLEV, RING] {
        let weights = [20_u32, 0, 80, 100];
        let names = names(4);
        let servers = (0..).map(ServerId).zip(weights).zip(&names);
        let table = BySource::new(servers.map(|((id, weight), name)| (id, weight, name.as_str())), spread);
        let mut shares = [0_u32; 4];
        (0..CLIENTS).for_each(|number| shares[picked(&table, client(number)) as usize] += 1);
        for (share, weight) in shares.iter().zip(weights) {
            let due = CLIENTS / 200 * weight;
            assert!(share.abs_diff(due) <= due / 4, "{:?}: {shares:?}", spread.table);
        }
    }
}

#[test]
fn extreme_weights_end() {
    let names = names(3);
    let servers =
        (0..).map(ServerId).zip([20, 20 * u32::from(u16::MAX), 20 * u32::from(u16::MAX)]).zip(&names);
    let table = BySource::new(servers.map(|((id, weight), name)| (id, weight, name.as_str())), MAGLEV);
    assert!(table.places.iter().filter(|place| **place == 0).count() <= 2);
}

#[test]
fn of_ipv6_the_network_counts_and_a_mapped_address_is_ipv4() {
    let networked = table(&names(50), 0, MAGLEV);
    let at = |text: &str| picked(&networked, from(text.parse().unwrap()));
    assert_eq!(at("2001:db8:1:2::1"), at("2001:db8:1:2:ffff::9"));
    let networks: std::collections::HashSet<u32> =
        (0..40).map(|network| at(&format!("2001:db8:1:{network}::1"))).collect();
    assert!(networks.len() > 15, "{networks:?}");
    assert_eq!(at("::ffff:10.1.2.3"), at("10.1.2.3"));
    for ipv6_prefix in [0, 128] {
        let any = table(&names(50), 0, Spread { ipv6_prefix, ..MAGLEV });
        picked(&any, from("2001:db8::1".parse().unwrap()));
    }
}

#[test]
fn who_was_tried_or_is_full_is_passed_over() {
    for spread in [MAGLEV, RING] {
        let table = table(&names(4), 0, spread);
        for number in 0..200 {
            let own = ServerId(picked(&table, client(number)));
            let next = table.pick(&[own], (client(number), 0), &|_| Some(0));
            assert!(matches!(next, Pick::Server(server) if server != own));
            assert_eq!(table.pick(&[], (client(number), 0), &|server| (server != own).then_some(0)), next);
        }
        let all = [0, 1, 2, 3].map(ServerId);
        assert_eq!(table.pick(&all, (client(1), 0), &|_| Some(0)), Pick::None);
        assert_eq!(table.pick(&all[1..], (client(1), 0), &|_| None), Pick::Full);
    }
    assert_eq!(table(&[], 0, MAGLEV).pick(&[], (client(1), 0), &|_| Some(0)), Pick::None);
    assert_eq!(table(&[], 0, RING).pick(&[], (Client::default(), 7), &|_| Some(0)), Pick::None);
}

#[test]
fn no_server_gets_more_than_the_bound_and_clients_of_light_ones_stay() {
    let spread = Spread { bound: Some(125), ..MAGLEV };
    let names = names(8);
    let (bounded, free) = (table(&names, 0, spread), table(&names, 0, MAGLEV));
    let mut loads = [0_u32; 8];
    // All of them are one network's: a few hundred clients make most of the connections.
    let mut stayed = 0;
    for number in 0..4_000_u32 {
        let one = client(if number % 4 < 3 { number % 8 } else { number });
        let Pick::Server(server) =
            bounded.pick(&[], (one, 0), &|server: ServerId| Some(loads[server.0 as usize]))
        else {
            panic!("there is room")
        };
        loads[server.0 as usize] += 1;
        stayed += u32::from(server.0 == picked(&free, one));
        let most = (1.25 * f64::from(number + 1) / 8.0).ceil() as u32;
        assert!(loads[server.0 as usize] <= most, "{loads:?} of {number}");
    }
    assert!(stayed > 1_500, "{stayed} of 4000 went where they go without a bound");
}

#[test]
fn a_name_decides_where_that_is_the_key_and_there_is_one() {
    let by_name = table(&names(50), 0, Spread { key: HashKey::Sni, ..MAGLEV });
    let asking = |number: u32, name: &str| Client { name: Some(hash_of_name(name)), ..client(number) };
    let servers: std::collections::HashSet<u32> = (0..1_000)
        .map(|number| {
            let name = format!("{number}.example");
            let server = picked(&by_name, asking(0, &name));
            assert_eq!(server, picked(&by_name, asking(number, &name)));
            server
        })
        .collect();
    assert_eq!(servers.len(), 50);
    let by_address = table(&names(50), 0, MAGLEV);
    for number in 0..100 {
        let home = picked(&by_address, client(number));
        assert_eq!(picked(&by_name, client(number)), home, "who asks for no name goes by the address");
        assert_eq!(picked(&by_address, asking(number, "a.example")), home);
    }
    // The same in every process and every release.
    assert_eq!(picked(&by_name, asking(0, "a.example")), 46);
}

#[test]
fn a_client_without_an_address_is_anywhere() {
    let table = table(&names(8), 0, MAGLEV);
    let servers: std::collections::HashSet<Pick> =
        (0..100).map(|seed| table.pick(&[], (Client::default(), seed), &|_| Some(0))).collect();
    assert_eq!(servers.len(), 8);
}
