//! Memory on a device, and the element types it can hold.
use crate::{Class, Cost, Device, Error, MappedFile, Result, cuda::CudaMem, device::HostBlock};
use half::{bf16, f16};
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

/// Under which profiles list copies; no kernel has this name.
const NAME: &str = "buffer";

/// What a buffer's elements are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision: all computation.
    F32,
    /// Brain float, storage only.
    Bf16,
    /// IEEE half precision, storage only.
    F16,
    /// Indices: token ids, labels, rows.
    U32,
    /// Eight-bit integers, storage only: they stand for multiples of a scale.
    I8,
    /// Bytes, storage only: codes of quantised scales.
    U8,
    /// Pairs of four-bit codes, storage only: see [`crate::storage::nf4`].
    Nf4,
}
impl DType {
    /// Bytes of one element; of a pair for nf4.
    pub fn size(self) -> usize {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::Bf16 | DType::F16 => 2,
            DType::I8 | DType::U8 | DType::Nf4 => 1,
        }
    }
    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::F16 => "f16",
            DType::U32 => "u32",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::Nf4 => "nf4",
        }
    }
}
impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

mod sealed {
    pub trait Sealed {}
}
/// A Rust type that buffers hold. Every bit pattern of it is a value.
pub trait Element: sealed::Sealed + bytemuck::Pod + Default + Send + Sync {
    /// Its tag.
    const DTYPE: DType;
}
macro_rules! elements { ($($t:ty => $d:ident),*) => { $(
    impl sealed::Sealed for $t {}
    impl Element for $t { const DTYPE: DType = DType::$d; }
)* } }
elements!(f32 => F32, bf16 => Bf16, f16 => F16, u32 => U32, i8 => I8, u8 => U8, Nf4Pair => Nf4);

/// Two codes of nf4: of the value at the even place in the low four bits, of the one after it
/// in the high ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Nf4Pair(pub u8);

#[derive(Debug)]
pub(crate) enum Mem {
    Host(HostBlock),
    Mapped(Arc<MappedFile>, usize),
    Cuda(CudaMem),
    Null,
}

/// `len` elements on a device, counted in its ledger until dropped.
#[derive(Debug)]
pub struct Buffer {
    device: Device,
    mem: Mem,
    dtype: DType,
    len: usize,
    class: AtomicU8,
}

impl Buffer {
    pub(crate) fn new(device: Device, mem: Mem, dtype: DType, len: usize, class: Class) -> Buffer {
        device.ledger().grow(class, len * dtype.size());
        #[allow(unused_mut)]
        let mut b = Buffer { device, mem, dtype, len, class: AtomicU8::new(class as u8) };
        #[cfg(debug_assertions)]
        if let Mem::Host(m) = &mut b.mem {
            m.bytes_mut().fill(0xff); // NaN: reading what was never written shows
        }
        b
    }
    /// The device it lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }
    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }
    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// What the elements are.
    pub fn dtype(&self) -> DType {
        self.dtype
    }
    /// Bytes, as the ledger counts them.
    pub fn bytes(&self) -> usize {
        self.len * self.dtype.size()
    }
    /// What it is held for.
    pub fn class(&self) -> Class {
        Class::from_u8(self.class.load(Ordering::Relaxed))
    }
    /// It is held for something else from now on.
    pub fn set_class(&self, class: Class) {
        let old = Class::from_u8(self.class.swap(class as u8, Ordering::Relaxed));
        self.device.ledger().shrink(old, self.bytes());
        self.device.ledger().grow(class, self.bytes());
    }
    /// True if the elements are read from a mapped file.
    pub fn is_mapped(&self) -> bool {
        matches!(self.mem, Mem::Mapped(..))
    }

    /// A copy of the elements. The Null device gives zeros.
    pub fn read<T: Element>(&self) -> Result<Vec<T>> {
        self.expect_dtype::<T>("read")?;
        let _span = self.device.span(NAME, "read", || Cost::copy(self.bytes()));
        match &self.mem {
            Mem::Cuda(m) => {
                let mut v = vec![T::default(); self.len];
                if let Device::Cuda(d) = &self.device {
                    m.read(d, bytemuck::cast_slice_mut(&mut v))?;
                }
                Ok(v)
            }
            Mem::Null => Ok(vec![T::default(); self.len]),
            Mem::Host(_) | Mem::Mapped(..) => Ok(self.host::<T>()?.to_vec()),
        }
    }
    /// Replaces the elements.
    pub fn write<T: Element>(&mut self, values: &[T]) -> Result<()> {
        self.expect_dtype::<T>("write")?;
        if values.len() != self.len {
            return Err(Error::Length {
                kernel: "write",
                argument: "values",
                expected: self.len,
                got: values.len(),
            });
        }
        let _span = self.device.span(NAME, "write", || Cost::copy(self.bytes()));
        self.write_bytes(bytemuck::cast_slice(values))
    }
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        match &mut self.mem {
            Mem::Host(m) => m.bytes_mut()[..bytes.len()].copy_from_slice(bytes),
            Mem::Cuda(m) => m.write(bytes)?,
            Mem::Null => {}
            Mem::Mapped(..) => {
                return Err(read_only("write"));
            }
        }
        Ok(())
    }
    /// Sets every byte to zero.
    pub fn clear(&mut self) -> Result<()> {
        let bytes = self.bytes();
        let _span = self.device.span(NAME, "clear", || Cost::new(0, bytes));
        match &mut self.mem {
            Mem::Host(m) => m.bytes_mut()[..bytes].fill(0),
            Mem::Cuda(m) => m.clear()?,
            Mem::Null => {}
            Mem::Mapped(..) => {
                return Err(read_only("clear"));
            }
        }
        Ok(())
    }
    /// The same elements, from the host, on another device.
    pub(crate) fn moved(self, device: &Device) -> Result<Buffer> {
        let mut b = device.raw(self.class(), self.dtype, self.len)?;
        b.write_bytes(self.host_bytes()?)?;
        Ok(b)
    }
    /// A new buffer with the same elements, held for `class`.
    pub fn duplicate(&self, class: Class) -> Result<Buffer> {
        let mut b = self.device.raw(class, self.dtype, self.len)?;
        let _span = self.device.span(NAME, "duplicate", || Cost::copy(self.bytes()));
        match (&self.mem, &mut b.mem) {
            (Mem::Cuda(from), Mem::Cuda(to)) => to.copy(from)?,
            (Mem::Null, _) => {}
            _ => b.write_bytes(self.host_bytes()?)?,
        }
        Ok(b)
    }

    // ---- for kernels ----------------------------------------------------------------------------

    fn host_bytes(&self) -> Result<&[u8]> {
        match &self.mem {
            Mem::Host(m) => Ok(&m.bytes()[..self.bytes()]),
            Mem::Mapped(m, at) => Ok(&m.bytes()[*at..*at + self.bytes()]),
            _ => Err(Error::not_on("the host", self.device.name())),
        }
    }
    /// The elements, in host memory.
    pub(crate) fn host<T: Element>(&self) -> Result<&[T]> {
        self.expect_dtype::<T>("host access")?;
        // blocks are aligned for every element, and mappings are looked at when they are made
        Ok(bytemuck::cast_slice(self.host_bytes()?))
    }
    /// The elements, in host memory that is ours to change.
    pub(crate) fn host_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        self.expect_dtype::<T>("host access")?;
        let bytes = self.bytes();
        match &mut self.mem {
            Mem::Host(m) => Ok(bytemuck::cast_slice_mut(&mut m.bytes_mut()[..bytes])),
            _ => Err(Error::not_on("the host", self.device.name())),
        }
    }
    /// Where the elements begin, in host memory that is ours to change.
    pub(crate) fn host_start<T: Element>(&mut self) -> Option<std::ptr::NonNull<T>> {
        std::ptr::NonNull::new(self.host_mut::<T>().ok()?.as_mut_ptr())
    }
    pub(crate) fn cuda(&self) -> Result<&CudaMem> {
        match &self.mem {
            Mem::Cuda(m) => Ok(m),
            _ => Err(Error::not_on("a GPU", self.device.name())),
        }
    }
    pub(crate) fn cuda_mut(&mut self) -> Result<&mut CudaMem> {
        match &mut self.mem {
            Mem::Cuda(m) => Ok(m),
            _ => Err(Error::not_on("a GPU", self.device.name())),
        }
    }
    fn expect_dtype<T: Element>(&self, kernel: &'static str) -> Result<()> {
        if T::DTYPE == self.dtype {
            return Ok(());
        }
        Err(Error::DType { kernel, argument: "buffer", expected: T::DTYPE.name(), got: self.dtype })
    }
}
impl Drop for Buffer {
    fn drop(&mut self) {
        self.device.ledger().shrink(self.class(), self.bytes());
        if let (Mem::Host(block), Device::Cpu(d)) =
            (std::mem::replace(&mut self.mem, Mem::Null), &self.device)
        {
            d.blocks.give(block);
        }
    }
}
fn read_only(kernel: &'static str) -> Error {
    Error::Invalid { kernel, what: "the elements are those of a mapped file, which is never changed".into() }
}
