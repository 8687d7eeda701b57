//! What every adapter of the store has to keep: one suite, mounted once per adapter.
//!
//! An adapter brings a [`Harness`] and mounts the suite with one line, `store_contract!(ItsHarness)`, in a module of
//! its own; each case then is a test of its own there.

mod audit;
mod checkpoints;
mod commits;
mod damage;
mod feed;
mod keys;
mod lists;
mod postgres;
mod providers;
mod races;
pub mod rows;
mod slots;
mod sqlite;
mod tokens;
mod watched;

use std::future::Future;
use std::time::Duration;

use kiket_sidecar::crypto::chain::ChainKey;
use kiket_sidecar::crypto::keyring::Keyring;
use kiket_sidecar::domain::time::Timestamp;
use kiket_sidecar::store::SharedStore;

/// Longer than anything takes; a test that hangs fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An adapter over a database of its own.
pub trait Harness: Sync {
    /// A database that nobody has used yet.
    fn fresh() -> Self;

    /// Opens the store over it. Opened again, after the store before was dropped, it holds the same rows.
    fn open(&self, chain: ChainKey) -> impl Future<Output = SharedStore>;

    /// Runs SQL as somebody who has got at the database; at least one row has to be touched.
    fn damage(&self, sql: &'static str) -> impl Future<Output = ()>;
}

/// A chain key as a keyring has one.
pub fn chain_key() -> ChainKey {
    Keyring::generate(Timestamp(1)).unwrap().chain_key()
}

/// Mounts every case over an adapter.
macro_rules! store_contract {
    ($harness:ty) => {
        store_contract! { @ $harness:
            commits::a_row_that_was_written_is_read_back_as_it_was,
            commits::rows_outlive_the_store_that_wrote_them,
            commits::a_change_with_one_conflict_writes_nothing_at_all,
            commits::an_insert_conflicts_with_what_is_there_and_a_replacement_with_any_other_version,
            commits::of_writers_that_read_the_same_version_one_wins,
            commits::a_commit_that_is_dropped_has_happened_entirely_or_not_at_all,
            commits::an_answering_store_is_healthy,
            slots::slots_answer_what_stands_there_tombstones_included_and_nothing_else,
            slots::slots_are_asked_many_at_a_time_and_each_row_comes_once,
            slots::slots_of_one_question_are_read_in_one_snapshot,
            slots::an_installation_comes_with_its_extension_or_not_at_all,
            slots::an_installation_and_its_extension_are_read_in_one_snapshot,
            slots::a_scope_is_known_once_anything_of_the_organization_names_it,
            lists::an_organization_lists_its_own_secrets_only_and_never_a_partners,
            lists::an_organization_lists_its_own_installations_only,
            lists::a_query_narrows_by_scope_id_and_key_together,
            lists::tombstones_are_never_listed,
            lists::pages_meet_without_gap_or_overlap_at_every_limit,
            lists::pages_stay_stable_while_rows_are_written,
            providers::an_organization_has_its_own_providers_only_and_by_name,
            providers::a_provider_is_replaced_and_removed_at_the_version_that_stands,
            providers::an_organization_has_one_default_provider_at_most,
            providers::an_organization_has_a_bounded_number_of_providers,
            providers::a_change_of_providers_is_told_and_names_the_organization,
            providers::an_edited_provider_is_damaged,
            tokens::a_token_is_found_by_its_hash_alone,
            tokens::a_token_is_found_by_its_id,
            tokens::the_last_operator_token_without_an_end_stays,
            tokens::a_hash_is_taken_once,
            tokens::an_operator_token_is_noticed_and_no_other,
            audit::every_chain_counts_from_one_without_gaps_and_holds,
            audit::entries_of_concurrent_writers_stand_in_one_unbroken_chain,
            audit::a_change_that_fails_leaves_no_entry,
            audit::a_chain_goes_on_after_a_restart_and_is_read_from_any_position,
            audit::a_chain_does_not_hold_under_another_key_or_after_an_edit,
            checkpoints::every_chain_is_named_and_ends_where_its_head_says,
            checkpoints::checkpoints_are_read_from_any_position_and_the_last_before_a_moment,
            checkpoints::a_chain_is_removed_up_to_a_checkpoint_only_and_goes_on_from_there,
            feed::every_change_is_told_in_commit_order,
            feed::a_position_outlives_a_restart_and_misses_nothing,
            feed::a_reader_that_reads_on_is_told_nothing_twice_and_nothing_of_a_failed_change,
            feed::concurrent_changes_are_all_told_to_a_reader_that_reads_along,
            feed::a_commit_wakes_whoever_waits,
            races::of_providers_that_become_the_default_at_once_one_does,
            races::of_alerts_that_say_the_same_at_once_one_is_raised,
            races::of_the_last_operator_tokens_one_stays_however_many_are_removed_at_once,
            races::a_notice_is_leased_to_one_of_those_who_ask_at_once,
            races::a_named_request_is_one_of_those_that_come_at_once,
            races::a_chain_that_many_begin_at_once_has_one_beginning,
            races::writers_that_hold_what_the_other_waits_for_both_get_through,
            keys::a_key_is_promoted_after_the_last_one_and_only_where_every_live_instance_has_it,
            keys::a_key_is_retired_once_where_another_one_is_active_and_nothing_is_under_it,
            keys::nothing_is_stored_under_a_retired_key,
            keys::of_one_who_seals_and_one_who_retires_at_once_the_second_sees_the_first,
            keys::rows_under_a_key_are_found_page_by_page_and_counted,
            keys::a_row_comes_under_another_key_as_it_was_read_or_stays,
            keys::a_promotion_and_a_retirement_are_told_and_nothing_else_of_keys,
            keys::an_instance_is_there_until_it_leaves_or_is_not_seen_for_long,
            keys::a_lease_is_one_holders_until_it_ends,
            damage::an_edited_row_is_damaged_and_says_nothing_of_itself,
        }
    };
    (@ $harness:ty: $($question:ident::$case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let harness = <$harness as crate::store_contract::Harness>::fresh();
                let case = crate::store_contract::$question::$case(&harness);
                tokio::time::timeout(crate::store_contract::PATIENCE, case).await.expect("hangs");
            }
        )*
    };
}
use store_contract;
