use super::*;

fn collect(recovery: &mut Recovery, from: Position) -> (Vec<(Position, Vec<u8>)>, Replayed) {
    let mut records = Vec::new();
    let replayed = recovery
        .replay(from, OnDamage::Stop, |position, payload| {
            records.push((position, payload.to_vec()));
            Ok::<_, WalError>(())
        })
        .unwrap();
    (records, replayed)
}

#[test]
fn what_was_appended_is_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path(), Options::default()).unwrap().start(Position(0)).unwrap();
    let mut expected = Vec::new();
    for i in 0..100u32 {
        let payload = vec![i as u8; i as usize];
        expected.push((wal.append(&payload).unwrap(), payload));
    }
    wal.wait(expected[99].0).unwrap();
    assert_eq!(wal.synced(), wal.next());
    drop(wal);
    let mut recovery = Wal::open(dir.path(), Options::default()).unwrap();
    assert_eq!(collect(&mut recovery, Position(0)).0, expected);
    assert_eq!(collect(&mut recovery, expected[50].0).0, expected[50..]);
}
