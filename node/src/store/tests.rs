//! The database: migrations, queries, and what a full queue does.

use super::*;
use std::path::PathBuf;

fn open() -> (tempfile::TempDir, PathBuf, Store, StoreThread) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("node.db");
    let (store, thread) = Store::open(&path).expect("opens");
    (folder, path, store, thread)
}

fn tenant(domain: &str, numbers: &[&str]) -> TenantRow {
    TenantRow {
        domain: domain.into(),
        numbers: numbers.iter().map(|number| NumberRow { trunk: None, number: (*number).into() }).collect(),
        fallback: FallbackRow::Refuse { status: 503 },
        max_sessions: 10,
        ..TenantRow::default()
    }
}

fn recording(id: &str, domain: &str, created_at: u64) -> RecordingRow {
    RecordingRow { id: id.into(), domain: domain.into(), created_at, ..RecordingRow::default() }
}

#[test]
fn how_long_the_node_has_run_goes_on_after_a_restart_and_not_between() {
    let (_folder, path, store, thread) = open();
    std::thread::sleep(std::time::Duration::from_millis(30));
    let before = store.running_ms();
    assert!(before >= 30, "{before}");
    thread.close();
    let closed = store.running_ms();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (store, thread) = Store::open(&path).expect("opens again");
    let after = store.running_ms();
    assert!((before..closed + 250).contains(&after), "{before} {closed} {after}");
    thread.close();
}

#[test]
fn what_was_written_is_there_after_opening_again() {
    let (folder, path, store, thread) = open();
    store.put_tenant(tenant("a.example", &["100"]), "test").expect("put");
    store.put_recordings(vec![recording("r1", "a.example", 5)]).expect("put");
    store.save_call(CallRow { session: "s1".into(), domain: "a.example".into(), ..CallRow::default() });
    for file in std::fs::read_dir(folder.path()).expect("there").flatten() {
        let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().expect("there").permissions());
        assert_eq!(mode & 0o077, 0, "{:?} is open to others", file.file_name());
    }
    thread.close();
    assert_eq!(store.flush(), Err(StoreError::Closed));

    let (store, thread) = Store::open(&path).expect("opens again");
    assert_eq!(store.tenant("a.example").expect("read").expect("there").numbers[0].number, "100");
    assert_eq!(store.recording("r1").expect("read").expect("there").created_at, 5);
    assert_eq!(store.calls(Some("a.example"), None, 10).expect("read")[0].session, "s1");
    thread.close();
}

#[test]
fn a_number_leads_to_one_tenant() {
    let (_folder, _path, store, _thread) = open();
    assert_eq!(store.put_tenant(tenant("a.example", &["100", "101"]), "test"), Ok(true));
    assert_eq!(
        store.put_tenant(tenant("b.example", &["200", "101"]), "test"),
        Err(StoreError::Conflict { field: "numbers", why: "101 belongs to a.example".into() })
    );
    // Refused as a whole: not even the tenant is there.
    assert_eq!(store.tenant("b.example"), Ok(None));
    assert_eq!(
        store.put_tenant(tenant("a.example", &["7", "7"]), "test"),
        Err(StoreError::Conflict { field: "numbers", why: "7 is listed twice".into() })
    );
    assert_eq!(store.tenant("a.example").expect("read").expect("there").numbers.len(), 2);
    // The same number from one trunk is another number than from any.
    let mut from_trunk = tenant("b.example", &[]);
    from_trunk.numbers = vec![NumberRow { trunk: Some("carrier".into()), number: "101".into() }];
    assert_eq!(store.put_tenant(from_trunk.clone(), "test"), Ok(true));
    assert_eq!(store.put_tenant(from_trunk, "test"), Ok(false));
}

#[test]
fn the_default_tenant_is_one_and_configuration_names_it() {
    let (_folder, _path, store, _thread) = open();
    let mut a = tenant("a.example", &["100"]);
    a.default = true;
    a.fallback = FallbackRow::Announce { files: vec!["closed.wav".into()] };
    a.error_prompt = Some("sorry.wav".into());
    store.put_tenant(a, "test").expect("a");
    let mut b = tenant("b.example", &[]);
    b.default = true;
    store.put_tenant(b.clone(), "test").expect("b");

    let configuration = store.configuration().expect("read");
    assert_eq!(configuration.default_domain.as_deref(), Some("b.example"));
    assert!(!store.tenant("a.example").expect("read").expect("there").default);
    let a = configuration.tenants.iter().find(|tenant| &*tenant.domain == "a.example").expect("there");
    assert_eq!(a.numbers, [(None, "100".to_owned())]);
    let phrases = vec![hookswitch_call::Phrase::File { file_name: "closed.wav".into() }];
    assert_eq!(a.fallback, hookswitch_call::Fallback::Announce { phrases });
    assert_eq!(a.error_prompt.as_deref(), Some("sorry.wav"));

    b.default = false;
    store.put_tenant(b, "test").expect("b");
    assert_eq!(store.default_domain(), Ok(None));
}

fn new<'a>(domain: &'a str, sha256: &'a str) -> NewVersion<'a> {
    NewVersion { domain, sha256, size: 1, note: "", signature: None }
}

#[test]
fn a_version_is_tried_beside_the_active_one_until_something_changes() {
    let (_folder, _path, store, _thread) = open();
    store.put_tenant(tenant("a.example", &[]), "test").expect("put");
    for hash in ["x", "y", "z"] {
        store.add_version(new("a.example", hash), 2, "test").expect("add");
    }
    store.activate_version("a.example", 2, "test").expect("activate");
    let ten = Share::Percent(10);
    assert_eq!(store.try_version("a.example", 1, &ten, "test"), Err(StoreError::Unknown("version")), "it went");
    store.try_version("a.example", 3, &ten, "test").expect("tried");
    let shares = || store.versions("a.example").expect("read").into_iter().map(|v| (v.number, v.active, v.canary)).collect::<Vec<_>>();
    assert_eq!(shares(), [(3, false, Some(ten.clone())), (2, true, None)]);
    let numbers = Share::Numbers(vec!["100".into(), "ivr".into()]);
    store.try_version("a.example", 3, &numbers, "test").expect("tried");
    assert_eq!(shares(), [(3, false, Some(numbers)), (2, true, None)]);
    assert_eq!(store.deployed_versions().expect("read").len(), 2);
    // Neither many newer ones nor a rollback of something else make it go.
    for hash in ["p", "q", "r"] {
        store.add_version(new("a.example", hash), 2, "test").expect("add");
    }
    assert_eq!(shares().iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [6, 5, 3, 2]);

    let back = store.roll_back_version("a.example", 3, "node", "it failed").expect("back");
    assert_eq!((back.version.number, back.canary), (2, true));
    assert!(shares().iter().all(|(.., canary)| canary.is_none()));
    // Activating ends what is tried, also where nothing else changes.
    for number in [3, 2] {
        store.try_version("a.example", 5, &ten, "test").expect("tried");
        store.activate_version("a.example", number, "test").expect("activate");
        assert!(shares().iter().all(|(.., canary)| canary.is_none()));
    }
    store.try_version("a.example", 5, &ten, "test").expect("tried");
    store.activate_version("a.example", 2, "test").expect("activate");
    // The active one goes back; what is tried beside it stays, but for the one that is active now.
    for (tried, stays) in [(5, true), (3, false)] {
        store.activate_version("a.example", 3, "test").expect("activate");
        store.activate_version("a.example", 2, "test").expect("activate");
        store.try_version("a.example", tried, &ten, "test").expect("tried");
        let back = store.roll_back_version("a.example", 2, "node", "it failed").expect("back");
        assert_eq!((back.version.number, back.canary), (3, false));
        assert_eq!(store.version("a.example", 5).expect("read").expect("there").canary.is_some(), stays);
        assert!(back.version.canary.is_none());
    }
    assert_eq!(store.roll_back_version("a.example", 6, "node", ""), Err(StoreError::Unknown("version")), "it has no calls");
    let audit: Vec<(String, String)> = store.audit(None, 100).expect("read").into_iter().map(|row| (row.what, row.detail)).collect();
    let has = |what: &str, detail: &str| audit.iter().any(|(w, d)| w == what && d == detail);
    assert!(has("version no longer tried", "3: it failed") && has("version no longer tried", "5"), "{audit:?}");
    assert!(has("version tried", "3: 10 %") && has("version tried", "3: numbers 100, ivr"), "{audit:?}");

    assert!(!store.version("a.example", 2).expect("read").expect("there").proven);
    store.prove_version("a.example", 2).expect("proven");
    assert!(store.version("a.example", 2).expect("read").expect("there").proven);
}

#[test]
fn a_signature_comes_with_a_version_or_later_and_policies_are_kept() {
    let (_folder, _path, store, _thread) = open();
    store.put_tenant(tenant("a.example", &[]), "test").expect("put");
    store.add_version(new("a.example", "x"), 10, "test").expect("add");
    let signed = NewVersion { signature: Some("k:s"), ..new("a.example", "x") };
    let added = store.add_version(signed, 10, "test").expect("add");
    assert_eq!((added.known, added.version.signature.as_deref()), (true, Some("k:s")));
    // Pushed again without one it keeps it.
    store.add_version(new("a.example", "x"), 10, "test").expect("add");
    assert_eq!(store.version("a.example", 1).expect("read").expect("there").signature.as_deref(), Some("k:s"));

    assert_eq!(store.guest_policy("a.example"), Ok(None));
    let policy = GuestPolicyRow {
        require_signature: true,
        signing_keys: vec!["key".into()],
        trial_calls: 1,
        trial_min_calls: 2,
        trial_failed_percent: 3,
    };
    store.put_guest_policy("a.example", &policy, "test").expect("put");
    assert_eq!(store.guest_policy("a.example"), Ok(Some(policy.clone())));
    assert_eq!(store.put_guest_policy("b.example", &policy, "test"), Err(StoreError::Unknown("domain")));
    store.delete_tenant("a.example", "test").expect("delete");
    assert_eq!(store.guest_policy("a.example"), Ok(None));
}

#[test]
fn versions_count_up_and_roll_back_goes_the_way_back() {
    let (_folder, _path, store, _thread) = open();
    assert_eq!(store.add_version(new("a.example", "x"), 100, "test"), Err(StoreError::Unknown("domain")));
    store.put_tenant(tenant("a.example", &[]), "test").expect("put");
    let add = |hash: &str| store.add_version(new("a.example", hash), 100, "test").expect("add");
    assert_eq!((add("x").version.number, add("y").version.number, add("z").version.number), (1, 2, 3));
    let again = add("y");
    assert!(again.known);
    assert_eq!(again.version.number, 2);

    assert_eq!(store.roll_back_version("a.example", 1, "test", ""), Err(StoreError::Unknown("version")));
    assert_eq!(store.activate_version("a.example", 4, "test"), Err(StoreError::Unknown("version")));
    assert_eq!(store.activate_version("a.example", 1, "test"), Ok(None));
    assert_eq!(store.activate_version("a.example", 1, "test"), Ok(Some(1)));
    assert_eq!(store.activate_version("a.example", 3, "test"), Ok(Some(1)));
    assert_eq!(store.activate_version("a.example", 2, "test"), Ok(Some(3)));
    assert_eq!(store.deployed_versions().expect("read").iter().map(|v| v.number).collect::<Vec<_>>(), [2]);
    assert_eq!(store.rollback_target("a.example").expect("read").expect("there").number, 3);
    assert_eq!(store.roll_back_version("a.example", 2, "test", "").expect("back").version.number, 3);
    assert_eq!(store.roll_back_version("a.example", 3, "test", "").expect("back").version.number, 1);
    assert_eq!(store.roll_back_version("a.example", 1, "test", ""), Err(StoreError::Unknown("earlier version")));
    assert_eq!(
        store.versions("a.example").expect("read").iter().map(|v| (v.number, v.active)).collect::<Vec<_>>(),
        [(3, false), (2, false), (1, true)]
    );
}

#[test]
fn old_versions_go_but_not_those_in_use() {
    let (_folder, _path, store, _thread) = open();
    store.put_tenant(tenant("a.example", &[]), "test").expect("put");
    store.put_tenant(tenant("b.example", &[]), "test").expect("put");
    store.add_version(new("b.example", "h3"), 3, "test").expect("shared");
    for number in 1..=3 {
        store.add_version(new("a.example", &format!("h{number}")), 3, "test").expect("add");
    }
    store.activate_version("a.example", 1, "test").expect("activate");
    store.activate_version("a.example", 2, "test").expect("activate");
    let mut orphans = Vec::new();
    for number in 4..=6 {
        orphans.extend(store.add_version(new("a.example", &format!("h{number}")), 3, "test").expect("add").orphans);
    }
    // 2 is active, 1 is what rolling back returns to, 3 went; its component stays since the other tenant uses it.
    let left: Vec<u32> = store.versions("a.example").expect("read").iter().map(|version| version.number).collect();
    assert_eq!(left, [6, 5, 4, 2, 1]);
    assert_eq!(orphans, Vec::<String>::new());
    let orphans = store.add_version(new("a.example", "h7"), 3, "test").expect("add").orphans;
    assert_eq!(orphans, ["h4"]);
    // Numbers are never given twice.
    assert_eq!(store.add_version(new("a.example", "h3"), 3, "test").expect("add").version.number, 8);
    let mut orphans = store.delete_tenant("a.example", "test").expect("delete");
    orphans.sort();
    assert_eq!(orphans, ["h1", "h2", "h6", "h7"]);
}

#[test]
fn recordings_page_newest_first() {
    let (_folder, _path, store, _thread) = open();
    for (id, domain, at) in [("a", "x", 1), ("b", "x", 2), ("c", "y", 2), ("d", "x", 2), ("e", "x", 3)] {
        store.put_recording(recording(id, domain, at)).expect("put");
    }
    let page = |domain: Option<&str>, before: Option<(u64, &str)>, limit| -> Vec<String> {
        let before = before.map(|(at, id)| (at, id.to_owned()));
        store.recordings(domain, before, limit).expect("read").into_iter().map(|row| row.id).collect()
    };
    assert_eq!(page(None, None, 10), ["e", "d", "c", "b", "a"]);
    assert_eq!(page(Some("x"), None, 2), ["e", "d"]);
    assert_eq!(page(Some("x"), Some((2, "d")), 2), ["b", "a"]);
    assert_eq!(page(Some("y"), Some((2, "c")), 2), Vec::<String>::new());
}

#[test]
fn a_recording_has_one_terminal_state() {
    let (_folder, _path, store, _thread) = open();
    store.put_recording(recording("r", "x", 1)).expect("put");
    assert_eq!(store.unfinished_recordings().expect("read").len(), 1);
    store.put_recording(RecordingRow { state: RecordingState::Available, size: 44, ..recording("r", "x", 9) }).expect("put");
    store.put_recording(RecordingRow { state: RecordingState::Failed, size: 0, ..recording("r", "x", 9) }).expect("put");
    let row = store.recording("r").expect("read").expect("there");
    assert_eq!((row.state, row.size, row.created_at), (RecordingState::Available, 44, 1));
    assert!(store.unfinished_recordings().expect("read").is_empty());
    store.begin_erasing("r", "over", "test", 1).expect("begun");
    assert!(!store.finish_erasing("r").expect("erased"), "nothing was delivered of it");
    assert_eq!(store.begin_erasing("r", "over", "test", 1), Err(StoreError::Unknown("recording")));
    assert_eq!(store.gone("x", "r").expect("read").map(|gone| gone.why).as_deref(), Some("over"));
    assert_eq!(store.gone("y", "r").expect("read"), None);
}

#[test]
fn an_error_takes_back_only_its_own_change() {
    let (_folder, _path, store, _thread) = open();
    // Queued first, so that they share a transaction with what follows.
    store.put_recording(recording("kept", "x", 1)).expect("put");
    let failed: Result<(), StoreError> = store.wait(|db| {
        db.execute("INSERT INTO settings (key, value) VALUES ('half', 'done')", [])?;
        Err(StoreError::Unknown("thing"))
    });
    assert_eq!(failed, Err(StoreError::Unknown("thing")));
    assert_eq!(store.setting("half"), Ok(None));
    assert!(store.recording("kept").expect("read").is_some());
}

#[test]
fn a_full_queue_drops_call_records_and_counts_them() {
    let (_folder, _path, store, thread) = open();
    let (release, held) = mpsc::sync_channel::<()>(0);
    let (stalls, stalling) = mpsc::sync_channel::<()>(0);
    let stalled = store.clone();
    let stall = std::thread::spawn(move || {
        stalled.wait(move |_| {
            let _ = stalls.send(());
            let _ = held.recv();
            Ok(())
        })
    });
    stalling.recv().expect("the stalling job runs");
    for _ in 0..QUEUE + 10 {
        store.save_call(CallRow::default());
    }
    assert_eq!(store.lost(), 10);
    release.send(()).expect("the stalled job waits");
    stall.join().expect("no panic").expect("done");
    store.flush().expect("flushed");
    let stored: i64 = store.wait(|db| Ok(db.query_row("SELECT count(*) FROM call_records", [], |row| row.get(0))?)).expect("read");
    assert_eq!(stored.cast_unsigned(), QUEUE as u64);
    thread.close();
}

#[test]
fn changes_are_in_the_audit() {
    let (_folder, _path, store, _thread) = open();
    store.put_tenant(tenant("a.example", &[]), "operator").expect("put");
    store.add_version(new("a.example", "x"), 100, "operator").expect("add");
    store.activate_version("a.example", 1, "operator").expect("activate");
    store.save_audit("operator", "a.example", "prompt stored", "hello.wav");
    store.delete_tenant("a.example", "operator").expect("delete");
    let what: Vec<String> = store.audit(None, 10).expect("read").into_iter().map(|line| line.what).collect();
    assert_eq!(what, ["tenant removed", "prompt stored", "version activated", "version uploaded", "tenant added"]);
}
