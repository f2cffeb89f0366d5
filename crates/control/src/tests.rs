use parking_lot::Mutex;

pub(crate) struct CrashPoints {
    pub(crate) copies: Mutex<Vec<(String, tempfile::TempDir)>>,
    pub(crate) path: std::path::PathBuf,
}

impl CrashPoints {
    pub(crate) fn reached(&self, name: &str) {
        let copy = tempfile::tempdir().unwrap();
        std::fs::copy(&self.path, copy.path().join("control.redb")).unwrap();
        self.copies.lock().push((name.to_owned(), copy));
    }
}
