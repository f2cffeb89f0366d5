//! Pages of series and their labels.
//!
//! Strategy: the first byte chooses between bytes read as the content of a page, bytes read in
//! their envelope, and a page built from the bytes.
//! Invariants: never a panic; a page that reads can be loaded into an index, which then has the
//! same labels; a page that was built reads back as it was.

use pilothouse_index::{Index, Page, PageWriter};
use pilothouse_model::Labels;

use crate::choices::Choices;

pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    match choices.byte() % 4 {
        0 => read_any(choices.rest()),
        // An envelope of its own says that the content follows as it is.
        1 | 2 => read_any(&[&[0], choices.rest()].concat()),
        _ => build(choices),
    }
}

fn read_any(bytes: &[u8]) {
    let Ok(page) = Page::decode(bytes) else { return };
    let mut index = Index::new();
    assert_eq!(index.insert_page(&page), page.rows().len());
    for row in page.rows() {
        let labels = page.labels(row);
        assert_eq!(index.labels(row.id).as_ref(), Some(&labels));
        assert!(index.get(&labels).is_some());
        assert_eq!(page.find(row.id).map(|found| found.id), Some(row.id));
    }
    for row in page.rows() {
        assert!(index.remove(row.id));
    }
    assert_eq!((index.len(), index.pair_count()), (0, 0));
}

fn build(mut choices: Choices<'_>) {
    let (mut writer, mut put, mut id) = (PageWriter::new(), Vec::new(), 0u32);
    while !choices.is_empty() && put.len() < 200 {
        id = id.saturating_add(1 + choices.below(300) as u32);
        let tag = u64::from_le_bytes(choices.array());
        let count = choices.below(6);
        let labels = Labels::from_pairs((0..count).map(|_| {
            let value = choices.below(40);
            (format!("name{}", choices.below(9)), "value".repeat(value % 4) + &value.to_string())
        }));
        writer.push(id, tag, &labels).expect("ids ascend");
        put.push((id, tag, labels));
    }
    let page = Page::decode(&writer.finish()).expect("a page that was built reads");
    let read: Vec<_> = page.rows().iter().map(|row| (row.id, row.tag, page.labels(row))).collect();
    assert_eq!(read, put);
}
