//! The running program under its control plane: what a reload changes, for whom, and that nobody else notices.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod control;
mod support;

/// Rows of a subject, each a test with that engine.
macro_rules! rows {
    ($($subject:ident: $($row:ident)*;)*) => {
        $($(
            #[test]
            fn $row() {
                crate::control::$subject::$row(ENGINE);
            }
        )*)*
    };
}

/// What is up to the engines.
macro_rules! table {
    ($($engine:ident),*) => {
        $(mod $engine {
            const ENGINE: &str = stringify!($engine);
            rows! {
                servers:
                    weights_hold_for_new_connections
                    server_is_added
                    removed_server_drains
                    drain_timeout_resets_the_rest
                    removed_server_closes
                    removed_server_keeps
                    server_that_comes_back_has_its_old_count
                    address_of_a_server_changes
                    client_on_its_way_to_a_removed_server_is_not_its
                    pool_of_a_listener_changes
                    members_come_and_go_under_new_connections;
                listeners:
                    listener_is_added
                    removed_listener_serves_its_backlog
                    listener_is_renamed
                    second_address_comes_and_goes
                    engine_changes_under_new_connections
                    unix_listener_comes_and_goes
                    backlog_changes_under_new_connections
                    range_of_ports_grows_and_shrinks
                    name_without_a_file_comes_and_goes;
                settings:
                    idle_timeout_holds_for_who_is_there
                    options_hold_for_new_connections
                    process_maxconn_falls_and_rises
                    both_limits_fall_while_a_client_waits
                    listener_maxconn_falls_and_rises
                    paths_of_connections_that_go_on_are_sampled;
                ending:
                    kill_by_server
                    kill_by_source_age_and_number
                    kill_finds_the_idle_at_the_first_look
                    kill_reaches_who_is_on_the_way
                    rebalance_evens_out_and_takes_the_idle_first;
            }
        })*
    };
}

table!(mio, io_uring, threads);

/// What no engine has a part in.
mod any {
    const ENGINE: &str = "mio";
    rows! {
        servers:
            client_that_reaches_a_removed_server_late_leaves_it
            close_rate_holds
            close_rate_holds_for_the_rest
            server_that_comes_back_keeps_who_was_not_told;
        settings:
            log_level_changes
            retries_and_connect_change;
        listeners:
            each_route_is_counted
            v6only_takes_another_socket
            full_queue_is_counted;
        refusing:
            refused_reload_changes_nothing
            all_busy_addresses_are_named
            hang_up_reloads
            engine_that_cannot_start_changes_nothing
            watched_files_are_reloaded
            watched_includes_are_reloaded
            names_that_do_not_exist_are_refused
            stopping_process_refuses_reloads
            control_socket_is_the_owners_and_goes_with_the_process;
        confirming:
            reload_is_taken_back_unless_it_is_confirmed
            confirmed_reload_stays
            rollback_takes_it_back_at_once
            what_is_set_during_a_trial_outlives_its_rollback
            rollback_brings_no_client_to_a_drained_server
            connect_errors_take_it_back_before_its_time
            what_is_set_by_hand_holds_over_reloads
            difference_is_what_a_reload_does;
        show:
            a_crowd_notices_nothing_of_many_reloads
            idle_connections_that_began_together_outlive_their_probes
            silent_reloads_leave_nothing_behind
            three_hundred_clients_a_second_see_no_server_go
            sessions_are_killed_at_the_rate_that_is_asked_for
            attack_on_the_admin_side_slows_no_session;
    }
}
