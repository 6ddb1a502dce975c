//! The frozen prefix: everything below the first trained module is a function of the text, so it is
//! computed once.
//!
//! A cache is a directory with one subdirectory for each setting that the activations depend on
//! (backbone, configuration, storage, layer, tokenizer, truncation, instruction set, precision),
//! named by the hash of that setting. In it are
//!
//! ```text
//! key.json            the setting, for people
//! rows                (rows, channels), f32 or bf16, little-endian: the residual stream, text after text
//! index.safetensors   texts (n, 4): SHA-256 of the token ids and types;  sums (n): the first 8 bytes of the SHA-256 of a
//!                     text's rows;  starts (n + 1): where they lie
//! lock                held while a run uses it
//! ```
//! Rows are appended as texts are met, and count once the index says so, which is written after
//! them, whole or not at all. A later batch whose texts are all there reads them from the mapped
//! file. What a row is does not depend on the rest of its batch, so a run with an f32 cache gives
//! the bits of a run without one.
use crate::text::companions::{TOKENIZER, VOCABULARIES};
use crate::{Error, Result};
use engraft_engine::{
    Act, Buffer, Checkpoint, Class, Cx, Device, Frozen, Pass, Plain, Rows, Tensor, Weight,
    checkpoint::{self, TensorData},
    kernels::{DType, MappedFile},
    output, pack,
};
use engraft_models::{Model, Tokens};
use half::bf16;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

choices! {
    /// How cached activations are stored.
    pub enum Precision {
        /// As they are: the same results, bit for bit
        F32 = "f32",
        /// Rounded to 8 bits of mantissa: half the bytes
        Bf16 = "bf16",
    }
}

/// What is kept of the last hidden states where no layer is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keeps {
    /// All rows.
    All,
    /// The same row of every text.
    Summary(Rows),
}

/// A text: the hash of its tokens.
type Text = [u8; 32];

/// Activations below the first trained layer.
pub struct Prefix {
    from: usize,
    keeps: Keeps,
    device: Device,
    store: Mutex<Store>,
}

struct Store {
    directory: PathBuf,
    channels: usize,
    precision: Precision,
    _lock: File,
    /// Where the rows of a text lie: (first, number). Those from `sealed` on are not in the index
    /// yet.
    texts: HashMap<Text, (usize, usize)>,
    /// In the order of their rows, with the sums.
    order: Vec<(Text, i64)>,
    /// Texts of a former run whose rows have not been read yet, with the sums.
    unread: HashMap<Text, i64>,
    sealed: usize,
    rows: usize,
    file: BufWriter<File>,
    table: Option<Frozen>,
}

impl Prefix {
    /// A cache in `directory` of the residual stream in front of a layer, of so many channels; if
    /// the layer is beyond the last, of those last hidden states that it `keeps`. `setting` says
    /// what the rows depend on besides.
    pub fn open(
        directory: &Path,
        setting: &[(&str, String)],
        precision: Precision,
        (from, channels): (usize, usize),
        keeps: Keeps,
        device: &Device,
    ) -> Result<Prefix> {
        let mut key: serde_json::Map<_, _> =
            setting.iter().map(|(k, v)| (k.to_string(), v.as_str().into())).collect();
        key.insert("layers".into(), from.into());
        key.insert("channels".into(), channels.into());
        key.insert("precision".into(), format!("{precision:?}").into());
        key.insert("keeps".into(), format!("{keeps:?}").into());
        key.insert("version".into(), 2.into());
        let key = serde_json::Value::from(key).to_string();
        let directory = directory.join(&sha256(key.as_bytes())[..32]);
        output::write_directory(&directory, &[("key.json", &key)])?;
        let store = Store::open(directory, channels, precision, device)?;
        Ok(Prefix { from, keeps, device: device.clone(), store: Mutex::new(store) })
    }
    /// The first layer that is not cached.
    pub fn from(&self) -> usize {
        self.from
    }
    /// The residual stream of these texts in front of that layer, from the cache; it is computed,
    /// and added, if a text is new.
    pub fn stream(&self, model: &dyn Model, tokens: &Tokens) -> Result<Act> {
        let mut store = self.lock();
        let texts = texts(tokens);
        if let Some(x) = store.read(&self.device, &texts)? {
            return Ok(x);
        }
        let rows = match &self.keeps {
            Keeps::All => &Rows::All,
            Keeps::Summary(rows) => rows,
        };
        let mut cx = Cx::new(&self.device, &Plain, Pass::infer());
        let x = model.embed(&mut cx, tokens)?;
        let x = model.run(&mut cx, 0..self.from, x, rows)?;
        let values = x.read()?;
        for (text, s) in texts.into_iter().zip(x.seqs().iter()) {
            store.add(text, &values[s.start * x.cols()..][..s.len * x.cols()])?;
        }
        Ok(x)
    }
    /// These rows of last hidden states that were cached behind the last layer, (rows, channels).
    pub(super) fn last<'m>(&self, cx: &mut Cx<'m>, x: Act, rows: &Rows) -> Result<Act> {
        match &self.keeps {
            Keeps::Summary(kept) if kept == rows => Ok(x),
            Keeps::Summary(_) => Err(Error::Model("the cache keeps other rows than are read".into())),
            Keeps::All => Ok(cx.take_rows(&x, rows)?),
        }
    }
    /// What was added counts from now on, in this run and in later ones.
    pub fn seal(&self) -> Result<()> {
        self.lock().seal(&self.device)
    }
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// A hash in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
fn texts(t: &Tokens) -> Vec<Text> {
    let mut at = 0;
    let text = |n: &usize| {
        let mut h = Sha256::new();
        for values in [&t.ids, &t.types] {
            values[at..at + n].iter().for_each(|v| h.update(v.to_le_bytes()));
        }
        at += n;
        h.finalize().into()
    };
    t.lengths.iter().map(text).collect()
}
fn sum(bytes: &[u8]) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&Sha256::digest(bytes)[..8]);
    i64::from_le_bytes(first)
}

fn unwritten(directory: &Path, source: std::io::Error) -> Error {
    engraft_engine::Error::Write { path: directory.join("rows"), source }.into()
}

impl Store {
    fn open(directory: PathBuf, channels: usize, precision: Precision, device: &Device) -> Result<Store> {
        let at = directory.join("lock");
        let lock = File::create(&at).map_err(|source| Error::Read { path: at.clone(), source })?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::file(&at, "another run uses this cache")),
            Err(TryLockError::Error(source)) => return Err(Error::Read { path: at, source }),
        }
        let path = directory.join("rows");
        let failed = |source| Error::Read { path: path.clone(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        let mut s = Store {
            directory,
            channels,
            precision,
            _lock: lock,
            texts: HashMap::new(),
            order: vec![],
            unread: HashMap::new(),
            sealed: 0,
            rows: 0,
            file: BufWriter::with_capacity(1 << 20, file),
            table: None,
        };
        s.read_index()?;
        // what a run that ended early left behind the last row that counts
        let end = s.rows.checked_mul(s.row_bytes());
        let end = end
            .ok_or_else(|| Error::file(&s.index(), "more rows than there can be: delete the cache"))?
            as u64;
        let len = s.file.get_ref().metadata().map_err(failed)?.len();
        if len < end {
            return Err(Error::file(
                &path,
                format!("{len} bytes, and the index needs {end}: delete the cache"),
            ));
        }
        s.file.get_ref().set_len(end).map_err(failed)?;
        s.file.seek(SeekFrom::Start(end)).map_err(failed)?;
        s.map(device)?;
        Ok(s)
    }
    fn row_bytes(&self) -> usize {
        self.channels * self.dtype().size()
    }
    fn dtype(&self) -> DType {
        match self.precision {
            Precision::F32 => DType::F32,
            Precision::Bf16 => DType::Bf16,
        }
    }
    fn index(&self) -> PathBuf {
        self.directory.join("index.safetensors")
    }
    fn read_index(&mut self) -> Result<()> {
        let path = self.index();
        if !path.exists() {
            return Ok(());
        }
        let c = Checkpoint::open(&path)?;
        let bad = |why: &str| Error::file(&path, format!("{why}: delete the cache"));
        let n = match c.shape("texts") {
            Some([n, 4]) => *n,
            _ => return Err(bad("not the index of a cache")),
        };
        let (texts, sums) = (c.integers("texts", &[n, 4])?, c.integers("sums", &[n])?);
        let starts = c.integers("starts", &[n + 1])?;
        for (i, (text, sum)) in texts.chunks(4).zip(sums).enumerate() {
            let mut key = [0; 32];
            key.chunks_mut(8).zip(text).for_each(|(k, t)| k.copy_from_slice(&t.to_le_bytes()));
            let rows = starts[i + 1].checked_sub(starts[i]).filter(|_| starts[i] == self.rows as i64);
            let rows = rows.and_then(|r| usize::try_from(r).ok()).ok_or_else(|| bad("rows out of order"))?;
            self.texts.insert(key, (self.rows, rows));
            self.order.push((key, sum));
            self.unread.insert(key, sum);
            self.rows += rows;
        }
        self.sealed = self.rows;
        Ok(())
    }
    fn map(&mut self, device: &Device) -> Result<()> {
        self.table = None;
        if self.sealed > 0 {
            let file = MappedFile::open(&self.directory.join("rows")).map_err(engraft_engine::Error::from)?;
            let (dtype, len) = (self.dtype(), self.sealed * self.channels);
            let rows: Buffer =
                device.map(Class::Backbone, &file, 0, dtype, len).map_err(engraft_engine::Error::from)?;
            self.table = Some(Frozen::new(Tensor::new(rows, &[self.sealed, self.channels])?));
        }
        Ok(())
    }
    /// The rows of these texts, if all of them are there.
    fn read(&mut self, device: &Device, texts: &[Text]) -> Result<Option<Act>> {
        let place = |t: &Text| self.texts.get(t).copied().filter(|(start, n)| start + n <= self.sealed);
        let Some(places) = texts.iter().map(place).collect::<Option<Vec<_>>>() else { return Ok(None) };
        let Some(table) = &self.table else { return Ok(None) };
        let index: Vec<u32> =
            places.iter().flat_map(|(start, n)| *start..start + n).map(|r| r as u32).collect();
        let seqs = pack(places.iter().map(|(_, n)| *n));
        let x = {
            let mut cx = Cx::new(device, &Plain, Pass::infer());
            cx.embed(&[(table.get(), &index)], seqs)?
        };
        if texts.iter().any(|t| self.unread.contains_key(t)) {
            self.check(&x, texts)?;
        }
        Ok(Some(x))
    }
    /// Compares rows of a former run with their sums, once.
    fn check(&mut self, x: &Act, texts: &[Text]) -> Result<()> {
        let values = x.read()?;
        for (text, s) in texts.iter().zip(x.seqs().iter()) {
            let Some(kept) = self.unread.get(text).copied() else { continue };
            let bytes = self.encode(&values[s.start * x.cols()..][..s.len * x.cols()]);
            if kept != sum(&bytes) {
                let why = format!("rows {} are damaged: delete the cache", self.texts[text].0);
                return Err(Error::file(&self.directory.join("rows"), why));
            }
            self.unread.remove(text);
        }
        Ok(())
    }
    fn encode(&self, values: &[f32]) -> Vec<u8> {
        match self.precision {
            Precision::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Precision::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        }
    }
    fn add(&mut self, text: Text, values: &[f32]) -> Result<()> {
        if self.texts.contains_key(&text) {
            return Ok(());
        }
        let bytes = self.encode(values);
        self.file.write_all(&bytes).map_err(|e| unwritten(&self.directory, e))?;
        let rows = values.len() / self.channels;
        self.texts.insert(text, (self.rows, rows));
        self.order.push((text, sum(&bytes)));
        self.rows += rows;
        Ok(())
    }
    fn seal(&mut self, device: &Device) -> Result<()> {
        if self.sealed == self.rows {
            return Ok(());
        }
        let written = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        written.map_err(|e| unwritten(&self.directory, e))?;
        let n = self.order.len();
        let word = |w: &[u8]| i64::from_le_bytes([w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]]);
        let texts: Vec<i64> = self.order.iter().flat_map(|(t, _)| t.chunks(8).map(word)).collect();
        let sums: Vec<i64> = self.order.iter().map(|(_, s)| *s).collect();
        let starts = self.order.iter().map(|(t, _)| self.texts[t].0 as i64).chain([self.rows as i64]);
        let tensors = [
            ("texts".to_string(), TensorData::i64(&texts, &[n, 4])),
            ("sums".to_string(), TensorData::i64(&sums, &[n])),
            ("starts".to_string(), TensorData::i64(&starts.collect::<Vec<_>>(), &[n + 1])),
        ];
        checkpoint::save(&self.index(), &tensors)?;
        self.sealed = self.rows;
        self.map(device)
    }
}

/// The hash of a model's file; `none` if there is no such file.
pub(super) fn hash_of(directory: &Path, name: &str) -> Result<String> {
    let path = directory.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(sha256(&bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok("none".into()),
        Err(source) => Err(Error::Read { path, source }),
    }
}
/// The hashes of the files that hold a tokenizer's vocabulary.
pub(super) fn hashes_of_tokenizer(directory: &Path) -> Result<Vec<(&'static str, String)>> {
    let mut all = vec![(TOKENIZER, hash_of(directory, TOKENIZER)?)];
    if !directory.join(TOKENIZER).exists() {
        for name in VOCABULARIES {
            all.push((name, hash_of(directory, name)?));
        }
    }
    Ok(all)
}
