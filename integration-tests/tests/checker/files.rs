//! What is written is what is read.

use std::io::Write;

use convoy_conformance::checker::{Checker, Options, correct};
use convoy_conformance::history::{
    Event, Invalid, Memory, Merge, RECORD_LEN, Record, Recorder, What, Writer, body_hash, now, session_hash,
};

use crate::samples::samples;

#[test]
fn every_kind_of_event_survives_its_bytes() {
    let mut kinds = std::collections::HashSet::new();
    for event in samples() {
        kinds.insert(std::mem::discriminant(&event.what));
        assert_eq!(Event::try_from(&Record::from(&event)), Ok(event));
    }
    assert_eq!(kinds.len(), 23);
    assert_eq!(RECORD_LEN, 96);
    assert_eq!(Event::try_from(&Record::default()), Err(Invalid { version: 0, kind: 0 }));
}

#[test]
fn files_merge_by_time_process_and_number_and_a_torn_record_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("1"), dir.path().join("2")];
    let writers = [Writer::create(&paths[0], 1).unwrap(), Writer::create(&paths[1], 2).unwrap()];
    // Within a file the times are only nearly in order.
    for (at, time) in [5, 3, 4, 9, 8, 8].into_iter().enumerate() {
        writers[at % 2].record(time, 0, What::KillSent { target: at as u32 });
    }
    assert!(Writer::create(&paths[0], 1).is_err(), "numbers would repeat");
    let mut torn = std::fs::OpenOptions::new().append(true).open(&paths[1]).unwrap();
    torn.write_all(&[1; 17]).unwrap();

    let mut merge = Merge::open(&paths).unwrap();
    let events: Vec<_> = merge.by_ref().map(Result::unwrap).collect();
    let keys: Vec<_> = events.iter().map(|e| (e.time, e.process, e.number)).collect();
    assert_eq!(keys, [(3, 2, 0), (4, 1, 1), (5, 1, 0), (8, 1, 2), (8, 2, 2), (9, 2, 1)]);
    assert_eq!((merge.torn().len(), merge.torn()[0].bytes, merge.disordered()), (1, 17, 0));
}

#[test]
fn a_file_of_another_format_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("foreign");
    std::fs::write(&path, [9; RECORD_LEN]).unwrap();
    assert_eq!(Merge::open([path]).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn a_history_judged_from_its_file_is_the_history_judged_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("1");
    let (writer, memory) = (Writer::create(&path, 1).unwrap(), Memory::new(1));
    for event in correct(7_000) {
        writer.record(event.time, event.group, event.what);
        memory.record(event.time, event.group, event.what);
    }
    let mut checker = Checker::new(Options::total());
    memory.take().iter().for_each(|event| checker.push(event));
    let from_memory = checker.finish();
    checker.reset();
    Merge::open([path]).unwrap().for_each(|event| checker.push(&event.unwrap()));
    let from_file = checker.finish();
    assert!(from_file.is_ok() && from_file.is_live(), "{from_file}");
    assert_eq!(from_file.result(), from_memory.result());
    assert_eq!(from_file.messages(), 1_000);
}

#[test]
fn hashes_stay_what_they_are() {
    // Pinned: histories of two versions must agree.
    assert_eq!(session_hash(b"order-1"), 0x491b_422e_3af0_d9a5);
    assert_ne!(session_hash(b""), session_hash(b"\0"));
    let headers: [(&[u8], &[u8]); 2] = [(b"a", b"1"), (b"b", b"2")];
    assert_eq!(body_hash(b"x", headers), body_hash(b"x", [headers[1], headers[0]]));
    assert_ne!(body_hash(b"x", headers), body_hash(b"x", [headers[0]]));
    let shifted: [(&[u8], &[u8]); 1] = [(b"a1", b"")];
    assert_ne!(body_hash(b"x", [headers[0]]), body_hash(b"x", shifted));
    assert!(now() <= now());
}
