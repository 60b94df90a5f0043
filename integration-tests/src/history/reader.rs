//! The files of all processes, read as one history.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use zerocopy::{FromZeros, IntoBytes};

use super::event::Event;
use super::record::{RECORD_LEN, Record};

/// How many records of a file are looked at ahead: threads take the time before they write, so
/// a file is only nearly in order.
const AHEAD: usize = 256;

/// A file that ends within a record: its process died in the write, or the disk was full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub path: PathBuf,
    /// How many bytes of the torn record there are.
    pub bytes: usize,
}

/// Merges history files by (time, process, number), in bounded memory.
#[derive(Debug)]
pub struct Merge {
    files: Vec<Source>,
    heap: BinaryHeap<Reverse<Next>>,
    torn: Vec<Torn>,
    last: (u64, u32, u64),
    disordered: u64,
    failed: Option<io::Error>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    file: BufReader<File>,
}

impl Merge {
    /// Opens the files of a run.
    ///
    /// # Errors
    /// What the file system says; `InvalidData` for a file of another format.
    pub fn open<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> io::Result<Self> {
        let mut merge = Self {
            files: Vec::new(),
            heap: BinaryHeap::new(),
            torn: Vec::new(),
            last: (0, 0, 0),
            disordered: 0,
            failed: None,
        };
        for path in paths {
            let path = path.as_ref().to_path_buf();
            let file = BufReader::with_capacity(RECORD_LEN * 1024, File::open(&path)?);
            merge.files.push(Source { path, file });
            for _ in 0..AHEAD {
                merge.load(merge.files.len() - 1)?;
            }
        }
        Ok(merge)
    }

    /// The files that ended within a record, as far as read.
    pub fn torn(&self) -> &[Torn] {
        &self.torn
    }

    /// How many records came out of order all the same: more than a few say that a writer took its
    /// times elsewhere than where things happened.
    pub fn disordered(&self) -> u64 {
        self.disordered
    }

    fn load(&mut self, index: usize) -> io::Result<()> {
        let Some(source) = self.files.get_mut(index) else { return Ok(()) };
        let mut record = Record::new_zeroed();
        let bytes = fill(&mut source.file, record.as_mut_bytes())?;
        if bytes == RECORD_LEN {
            let event = Event::try_from(&record).map_err(|invalid| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {invalid}", source.path.display()))
            })?;
            self.heap.push(Reverse(Next { event, file: index }));
        } else if bytes > 0 {
            self.torn.push(Torn { path: source.path.clone(), bytes });
        }
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = io::Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.heap.clear();
            return Some(Err(error));
        }
        let Reverse(Next { event, file }) = self.heap.pop()?;
        self.failed = self.load(file).err();
        let key = (event.time, event.process, event.number);
        if key < self.last {
            self.disordered += 1;
        } else {
            self.last = key;
        }
        Some(Ok(event))
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[derive(Debug)]
struct Next {
    event: Event,
    file: usize,
}

impl Next {
    fn key(&self) -> (u64, u32, u64) {
        (self.event.time, self.event.process, self.event.number)
    }
}

impl PartialEq for Next {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Next {}

impl PartialOrd for Next {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Next {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}
