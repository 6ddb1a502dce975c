//! Where the bytes of a data file come from: a file, a pipe, the standard input or memory, packed or
//! not. A format reads them one after the other, or at any place.
//!
//! Nothing is held in memory as a whole but the standard input.
use crate::error::{Error, Result};
use crate::hub;
use flate2::bufread::MultiGzDecoder;
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

/// The path that stands for the standard input.
pub const STDIN: &str = "-";

/// What a gzip file begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Unpacked bytes of a gzip file that are always taken, and how many for each packed byte beyond
/// them.
const UNPACKED: (u64, u64) = (64 << 20, 200);
/// Bytes that are read at once.
pub(super) const BUFFER: usize = 1 << 16;

/// What is said about the files of a data set that is no error: once for each kind.
pub type Notes = Rc<RefCell<Vec<String>>>;

/// A data file that is about to be read.
pub struct Source {
    path: Arc<Path>,
    bytes: Bytes,
    notes: Notes,
}

enum Bytes {
    File(File),
    Memory(Box<dyn BufRead>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({})", self.path.display())
    }
}

impl Source {
    /// Opens a file, one of the hub, or the standard input. Notes go to `notes`.
    pub fn open(path: &Path, notes: &Notes) -> Result<Source> {
        let failed = |source| Error::Read { path: path.into(), source };
        if path.as_os_str() == STDIN {
            let path = Path::new("stdin");
            let copy = |e: &io::Error| io::Error::new(e.kind(), e.to_string());
            let failed = |e| Error::Read { path: path.into(), source: copy(e) };
            let bytes = Bytes::Memory(Box::new(Cursor::new(stdin().as_ref().map_err(failed)?)));
            return Ok(Source { path: path.into(), bytes, notes: notes.clone() });
        }
        let file = File::open(hub::file(path)?).map_err(failed)?;
        if file.metadata().is_ok_and(|m| m.is_dir()) {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        Ok(Source { path: path.into(), bytes: Bytes::File(file), notes: notes.clone() })
    }

    /// Bytes in memory; `path` names them in errors.
    pub fn of_bytes(path: &Path, bytes: Vec<u8>, notes: &Notes) -> Source {
        let bytes = Bytes::Memory(Box::new(Cursor::new(bytes)));
        Source { path: path.into(), bytes, notes: notes.clone() }
    }

    /// The file.
    pub fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// What there is to say about the files of the data set.
    pub fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The bytes one after the other, unpacked, and whether they were packed.
    pub(super) fn reader(self) -> Result<(Box<dyn BufRead>, bool)> {
        let path = self.path;
        let mut reader: Box<dyn BufRead> = match self.bytes {
            Bytes::File(file) => Box::new(BufReader::with_capacity(BUFFER, file)),
            Bytes::Memory(bytes) => bytes,
        };
        let packed = starts_with(&mut reader, &GZIP);
        match packed.map_err(|source| Error::Read { path: path.to_path_buf(), source })? {
            true => Ok((Box::new(BufReader::with_capacity(BUFFER, Unpacked::new(reader))), true)),
            false if is_gz(&path) => {
                Err(Error::file(&path, "the name ends with .gz, and it is not a gzip file"))
            }
            false => Ok((reader, false)),
        }
    }

    /// The bytes in a file that can be read at any place: the file itself, or one without a name
    /// that goes with its last reader.
    pub(super) fn file(mut self) -> Result<File> {
        let path = self.path.clone();
        let failed = |source| Error::Read { path: path.to_path_buf(), source };
        if let Bytes::File(file) = &mut self.bytes
            && file.metadata().is_ok_and(|m| m.is_file())
            && !is_gz(&path)
        {
            let mut start = vec![];
            file.take(GZIP.len() as u64).read_to_end(&mut start).map_err(failed)?;
            file.rewind().map_err(failed)?;
            if start != GZIP {
                return file.try_clone().map_err(failed);
            }
        }
        let (mut reader, packed) = self.reader()?;
        let mut part = vec![0; BUFFER];
        let mut file = tempfile::tempfile().map_err(failed)?;
        loop {
            let n = reader.read(&mut part).map_err(|e| unreadable(&path, e, packed))?;
            if n == 0 {
                return file.rewind().map(|()| file).map_err(failed);
            }
            io::Write::write_all(&mut file, &part[..n]).map_err(failed)?;
        }
    }
}

/// Whether the name says that a file is packed.
pub(super) fn is_gz(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"))
}

/// Everything that comes from the standard input: it is read once, and looked at as often as
/// needed.
fn stdin() -> &'static io::Result<Vec<u8>> {
    static READ: OnceLock<io::Result<Vec<u8>>> = OnceLock::new();
    READ.get_or_init(|| {
        let mut bytes = vec![];
        io::stdin().lock().read_to_end(&mut bytes)?;
        bytes.shrink_to_fit();
        Ok(bytes)
    })
}

fn starts_with(reader: &mut impl BufRead, with: &[u8]) -> io::Result<bool> {
    Ok(reader.fill_buf()?.starts_with(with))
}

/// The first bytes of what a reader gives; fewer if there are no more.
pub(super) fn first(reader: &mut dyn BufRead, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![];
    reader.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(super) fn unreadable(path: &Path, error: io::Error, packed: bool) -> Error {
    match (packed, error.kind()) {
        (true, io::ErrorKind::UnexpectedEof) => Error::file(path, "the gzip file ends too early"),
        (true, io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData) => {
            Error::file(path, format!("cannot unpack: {error}"))
        }
        _ => Error::Read { path: path.into(), source: error },
    }
}

/// A reader that counts.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.count.set(self.count.get() + n as u64);
        Ok(n)
    }
}
impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }
    fn consume(&mut self, n: usize) {
        self.count.set(self.count.get() + n as u64);
        self.inner.consume(n);
    }
}

/// What a gzip file holds, unless that is out of all proportion to its size.
struct Unpacked<R> {
    inner: MultiGzDecoder<Counted<R>>,
    packed: Rc<Cell<u64>>,
    unpacked: u64,
}

impl<R: BufRead> Unpacked<R> {
    fn new(inner: R) -> Self {
        let packed = Rc::new(Cell::new(0));
        let inner = MultiGzDecoder::new(Counted { inner, count: packed.clone() });
        Self { inner, packed, unpacked: 0 }
    }
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.unpacked += n as u64;
        let (free, times) = UNPACKED;
        if self.unpacked > free + times * self.packed.get() {
            let why = format!("more than {times} times as large as the file; unpack it first if it is right");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        Ok(n)
    }
}
