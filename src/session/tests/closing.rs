//! What a peer sees when the other one has failed.

use super::*;

#[test]
fn without_rst_on_error_a_peer_is_closed_by_fin_once_it_has_everything() {
    let (client, server) = (Side::Client, Side::Server);
    for (of_clients, of_servers) in [(false, true), (true, false), (false, false)] {
        for (by, resets) in [(server, of_clients), (client, of_servers)] {
            let mut config = config(&[1]);
            config.listeners[0].tcp.rst_on_error = of_clients;
            config.pools[0].tcp.rst_on_error = of_servers;
            let connected = || {
                let mut life = Life::new(&config);
                life.at(0, Input::Dialed(Ok(())));
                life
            };
            let peer = by.other();
            let order = if resets { Order::Reset { spare: Some(peer) } } else { Order::Dismiss { peer } };
            let end = End::Reset { by, fault: Fault::Reset };
            let mut life = connected();
            assert_eq!(life.ended(50, end, false), Some(order));
            let mut looks = 0;
            // As long as it has not, it is asked again, and in the end it is reset.
            while let Some(at) = life.deadline() {
                let again = life.at(at, Input::Deadline(None));
                let is_last = life.deadline().is_none();
                assert_eq!(again, Some(if is_last { Order::Reset { spare: None } } else { order }));
                looks += 1;
            }
            assert!(looks > 100, "{looks} looks in `half_close`");
            // What it was not given would look like the whole.
            assert_eq!(connected().ended(50, end, true), Some(Order::Reset { spare: None }));
        }
    }
}
