//! How the program behaves on the real kernel: one table of behaviours, and every engine must show each.
//!
//! Where it has a meaning, a row plays the same client and server directly connected first: what the two
//! see of each other must not change when the program stands between them.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod rows;
mod support;

/// Engines, and the table whose rows they must show.
macro_rules! engines {
    ($table:ident: $($engine:ident),*) => {
        $(mod $engine {
            const ENGINE: &str = stringify!($engine);
            $table!();
        })*
    };
}

/// Each row becomes a test of its own, named after it.
macro_rules! tests {
    ($($subject:ident: $($row:ident)*;)*) => {
        $($(
            #[test]
            fn $row() {
                crate::rows::$subject::$row(ENGINE);
            }
        )*)*
    };
}

macro_rules! table {
    () => {
        tests! {
            bytes:
                echo_small
                echo_8_mib
                both_send_4_mib_at_once
                one_byte_writes_both_ways
                one_byte_questions_and_answers
                data_and_fin_in_one_segment
                answer_and_fin_in_one_segment
                client_sends_before_the_server_accepts
                question_and_fin_before_the_server_accepts
                server_answers_1_mib_after_the_client_half_closed
                client_sends_1_mib_after_the_server_half_closed
                both_half_close_at_once
                server_speaks_first
                empty_session
                urgent_byte_stays_in_the_stream
                urgent_byte_comes_last
                ipv6
                sixty_four_clients_at_once_on_two_workers
                access_log_tells_the_connection;
            resets:
                client_resets_without_data
                server_resets_without_data
                client_resets_after_100_kb
                server_resets_after_64_kib
                client_resets_after_100_kb_to_a_slow_server
                server_resets_after_64_kib_to_a_slow_client
                client_resets_after_1_mib_to_a_slow_server
                server_resets_after_1_mib_to_a_slow_client
                client_resets_long_before_the_server_reads
                server_resets_long_before_the_client_reads
                client_resets_with_bytes_on_the_way
                server_resets_with_bytes_on_the_way
                client_resets_while_the_server_never_reads
                server_resets_while_the_client_never_reads
                server_answers_and_closes_with_input_unread
                client_resets_after_the_server_half_closed
                server_resets_after_the_client_half_closed
                client_half_closes_then_resets
                server_half_closes_then_resets
                stuck_client_resets
                stuck_server_resets
                without_rst_on_error_the_server_sees_the_end
                without_rst_on_error_the_client_sees_the_end
                rst_on_error_is_set_for_each_leg;
            stuck:
                stuck_server
                stuck_client
                fifty_stuck_servers
                fifty_stuck_clients
                drops_before_a_stuck_reader_take_no_memory
                more_stuck_readers_than_the_budget_has_buffers;
            balance:
                p2c_keeps_servers_even
                p2c_follows_the_weights
                p2c_counts_for_all_workers_together
                p2c_fills_a_server_whose_connections_ended
                p2c_skips_a_server_that_refuses
                least_time_prefers_who_answers_sooner
                least_time_counts_no_client_that_drips;
            accepting:
                least_loaded_evens_out_two_workers
                reuseport_leaves_it_to_the_kernel
                burst_over_two_workers_loses_none
                drain_of_two_workers_loses_none_that_was_accepted;
            dialing:
                round_robin_follows_the_weights
                refused_server_is_skipped
                all_servers_refuse
                same_server_is_tried_again_after_its_delay
                server_that_never_answers_is_skipped
                question_sent_while_dialing_is_kept
                no_server_answers
                client_leaves_while_dialing
                client_sends_and_resets_while_dialing;
            sockets:
                sources_have_their_turns
                ports_run_out_at_one_source_after_the_other
                server_sees_the_clients_address
                user_timeout_ends_what_nobody_acknowledges
                a_pools_limits_and_tries_are_its_own
                access_line_tells_of_both_paths
                verdict_names_the_side_that_loses;
            timeouts:
                idle_connection_is_closed
                access_line_tells_how_long_each_side_was_silent
                trickle_up_is_not_idle
                trickle_down_is_not_idle
                silent_server_after_the_clients_fin_is_given_up
                silent_client_after_the_servers_fin_is_given_up
                slow_answer_on_a_half_closed_connection_goes_on
                lifetime_ends_at_a_quiet_moment;
            limits:
                client_over_maxconn_waits
                client_over_the_process_maxconn_waits
                client_over_maxconn_is_rejected
                out_of_descriptors
                session_that_ends_gives_its_descriptors_to_a_client
                soft_limit_is_raised_for_maxconn
                maxconn_that_cannot_fit_is_refused;
            admitting:
                denied_client_is_reset
                unix_client_meets_no_rule_and_no_limit_of_sources
                source_over_its_connections_is_reset
                source_has_room_again_however_connections_end
                source_over_its_rate_is_reset
                each_listener_says_whom_it_turns_away
                dry_run_lets_in_and_tells
                clients_over_the_listeners_rate_wait
                client_over_the_listeners_rate_is_rejected
                clients_of_both_families_at_one_address;
            queueing:
                client_waits_until_a_server_has_room
                another_server_with_room_is_used
                client_that_closes_leaves_the_queue
                client_that_resets_leaves_the_queue
                client_that_sends_and_resets_leaves_the_queue
                half_closed_client_with_a_question_is_served
                full_queue_turns_away
                without_a_queue_nobody_waits
                waiting_has_its_limit
                freed_places_go_to_whoever_waits_longest
                refused_attempt_gives_its_place_back
                without_a_server_a_client_is_closed_if_that_is_wanted;
            heads:
                header_in_one_byte_segments_then_bulk_both_ways
                header_and_question_are_cut_anywhere
                bulk_in_one_go_behind_a_header
                fin_right_behind_the_head
                client_resets_within_its_header
                header_has_one_deadline
                empty_connection_is_closed_without_a_word
                bad_header_is_reset_and_told_with_its_beginning
                next_server_gets_all_of_it
                queue_with_heads
                untrusted_peer_is_reset_or_its_header_is_payload
                header_without_addresses_leaves_the_sockets
                rules_and_limits_are_about_the_told_client
                servers_are_told_first_who_the_client_is
                servers_are_told_of_plain_clients
                heads_over_unix_sockets;
            hellos:
                hello_in_one_byte_segments_and_ten_records_routes_right
                wrong_name_gets_the_alert_and_fin
                hello_has_its_limit
                postgres_client_is_answered_and_its_server_asked
                postgres_client_that_resets_is_not_waited_for
                servers_are_told_the_name_and_the_protocol
                names_stick_to_servers
                server_that_speaks_first_does;
            pace:
                download_is_held_to_its_rate_and_nothing_is_lost
                upload_is_held_to_its_rate_and_the_answer_is_not
                both_directions_are_held_each_for_itself
                each_connection_has_its_rate_for_itself
                below_its_rate_nothing_waits_and_at_rest_nothing_wakes
                client_that_resets_while_it_is_held_up_is_passed_on;
            sets:
                two_engines_carry_64_clients_each_on_two_workers_each
                two_engines_share_the_process_maxconn
                two_engines_drain_together
                second_signal_stops_two_engines_at_once;
            drain:
                term_lets_sessions_finish
                int_lets_sessions_finish
                quit_lets_sessions_finish
                clients_in_the_backlog_are_served_at_term
                hard_stop_resets_what_is_left
                second_signal_stops_at_once
                other_signals_give_one_line_each;
            leaving:
                grace_still_accepts
                idle_connections_leave_evenly_over_the_spread
                idle_connections_leave_before_busy_ones
                without_idle_first_they_leave_in_any_order
                without_spread_they_leave_at_once
                answer_that_takes_long_is_not_cut
                busy_for_ever_is_reset_at_hard_stop
                second_signal_ends_the_grace
                progress_is_told;
            vanished:
                dead_server_is_given_up
                last_words_of_a_dead_server_are_delivered
                dead_client_is_given_up
                outage_shorter_than_dead_peer_is_survived
                reader_with_its_window_shut_is_not_dead
                keepalive_notices_an_idle_server_that_vanished;
            unix:
                echo_8_mib_over_unix_sockets
                one_byte_questions_and_answers_over_unix_sockets
                half_closed_by_the_client_over_unix_sockets
                half_closed_by_the_server_over_unix_sockets
                bytes_behind_a_descriptor_arrive
                urgent_byte_on_a_unix_socket_stays_in_the_stream
                unix_server_closes_with_input_unread
                unix_client_closes_with_input_unread
                reset_towards_a_unix_server_is_a_close_behind_the_last_byte
                reset_towards_a_unix_client_is_a_close_behind_the_last_byte
                unix_servers_without_a_listener_are_skipped
                full_queue_of_a_unix_server_is_waited_for
                file_that_was_left_behind_is_replaced
                path_in_use_is_refused_with_its_holder
                file_that_is_no_socket_is_left_alone
                file_goes_when_the_program_ends
                unix_clients_are_spread_over_two_workers
                names_without_a_file_in_front_and_behind;
            leaks:
                closed_connections_leave_no_descriptor
                broken_connections_leave_no_descriptor
                memory_is_flat_over_5000_connections;
        }
    };
}

/// What `splice = "auto"` may not change, for the engines that can splice.
macro_rules! spliced_table {
    () => {
        tests! {
            splice:
                spliced_bulk_arrives_whole_both_ways_at_once
                spliced_half_closed_by_the_client
                spliced_half_closed_by_the_server
                client_resets_behind_spliced_bulk
                server_resets_behind_spliced_bulk
                pipe_of_a_reset_reader_is_not_used_again
                urgent_byte_within_spliced_bulk
                urgent_byte_and_fin_behind_spliced_bulk
                small_messages_are_never_spliced
                pipes_are_returned
                stuck_readers_of_spliced_bulk
                without_descriptors_bulk_is_copied
                bulk_between_unix_sockets_is_spliced;
        }
    };
}

// Every engine there is.
engines!(table: mio, io_uring, threads, epoll_level, poll, select, sigio, aio);

mod spliced {
    // Those of readiness.
    engines!(spliced_table: mio, epoll_level, poll, select, sigio, aio);
}
